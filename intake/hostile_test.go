package intake_test

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/devstack/devnats"
)

// honest are reports of the usual sizes.
func honest() []string {
	var all []string
	for _, size := range []int{2_000, 400_000, 3_000_000} {
		all = append(all, field("ProductName", "Firefox")+dump(crash.MinidumpName, noise(size))+end)
	}
	return all
}

// checkRoom fails the test if a budget is exceeded.
func checkRoom(t *testing.T, i *tier) {
	t.Helper()
	_, page := get(t, "http://"+i.admin+"/metrics")
	for _, name := range []string{"intake_memory_bytes", "intake_spool_bytes"} {
		if used, limit := metric(t, page, name), metric(t, page, name+"_limit"); used > limit {
			t.Errorf("%s is %.0f, the limit %.0f", name, used, limit)
		}
	}
}

// Clients that announce large reports and send nothing of them cost nobody theirs.
func TestAnnouncementsRefuseNobody(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	i := startIntake(t, q.url, "INTAKE_MEMORY_BUDGET=4MiB", "INTAKE_SPOOL_BUDGET=60MiB", "INTAKE_SPOOL_DIR="+t.TempDir())
	for n := range 200 {
		c := i.dial(t)
		if n%2 == 0 {
			c.send(request(25 << 20))
		} else {
			c.send(request(-1, "Transfer-Encoding: chunked"))
		}
	}
	for range 5 {
		for _, body := range honest() {
			crashID(t, i.post(t, body))
			checkRoom(t, i)
		}
	}
}

// Clients that send most of a large report, and then little or nothing, give their room
// to others and are told so at once.
func TestRoomOfStalledClientsIsReclaimed(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	i := startIntake(t, q.url, "INTAKE_MEMORY_BUDGET=4MiB", "INTAKE_SPOOL_BUDGET=28MiB", "INTAKE_SPOOL_DIR="+t.TempDir())
	stalled := make([]*conn, 12) // of which each wants an eighth of the room
	body := field("ProductName", "Firefox") + dump(crash.MinidumpName, noise(4<<20)) + end
	var clients sync.WaitGroup
	for n := range stalled {
		stalled[n] = i.dial(t)
		clients.Go(func() { // some are told to go before they have sent so much
			_, _ = fmt.Fprint(stalled[n], request(len(body))+body[:3<<20])
		})
	}
	clients.Wait()
	for range 4 {
		for _, body := range honest() {
			crashID(t, i.post(t, body))
			checkRoom(t, i)
		}
	}
	_, page := get(t, "http://"+i.admin+"/metrics")
	told := int(metric(t, page, "intake_bodies_reclaimed_total"))
	if told == 0 {
		t.Fatal("no room was reclaimed")
	}
	answered := make(chan answer, len(stalled))
	for _, c := range stalled {
		go func() {
			if line, err := c.r.Peek(12); err == nil && bytes.HasPrefix(line, []byte("HTTP/1.1 503")) {
				answered <- c.answer()
			}
		}()
	}
	for range told {
		if a := <-answered; a.body != "Discarded=unavailable" || a.head.Get("Retry-After") == "" || !a.closed {
			t.Errorf("answered %d %q %v, closed %t", a.status, a.body, a.head, a.closed)
		}
	}
}

// rleBomb is a zstd body of one frame with a window of 8 MiB: some bytes as they are,
// and so many blocks of 128 KiB of zeros (RFC 8878 §3.1.1.2).
func rleBomb(before string, blocks int) string {
	var b bytes.Buffer
	block := func(kind, n int, data string) {
		word := n<<3 | kind<<1
		b.Write([]byte{byte(word), byte(word >> 8), byte(word >> 16)})
		b.WriteString(data)
	}
	b.WriteString("\x28\xb5\x2f\xfd\x00\x68")
	block(0, len(before), before)
	for range blocks {
		block(1, 1<<17, "\x00")
	}
	tail := "\r\n" + end
	block(0, len(tail), tail)
	b.Write([]byte{1, 0, 0})
	return b.String()
}

// A compressed report that waits for the queue keeps no decoder.
func TestWaitingReportsKeepNoDecoder(t *testing.T) {
	q := startQueue(t)
	proxy, proxyURL := proxied(t, q.url)
	i := startIntake(t, proxyURL, "INTAKE_MEMORY_BUDGET=16MiB", "INTAKE_SPOOL_BUDGET=0", "INTAKE_MAX_BODY=8MiB", "INTAKE_MAX_INFLATE_RATIO=10000")
	crashID(t, i.post(t, report()))
	head := strings.TrimSuffix(field("ProductName", "Firefox")+dump(crash.MinidumpName, ""), "\r\n")
	bomb := rleBomb(head, 2)
	before := heapInUse()
	undo := cutAcks(t, proxy)
	defer undo()
	const n = 60
	for range n {
		c := i.dial(t)
		c.send(request(len(bomb), "Content-Encoding: zstd") + bomb)
	}
	for deadline := time.Now().Add(30 * time.Second); ; {
		_, page := get(t, "http://"+i.admin+"/metrics")
		if metric(t, page, "intake_publish_inflight_bytes") >= n<<18 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the reports are not on their way after 30 s")
		}
	}
	grown := heapInUse() - before
	t.Logf("%d reports of %d bytes that wait take %d MiB", n, len(bomb), grown>>20)
	if grown > n<<20+100<<20 { // a message and its copy each, and what is bounded
		t.Errorf("%d reports that wait take %d MiB", n, grown>>20)
	}
}

func heapInUse() int64 {
	runtime.GC()
	runtime.GC() // what was in pools goes with the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse)
}

// Large reports progress together: a less large one does not wait for the end of those
// before it.
func TestLargeReportsProgressTogether(t *testing.T) {
	t.Parallel()
	server, err := devnats.Start(t.Context(), devnats.Config{Addr: "127.0.0.1:0", Dir: t.TempDir(), MaxPayload: 64 << 10, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	q := connectQueue(t, server.URL())
	q.apply(t)
	i := startIntake(t, server.URL(), "INTAKE_PUBLISH_TIMEOUT=60s")
	awaitHealthy(t, i) // the server's limit is known
	large := field("ProductName", "Firefox") + dump(crash.MinidumpName, noise(3_000_000)) + end
	fair := field("ProductName", "Firefox") + dump(crash.MinidumpName, noise(300_000)) + end
	const n = 16
	var done atomic.Int64
	var clients sync.WaitGroup
	for range n {
		c := i.dial(t)
		clients.Go(func() {
			if _, err := fmt.Fprint(c, request(len(large))+large); err != nil {
				t.Error(err)
				return
			}
			crashID(t, c.answer())
			done.Add(1)
		})
	}
	awaitBody(t, i, n*len(large))
	for range 3 {
		crashID(t, i.post(t, fair))
	}
	if before := done.Load(); before > n/2 {
		t.Errorf("%d of %d large reports went before the others", before, n)
	}
	clients.Wait()
}
