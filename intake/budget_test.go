package intake_test

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/yagi-crash/yagi/pkg/crash"
)

// While there is no room newcomers are answered before they send the rest of their body,
// and bodies in progress go on.
func TestNewcomersAreRefusedWithoutRoom(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	i := startIntake(t, q.url, "INTAKE_MEMORY_BUDGET=1MiB", "INTAKE_SPOOL_BUDGET=0", "INTAKE_MAX_BODY=1MiB")
	body := field("ProductName", "Firefox") + dump(crash.MinidumpName, noise(900_000)) + end
	first := i.dial(t)
	first.send(request(len(body)) + body[:500_000])
	awaitBody(t, i, 500_000)
	finish := first.sendSlowly(body[500_000:])

	for name, head := range map[string]string{
		"asking first": request(500_000, "Expect: 100-continue"),
		"just sending": request(500_000) + body[:1000],
	} {
		c := i.dial(t)
		c.send(head)
		start := time.Now()
		a := c.answer()
		if a.status != 503 || a.body != "Discarded=unavailable" || a.head.Get("Retry-After") == "" || !a.closed {
			t.Errorf("%s: answered %d %q %v, closed %t", name, a.status, a.body, a.head, a.closed)
		}
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("%s: it took %s, as if a body were waited for", name, took)
		}
	}

	finish()
	crashID(t, first.answer())
	crashID(t, i.post(t, body)) // there is room again
	if got := q.stored(t); len(got) != 2 || text(t, got[0].Dumps[0]) != noise(900_000) {
		t.Errorf("%d reports in the stream, want 2 with their dumps", len(got))
	}
	if _, page := get(t, "http://"+i.admin+"/metrics"); !strings.Contains(page, "\nintake_memory_bytes 0\n") {
		t.Error("memory is in use by nobody")
	}
}

// sendSlowly sends a text a little at a time, and what is left of it at the end.
func (c *conn) sendSlowly(text string) (finish func()) {
	quit, done := make(chan struct{}), make(chan error)
	go func() {
		every := time.NewTicker(100 * time.Millisecond)
		defer every.Stop()
		for {
			select {
			case <-quit:
				_, err := io.WriteString(c, text)
				done <- err
				return
			case <-every.C:
				_, _ = io.WriteString(c, text[:1000]) // the last write tells of an error
				text = text[1000:]
			}
		}
	}()
	return func() {
		close(quit)
		if err := <-done; err != nil {
			c.t.Error(err)
		}
	}
}

// awaitBody waits until so many bytes of bodies have come.
func awaitBody(t *testing.T, i *tier, want int) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		_, page := get(t, "http://"+i.admin+"/metrics")
		if metric(t, page, "intake_request_body_bytes_total") >= float64(want) {
			return
		}
	}
	t.Fatalf("%d bytes have not come after 20 s", want)
}

// metric is a value on the page of metrics.
func metric(t *testing.T, page, name string) float64 {
	t.Helper()
	for line := range strings.Lines(page) {
		if text, ok := strings.CutPrefix(line, name+" "); ok {
			value, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			if err != nil {
				t.Fatal(err)
			}
			return value
		}
	}
	t.Fatalf("no %s in /metrics", name)
	return 0
}

// While no newcomer finds room the heartbeat is red, and green again after the first
// who does.
func TestNoRoomIsARedHeartbeat(t *testing.T) {
	t.Parallel()
	i := startIntake(t, startQueue(t).url, "INTAKE_MEMORY_BUDGET=1MiB", "INTAKE_SPOOL_BUDGET=0", "INTAKE_MAX_BODY=1MiB")
	awaitHealthy(t, i)
	body := field("ProductName", "Firefox") + dump(crash.MinidumpName, noise(900_000)) + end
	first := i.dial(t)
	first.send(request(len(body)) + body[:500_000])
	awaitBody(t, i, 500_000)
	finish := first.sendSlowly(body[500_000:])
	for begun := time.Now(); ; {
		c := i.dial(t)
		c.send(request(500_000) + body[:1000])
		if a := c.answer(); a.status != 503 {
			t.Fatalf("answered %d %q", a.status, a.body)
		}
		status, page := get(t, "http://"+i.addr+"/__heartbeat__")
		if status == 503 && strings.Contains(page, "no report was let in for") {
			break
		}
		if time.Since(begun) > 20*time.Second {
			t.Fatalf("after %s the heartbeat is %d %s", time.Since(begun), status, page)
		}
		<-time.After(200 * time.Millisecond) // a client now and then
	}
	finish()
	crashID(t, first.answer())
	crashID(t, i.post(t, body))
	if status, page := get(t, "http://"+i.addr+"/__heartbeat__"); status != 200 {
		t.Errorf("heartbeat %d %s", status, page)
	}
}

