package intake_test

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/yagi-crash/yagi/pkg/crash"
)

// http10 is the head of a post as Crashpad's socket transport writes it
// (http_transport_socket.cc): no Host, no User-Agent, HTTP/1.0, and chunked.
func http10(head ...string) string {
	lines := append([]string{
		"POST /submit HTTP/1.0", "Content-Type: multipart/form-data; boundary=B", "Transfer-Encoding: chunked",
	}, head...)
	return strings.Join(lines, "\r\n") + "\r\n\r\n"
}

// An HTTP/1.0 body that is chunked is read like any other, and answered in words
// that its client can read: HTTP/1.0, Content-Length, no chunks, and the end.
func TestChunkedHTTP10(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	i := startIntake(t, q.url)
	body := field("ProductName", "Fuchsia") + dump(crash.MinidumpName, noise(300_000)) + end
	c := i.dial(t)
	c.send(http10("Content-Encoding: gzip") + chunks(gzipped(t, body), 32_768))
	raw, err := io.ReadAll(c.r) // to the end of the connection
	if err != nil {
		t.Fatal(err)
	}
	got := q.one(t)
	answer := "CrashID=bp-" + string(got.ID) + "\n"
	want := fmt.Sprintf("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(answer), answer)
	if string(raw) != want {
		t.Errorf("answered\n%q, want\n%q", raw, want)
	}
	if len(got.Dumps) != 1 || text(t, got.Dumps[0]) != noise(300_000) {
		t.Error("the dump differs")
	}
	if _, page := get(t, "http://"+i.admin+"/metrics"); !strings.Contains(page, `intake_reports_total{reason="",result="queued"} 1`) {
		t.Error("the report is not counted")
	}
}

// What such a client sends behind its body does not cost it the reply.
func TestBytesBehindChunkedHTTP10(t *testing.T) {
	t.Parallel()
	i := startIntake(t, startQueue(t).url)
	c := i.dial(t)
	c.send(http10() + chunks(report(), 100) + noise(20_000_000))
	crashID(t, c.answer())
}

// It is refused like any other, too, and read on for a while, so that its client
// reads the reply.
func TestChunkedHTTP10IsRefused(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	i := startIntake(t, q.url, "INTAKE_MAX_BODY=1MB", "INTAKE_BODY_STALL=2s")
	for name, c := range map[string]struct {
		raw    string
		cut    bool
		status int
		reason string
	}{
		"a bad body":       {http10() + chunks("nonsense", 3), false, 400, "malformed_invalid_payload_structure"},
		"too large":        {http10() + chunks(field("a", strings.Repeat("x", 5_000_000))+end, 32_768), false, 413, "too_large"},
		"not chunked":      {http10() + report(), false, 400, "malformed_no_content_length"},
		"nothing":          {http10(), true, 400, "malformed_no_content_length"},
		"stalled":          {http10() + "5\r\nhel", false, 408, "too_slow"},
		"stalled at once":  {http10(), false, 408, "too_slow"},
		"cut in a chunk":   {http10() + "fff\r\n" + report(), true, 400, "malformed_invalid_payload_structure"},
		"cut behind one":   {http10() + fmt.Sprintf("%x\r\n%s\r\n", len(report()), report()), true, 400, "malformed_invalid_payload_structure"},
		"a bad chunk":      {http10() + "5\r\nhello\r\nzz\r\n", false, 400, "malformed_invalid_payload_structure"},
		"no content type":  {"POST /submit HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false, 400, "malformed_no_content_type"},
		"length 0":         {"POST /submit HTTP/1.0\r\nContent-Type: multipart/form-data; boundary=B\r\nContent-Length: 0\r\n\r\n", false, 400, "malformed_no_content_length"},
		"unknown encoding": {http10("Content-Encoding: br") + chunks(report(), 10), false, 415, "unsupported_encoding"},
	} {
		con := i.dial(t)
		con.send(c.raw)
		if c.cut {
			con.cut()
		}
		a := con.answer()
		if want := "Discarded=" + c.reason; a.status != c.status || a.body != want || !a.closed {
			t.Errorf("%s: answered %d %q, closed %t, want %d %q", name, a.status, a.body, a.closed, c.status, want)
		}
	}
	if got := q.stored(t); len(got) != 0 {
		t.Errorf("the stream has %d reports", len(got))
	}
}

// At SIGTERM it is finished like any other.
func TestStopFinishesChunkedHTTP10(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	i := startIntake(t, q.url)
	c := i.dial(t)
	framed := chunks(report(), 10)
	c.send(http10() + framed[:20])
	awaitInFlight(t, i)
	i.stop()
	awaitDraining(t, i)
	c.send(framed[20:])
	crashID(t, c.answer())
	if err := i.ended(t, 5*time.Second); err != nil {
		t.Error(err)
	}
	if got := len(q.stored(t)); got != 1 {
		t.Errorf("%d reports in the stream, want 1", got)
	}
}
