package intake_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// Every refusal is exactly what the protocol says, closes its connection, and
// leaves nothing in the stream.
func TestRefusals(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	i := startIntake(t, q.url, "INTAKE_MAX_BODY=9MB")
	ok := field("ProductName", "Firefox")
	extra := func(json string) string {
		return "--B\r\nContent-Disposition: form-data; name=\"extra\"\r\nContent-Type: application/json\r\n\r\n" + json + "\r\n"
	}
	withLength := func(body string, head ...string) string { return request(len(body), head...) + body }
	for name, c := range map[string]struct {
		raw    string
		status int
		reason string
	}{
		"no content type":              {strings.Replace(withLength(report()), "Content-Type: multipart/form-data; boundary=B\r\n", "", 1), 400, "malformed_no_content_type"},
		"wrong content type":           {withLength(report(), "Content-Type: application/json"), 400, "malformed_wrong_content_type"},
		"no boundary":                  {withLength(report(), "Content-Type: multipart/form-data"), 400, "malformed_no_boundary"},
		"no content length":            {request(-1), 400, "malformed_no_content_length"},
		"content length 0":             {request(0), 400, "malformed_no_content_length"},
		"bad gzip":                     {withLength(report(), "Content-Encoding: gzip"), 400, "malformed_bad_gzip"},
		"truncated gzip":               {withLength(gzipped(t, report())[:50], "Content-Encoding: gzip"), 400, "malformed_bad_gzip"},
		"invalid JSON":                 {withLength(extra("{") + end), 400, "malformed_invalid_json"},
		"invalid JSON value":           {withLength(extra("[]") + end), 400, "malformed_invalid_json_value"},
		"no final boundary":            {withLength(ok), 400, "malformed_invalid_payload_structure"},
		"content length too small":     {request(len(report())-10) + report(), 400, "malformed_invalid_payload_structure"},
		"bare LF in the chunk framing": {request(-1, "Transfer-Encoding: chunked") + "5\nhello\n0\n\n", 400, "malformed_invalid_payload_structure"},
		"chunk size that is none":      {request(-1, "Transfer-Encoding: chunked") + "xyz\r\nhello\r\n0\r\n\r\n", 400, "malformed_invalid_payload_structure"},
		"chunked without a byte":       {request(-1, "Transfer-Encoding: chunked") + "0\r\n\r\n", 400, "malformed_invalid_payload_structure"},
		"invalid dump name":            {withLength(ok + dump("raw_crash", "x") + end), 400, "malformed_invalid_dump_name"},
		"no annotations":               {withLength(dump("upload_file_minidump", "x") + end), 400, "malformed_no_annotations"},
		"uuid without a token":         {withLength(field("uuid", "x") + end), 401, "unauthorized_uuid"},
		"unsupported encoding":         {withLength(report(), "Content-Encoding: br"), 415, "unsupported_encoding"},
		"announced too large":          {request(9_000_001), 413, "too_large"},
		"announced much too large":     {request(1 << 62), 413, "too_large"},
		"larger than a message":        {withLength(ok + dump("upload_file_minidump", strings.Repeat("x", 8_400_000)) + end), 413, "too_large"},
		"gzip larger than a message":   {withLength(gzipped(t, ok+dump("upload_file_minidump", strings.Repeat("x", 8_400_000))+end), "Content-Encoding: gzip"), 413, "too_large"},
	} {
		t.Run(name, func(t *testing.T) {
			c1 := i.dial(t)
			c1.send(c.raw)
			a := c1.answer()
			if want := "Discarded=" + c.reason; a.status != c.status || a.body != want {
				t.Errorf("answered %d %q, want %d %q", a.status, a.body, c.status, want)
			}
			if !a.closed {
				t.Error("the connection stays open, so that what follows might be taken for a request")
			}
			if got := a.head.Get("Content-Type"); got != "text/plain" {
				t.Errorf("Content-Type %q", got)
			}
		})
	}
	if got := q.stored(t); len(got) != 0 {
		t.Errorf("the stream has %d reports", len(got))
	}
}

