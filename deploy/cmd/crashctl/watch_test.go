package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/yagi-crash/yagi/deploy/internal/queuestatus"
	"github.com/yagi-crash/yagi/pkg/devstack/devnats"
)

// watching is crashctl status --watch at work.
type watching struct {
	t     *testing.T
	lines chan string
	end   context.CancelFunc
	code  chan int
}

func startWatch(t *testing.T, environ []string, args ...string) *watching {
	t.Helper()
	ctx, end := context.WithCancel(t.Context())
	t.Cleanup(end)
	w := &watching{t, make(chan string, 10_000), end, make(chan int, 1)}
	read, write := io.Pipe()
	go func() { // ends with ctx
		var stderr bytes.Buffer
		code := run(ctx, append([]string{"status", "--watch", "--every=100ms"}, args...), environ, write, &stderr)
		if stderr.Len() > 0 {
			t.Errorf("stderr %q", stderr.String())
		}
		_ = write.Close() // a pipe's never fails
		w.code <- code
	}()
	go func() { // ends with the pipe
		defer close(w.lines)
		lines := bufio.NewScanner(read)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			w.lines <- lines.Text()
		}
	}()
	return w
}

// await returns the first line from now on that is as expected.
func (w *watching) await(what string, expected func(line string) bool) string {
	w.t.Helper()
	timeout := time.After(30 * time.Second)
	var last string
	for {
		select {
		case line, ok := <-w.lines:
			if !ok {
				w.t.Fatalf("it ended; still awaited: %s; the last line is %q", what, last)
			}
			if last = line; expected(line) {
				return line
			}
		case <-timeout:
			w.t.Fatalf("not within 30 s: %s; the last line is %q", what, last)
		}
	}
}

func (w *watching) awaitWords(words string) string {
	w.t.Helper()
	return w.await(words, func(line string) bool { return strings.Contains(line, words) })
}

// stop ends it as Ctrl-C does and returns its exit code.
func (w *watching) stop() int {
	w.t.Helper()
	w.end()
	select {
	case code := <-w.code:
		return code
	case <-time.After(10 * time.Second):
		w.t.Fatal("it goes on after its end")
		return 0
	}
}