// What does not fit the memory goes through the file, and comes out of it as it
// was, compressed or not, announced or chunked.
func TestReportsThroughTheFile(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	i := startIntake(t, q.url, "INTAKE_MEMORY_BUDGET=1MiB", "INTAKE_SPOOL_BUDGET=128MiB", "INTAKE_SPOOL_DIR="+t.TempDir())
	want := map[crash.ID]string{}
	var mu sync.Mutex
	var clients sync.WaitGroup
	for n := range 12 {
		data := noise(3_000_000 + n)
		body := field("ProductName", "Firefox") + dump(crash.MinidumpName, data) + end
		var raw string
		switch n % 3 {
		case 0:
			raw = request(len(body)) + body
		case 1:
			raw = request(-1, "Transfer-Encoding: chunked") + chunks(body, 65_524)
		case 2:
			zipped := gzipped(t, body)
			raw = request(len(zipped), "Content-Encoding: gzip") + zipped
		}
		c := i.dial(t)
		clients.Go(func() {
			if _, err := fmt.Fprint(c, raw); err != nil {
				t.Error(err)
				return
			}
			id := crashID(t, c.answer())
			mu.Lock()
			defer mu.Unlock()
			want[id] = data
		})
	}
	clients.Wait()
	stored := q.stored(t)
	if len(stored) != len(want) || len(want) != 12 {
		t.Errorf("%d reports in the stream, %d promised, want 12", len(stored), len(want))
	}
	for _, s := range stored {
		if text(t, s.Dumps[0]) != want[s.ID] {
			t.Errorf("the dump of %s differs", s.ID)
		}
	}
	_, page := get(t, "http://"+i.admin+"/metrics")
	for _, line := range []string{"\nintake_memory_bytes 0\n", "\nintake_spool_bytes 0\n"} {
		if !strings.Contains(page, line) {
			t.Errorf("no %q in /metrics", line)
		}
	}
}

// Without a folder for the file intake does with its memory.
func TestNoFolderForTheFile(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	i := startIntake(t, q.url, "INTAKE_MEMORY_BUDGET=4MiB", "INTAKE_SPOOL_DIR="+t.TempDir()+"/none")
	crashID(t, i.post(t, report()))
	if !strings.Contains(i.log.String(), "INTAKE_MEMORY_BUDGET alone") {
		t.Errorf("the log does not say so:\n%s", i.log)
	}
	if _, page := get(t, "http://"+i.admin+"/metrics"); !strings.Contains(page, "\nintake_spool_bytes_limit 0\n") {
		t.Error("/metrics has a limit for a file that is not there")
	}
}

// A report with a uuid that its client may not choose can be taken without it.
func TestForeignUUIDIsIgnored(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	i := startIntake(t, q.url, "INTAKE_FOREIGN_UUID=ignore", "INTAKE_SUBMITTER_TOKEN=s3cret")
	const chosen = "de1bb258-cbbf-4589-a673-34f801160918"
	id := crashID(t, i.post(t, field("uuid", chosen)+report()))
	if id == chosen {
		t.Error("the client chose its id")
	}
	got := q.one(t)
	raw := text(t, got.RawCrash)
	if got.ID != id || got.IDGiven || !strings.Contains(raw, `"uuid":"`+string(id)+`"`) || !strings.Contains(raw, "uuid of an unknown submitter") {
		t.Errorf("id %s, given %t, raw_crash %s", got.ID, got.IDGiven, raw)
	}
	if a := i.post(t, field("uuid", chosen)+report(), "Authorization: Bearer s3cret"); a.body != "CrashID=bp-"+chosen+"\n" {
		t.Errorf("the submitter is answered %q", a.body)
	}
}

// A spool file that cannot be written to costs those reports alone that find no
// memory, and is told.
func TestFullSpoolDisk(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	dir := t.TempDir()
	i := startIntake(t, q.url, "INTAKE_MEMORY_BUDGET=4MiB", "INTAKE_SPOOL_BUDGET=64MiB", "INTAKE_SPOOL_DIR="+dir)
	awaitHealthy(t, i)
	fill(t, dir)
	minidump := noise(3_000_000)
	crashID(t, i.post(t, field("ProductName", "Firefox")+dump(crash.MinidumpName, minidump)+end))
	if got := q.stored(t); len(got) != 1 || text(t, got[0].Dumps[0]) != minidump {
		t.Errorf("%d reports are in the stream, want 1 with its dump", len(got))
	}
	a := i.post(t, field("ProductName", "Firefox")+dump(crash.MinidumpName, noise(6_000_000))+end)
	if a.status != 503 || a.head.Get("Retry-After") == "" {
		t.Errorf("without memory: answered %d %q %v", a.status, a.body, a.head)
	}
	if status, body := get(t, "http://"+i.addr+"/__heartbeat__"); status != 503 || !strings.Contains(body, "writing to the spool file") {
		t.Errorf("heartbeat %d %s", status, body)
	}
	crashID(t, i.post(t, report()))
}

// fill makes the spool file in a folder one to which nothing can be written, as where
// its disk is full.
func fill(t *testing.T, dir string) {
	t.Helper()
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = full.Close() }()
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range open {
		name, _ := os.Readlink("/proc/self/fd/" + f.Name()) // some are closed by now
		if fd, err := strconv.Atoi(f.Name()); err == nil && strings.HasPrefix(name, dir) {
			if err := syscall.Dup3(int(full.Fd()), fd, syscall.O_CLOEXEC); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("no file of %s is open", dir)
}