// What another method or path gets.
func TestOtherRequests(t *testing.T) {
	t.Parallel()
	i := startIntake(t, startQueue(t).url)
	for line, want := range map[string]int{
		"GET /submit": 405, "PUT /submit": 405, "POST /": 404, "POST /submit/x": 404, "GET /": 404, "GET /__lbheartbeat__": 200,
		"GET /__heartbeat__": 200, "GET /__version__": 200, "GET /__broken__": 404, "GET /metrics": 404, "GET /readyz": 404,
	} {
		c := i.dial(t)
		c.send(line + " HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
		a := c.answer()
		if a.status != want {
			t.Errorf("%s: answered %d, want %d", line, a.status, want)
		}
		if allow := a.head.Get("Allow"); a.status == 405 && !strings.Contains(allow, "POST") {
			t.Errorf("%s: Allow %q", line, allow)
		}
	}
}

// A client that is told "too large" while it still sends, reads so, instead of
// a connection reset.
func TestTooLargeIsReadByAClientThatIsStillSending(t *testing.T) {
	t.Parallel()
	i := startIntake(t, startQueue(t).url, "INTAKE_MAX_BODY=1MB")
	body := field("ProductName", "Firefox") + dump("upload_file_minidump", strings.Repeat("x", 20_000_000)) + end
	for name, raw := range map[string]string{
		"announced":    request(len(body)) + body,
		"chunked":      request(-1, "Transfer-Encoding: chunked") + chunks(body, 65_524),
		"another type": request(len(body), "Content-Type: text/plain") + body,
	} {
		t.Run(name, func(t *testing.T) {
			c := i.dial(t)
			c.send(raw) // fails when the connection is closed before all is sent
			if a := c.answer(); name != "another type" && (a.status != 413 || a.body != "Discarded=too_large") {
				t.Errorf("answered %d %q", a.status, a.body)
			}
		})
	}
}

// A client that announces a body and sends none holds no connection for ever,
// whatever it asked for.
func TestBodyThatNeverComesHoldsNothing(t *testing.T) {
	t.Parallel()
	i := startIntake(t, startQueue(t).url, "INTAKE_BODY_STALL=1s")
	var clients sync.WaitGroup
	for name, raw := range map[string]string{
		"wrong type":          request(1000, "Content-Type: text/plain"),
		"wrong type, chunked": request(-1, "Content-Type: text/plain", "Transfer-Encoding: chunked"),
		"wrong type, asking":  request(1000, "Content-Type: text/plain", "Expect: 100-continue"),
		"no such encoding":    request(1000, "Content-Encoding: br"),
		"another path":        strings.Replace(request(1000), "/submit", "/x", 1),
		"another method":      strings.Replace(request(1000), "POST", "PUT", 1),
		"a heartbeat":         strings.Replace(request(1000), "POST /submit", "GET /__lbheartbeat__", 1),
	} {
		c := i.dial(t)
		c.send(raw)
		clients.Go(func() {
			if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
				t.Error(err)
			}
			if _, err := io.Copy(io.Discard, c); err != nil {
				t.Errorf("%s: the connection is still open after 20 s: %v", name, err)
			}
		})
	}
	clients.Wait()
}

// A chunked request closes its connection even when all is well: a proxy in
// front and Go may differ on where such a body ends.
func TestChunkedRequestClosesItsConnection(t *testing.T) {
	t.Parallel()
	i := startIntake(t, startQueue(t).url)
	c := i.dial(t)
	c.send(request(-1, "Transfer-Encoding: chunked") + chunks(report(), 100))
	a := c.answer()
	crashID(t, a)
	if !a.closed {
		t.Error("the connection stays open")
	}
}

// Who asks before it sends is told before it sends.
func TestExpectContinueIsRefusedBeforeTheBody(t *testing.T) {
	t.Parallel()
	i := startIntake(t, startQueue(t).url, "INTAKE_MAX_BODY=1MB")
	c := i.dial(t)
	c.send(request(2_000_000, "Expect: 100-continue"))
	start := time.Now()
	if a := c.answer(); a.status != 413 {
		t.Errorf("answered %d, want 413", a.status)
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("it took %s, as if a body were waited for", took)
	}
	c = i.dial(t)
	c.send(request(len(report()), "Expect: 100-continue"))
	line, err := c.r.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "HTTP/1.1 100") {
		t.Fatalf("got %q, %v, want 100 Continue", line, err)
	}
	if _, err := c.r.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	c.send(report())
	crashID(t, c.answer())
}

// A body that stops coming is answered, and costs no connection for ever.
func TestStalledBodyIsAnswered(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	i := startIntake(t, q.url, "INTAKE_BODY_STALL=200ms")
	for name, head := range map[string]string{"announced": request(1000), "chunked": request(-1, "Transfer-Encoding: chunked") + "3e8\r\n"} {
		c := i.dial(t)
		c.send(head + field("ProductName", "Firefox"))
		if a := c.answer(); a.status != http.StatusRequestTimeout || a.body != "Discarded=too_slow" || !a.closed {
			t.Errorf("%s: answered %d %q, closed %t", name, a.status, a.body, a.closed)
		}
	}
	if got := q.stored(t); len(got) != 0 {
		t.Errorf("the stream has %d reports", len(got))
	}
}

// A body that is cut off is never taken for a whole one.
func TestCutBodyIsNotStored(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	i := startIntake(t, q.url)
	whole := report()
	for cut := 1; cut < len(whole); cut += 7 {
		for _, raw := range []string{request(len(whole)) + whole[:cut], request(-1, "Transfer-Encoding: chunked") + fmt.Sprintf("%x\r\n%s", len(whole), whole[:cut])} {
			c := i.dial(t)
			c.send(raw)
			c.cut()
			if a := c.answer(); a.status != 400 || !a.closed {
				t.Errorf("cut at %d: answered %d %q, closed %t", cut, a.status, a.body, a.closed)
			}
		}
	}
	if got := q.stored(t); len(got) != 0 {
		t.Errorf("the stream has %d reports", len(got))
	}
}