// Without a terminal each look is a line, which has all that is watched for.
func TestWatchLines(t *testing.T) {
	js, environ := applied(t, "NATS_STREAM_MAX_BYTES=1MiB")
	w := startWatch(t, environ)
	line := w.awaitWords("depth 0 in 0.0/s out 0.0/s oldest - fullest 0% attention 0")
	if !regexp.MustCompile(`^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ depth `).MatchString(line) {
		t.Errorf("%q does not begin with the time", line)
	}
	publish(t, js, 0, 500_000)
	w.awaitWords("depth 1 ")
	w.await("its age and size", func(line string) bool {
		return regexp.MustCompile(`depth 1 in 0\.0/s out 0\.0/s oldest \d+s fullest 48% attention 0$`).MatchString(line)
	})
	if err := take(t, js, 0).DoubleAck(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.awaitWords("depth 0 in 0.0/s out 0.0/s oldest - fullest 48%")
	if code := w.stop(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

// A pause is seen on each line; a watch that ends without an answer says so.
func TestWatchOfAPause(t *testing.T) {
	_, environ := applied(t)
	if got := crashctl(t, environ, "pause", "--for", "2h", "--yes"); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	w := startWatch(t, environ)
	w.awaitWords("attention 0 paused for 2h0m0s")
	if code := w.stop(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	closed := listen(t)
	closed.Close()
	w = startWatch(t, []string{"NATS_URL=nats://" + closed.Addr().String()}, "--timeout=500ms")
	w.awaitWords("no connection within 500ms")
	if code := w.stop(); code != 2 {
		t.Errorf("exit code %d without a connection, want 2", code)
	}
}

// What came and went is the sum of the rates: chunks and deliveries beyond the
// first are no reports.
func TestWatchRates(t *testing.T) {
	js, environ := applied(t, "NATS_PARTITIONS=2")
	// Streams that had nothing are another case: their first sequence changes.
	for p := range 2 {
		publish(t, js, p, 1000)
		if err := take(t, js, p).DoubleAck(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	w := startWatch(t, environ, "--json")
	var in, out float64
	var before time.Time
	look := func(line string) view {
		var v view
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if v.Rates != nil && !before.IsZero() {
			seconds := v.Time.Sub(before).Seconds()
			in += v.Rates.InPerSecond * seconds
			out += v.Rates.OutPerSecond * seconds
		}
		before = v.Time
		return v
	}
	w.await("a look", func(line string) bool { return look(line).Rates != nil })
	for range 20 {
		publishChunk(t, js, 0)
	}
	for range 5 {
		publish(t, js, 0, 1000)
		publish(t, js, 1, 1000)
	}
	w.await("the reports", func(line string) bool { return look(line).Total.Backlog.Depth == 10 })
	for range 5 {
		if err := take(t, js, 0).Nak(); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []int{0, 0, 0, 1} {
		if err := take(t, js, p).DoubleAck(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var last view
	w.await("what is left", func(line string) bool {
		last = look(line)
		return last.Total.Backlog.Depth == 6 && last.Rates != nil && last.Rates.OutPerSecond == 0
	})
	// The rates are by the server's clock, and the times of the looks are ours.
	if in < 8 || in > 12 || out < 3 || out > 5 {
		t.Errorf("%.2f came and %.2f went, want 10 and 4", in, out)
	}
	if last.Drain == nil || last.Drain.PeakDepth != 10 || last.Drain.PerSecond == nil {
		t.Errorf("drain %+v, want one from a peak of 10", last.Drain)
	}
	if code := w.stop(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

// A server that goes away does not end the watch, and neither does a consumer
// that is made anew; nor do they make up a rate.
func TestWatchOutlastsTheServer(t *testing.T) {
	dir := t.TempDir()
	serve := func(address string) *devnats.Server {
		s, err := devnats.Start(t.Context(), devnats.Config{Addr: address, MonitorAddr: "127.0.0.1:0", Dir: dir, MaxStore: 1 << 30})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Stop)
		return s
	}
	s := serve("127.0.0.1:0")
	environ := []string{"NATS_URL=" + s.URL(), "NATS_STREAM_MAX_BYTES=64MiB"}
	crashctl(t, environ, "stream", "apply", "--yes")
	w := startWatch(t, environ, "--timeout=1s")
	w.awaitWords("depth 0 in 0.0/s")
	s.Stop()
	w.awaitWords("no connection within 1s")
	s = serve(strings.TrimPrefix(s.URL(), "nats://"))
	w.awaitWords("depth 0 in ? out ? ")
	w.awaitWords("depth 0 in 0.0/s")

	js := connect(t, s.URL())
	publish(t, js, 0, 1000)
	if err := take(t, js, 0).DoubleAck(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.await("the report to be gone", func(line string) bool { return strings.Contains(line, "depth 0 in 0.0/s out 0.0/s") })
	if _, err := js.Publish(t.Context(), "crashdlq.0.ready.1", []byte("never")); err != nil {
		t.Fatal(err)
	}
	w.awaitWords("attention 1")
	if err := js.DeleteConsumer(t.Context(), "CRASHES_0", "uploader"); err != nil {
		t.Fatal(err)
	}
	w.awaitWords("depth ? in ? out ? oldest ? fullest 0% attention 2")
	crashctl(t, environ, "stream", "apply", "--yes")
	w.awaitWords("depth 1 in ? out ? ")
	w.awaitWords("depth 1 in 0.0/s out 0.0/s ")
	if code := w.stop(); code != 1 {
		t.Errorf("exit code %d with a dead letter, want 1", code)
	}
}

// terminal is an output that somebody looks at.
type terminal struct{ bytes.Buffer }

func (*terminal) IsTerminal() bool { return true }

// On a terminal a look takes the place of the one before.
func TestWatchScreen(t *testing.T) {
	v := &view{
		Time: time.Date(2026, 11, 25, 15, 4, 5, 0, time.UTC), Status: troubled(), every: 2 * time.Second,
		Drain: &drain{PeakDepth: 2000, depth: 500, PerSecond: new(4.0), ETASeconds: new(queuestatus.Seconds(125))},
	}
	var out terminal
	show := (&status{}).show(display{&out})
	for range 2 {
		out.Reset()
		if err := show(v); err != nil {
			t.Fatal(err)
		}
	}
	if got := out.String(); !strings.HasPrefix(got, "\x1b[H\x1b[J") || strings.Count(got, "\x1b") != 2 {
		t.Errorf("%q does not begin with home and erase, or has more of them", got)
	}
	requireWords(t, out.String(), "crashctl status at 15:04:05, every 2s; Ctrl-C ends it\n",
		"rates         ? in, ? out\nwaiting       ?, the oldest for ?\nbacklog       [##################......] 75%, 500 of 2,000 left, gone in about 2m5s\n",
		"\nserver        n1, nats-server 2.15.2\n", "\nneeds attention:\n")

	v.err = io.ErrUnexpectedEOF
	out.Reset()
	if err := show(v); err != nil {
		t.Fatal(err)
	}
	requireWords(t, out.String(), "It goes on when there is an answer again.\n\nserver ")
}

// The drain is measured over half a minute from the last leap on.
func TestDrain(t *testing.T) {
	var tr tracker
	at := time.Now()
	see := func(after time.Duration, depth uint64) *drain {
		at = at.Add(after)
		return tr.see(at, depth)
	}
	check := func(d *drain, want string) {
		t.Helper()
		if d == nil || !strings.HasSuffix(d.String(), want) {
			t.Errorf("got %v, want ... %s", d, want)
		}
	}
	if d := see(0, 0); d != nil {
		t.Errorf("%v without a backlog", d)
	}
	check(see(2*time.Second, 1000), "] 0%, 1,000 of 1,000 left, not draining")
	tr.restart()
	check(see(2*time.Second, 5000), "] 0%, 5,000 of 5,000 left, its rate is not known yet")
	check(see(10*time.Second, 4000), "20%, 4,000 of 5,000 left, gone in about 40s")
	check(see(10*time.Second, 4000), "gone in about 1m20s")
	check(see(10*time.Second, 4000), "gone in about 2m0s")
	check(see(10*time.Second, 4000), "not draining")
	tr.restart()
	see(2*time.Second, 1000)
	check(see(10*time.Second, 3000), "not draining")
	check(see(10*time.Second, 5000), "not draining")
	check(see(2*time.Second, 4000), "gone in about 8s") // as fast as it falls, whatever was before
	check(see(2*time.Minute, 1000), "80%, 1,000 of 5,000 left, gone in about 40s")
	if d := see(10*time.Second, 0); d != nil {
		t.Errorf("%v without a backlog", d)
	}
}
