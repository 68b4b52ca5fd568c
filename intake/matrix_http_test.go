package intake_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/yagi-crash/yagi/pkg/crash"
)

// Rows 1 to 36: how HTTP frames a request. Not among them:
//   - row 25, a body of a byte a second: TestLeastRate, which has its own clock.
//   - row 35, HTTP/2: intake does not speak it; a proxy in front may.

// fromNetHTTP is what net/http answers by itself to what is no request.
const fromNetHTTP = "400 Bad Request"

func TestMatrixFraming(t *testing.T) {
	t.Parallel()
	m := startMatrix(t, "INTAKE_BODY_STALL=300ms", "INTAKE_MAX_BODY=1MB")
	tooMuch := strings.Repeat("x", 1_000_001)
	withLength := func(length string) string { return request(-1, "Content-Length: "+length) + report() }
	notHTTP := func(name, raw, why string) refused {
		return refused{name: name, raw: raw, status: 400, body: fromNetHTTP + why}
	}
	noCoding := func(name string, head ...string) refused {
		return refused{name: name, raw: request(-1, head...) + chunks(report(), 100), status: 501, body: "Unsupported transfer encoding"}
	}
	m.refuse(t, []refused{
		malformed("row 1 no length and not chunked", request(-1), "no_content_length"),
		malformed("row 2 Content-Length 0", request(0), "no_content_length"),
		notHTTP("row 3 Content-Length negative", withLength("-5"), ""),
		notHTTP("row 3 Content-Length with a plus", withLength("+5"), ""),
		notHTTP("row 3 Content-Length no number", withLength("abc"), ""),
		notHTTP("row 3 Content-Length 1e20", withLength("100000000000000000000"), ""),
		notHTTP("row 4 two Content-Lengths that differ", request(5, "Content-Length: 6")+report(), ""),
		noCoding("row 7 unknown transfer coding", "Transfer-Encoding: xchunked"),
		noCoding("row 7 stacked transfer codings", "Transfer-Encoding: gzip, chunked"),
		noCoding("row 7 chunked twice", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
		notHTTP("row 8 space before the colon of Transfer-Encoding", request(-1, "Transfer-Encoding : chunked")+chunks(report(), 100), ": invalid header name"),
		notHTTP("row 8 space before the colon of Content-Length", request(-1, "Content-Length : 5")+report(), ": invalid header name"),
		malformed("row 10 chunk line ends in bare LF", chunked("5\nhello\n0\n\n"), "invalid_payload_structure"),
		malformed("row 11 chunk size no number", chunked("xyz\r\nhello\r\n0\r\n\r\n"), "invalid_payload_structure"),
		malformed("row 11 chunk size overflows", chunked("10000000000000001\r\nhello\r\n0\r\n\r\n"), "invalid_payload_structure"),
		malformed("row 12 chunks of 1 byte with extensions of 3 kB", chunked(overweight(report())), "invalid_payload_structure"),
		{name: "row 15 body stalls, announced", raw: request(1000) + product(), status: 408, body: "Discarded=too_slow"},
		{name: "row 15 body stalls, chunked", raw: chunked("3e8\r\n" + product()), status: 408, body: "Discarded=too_slow"},
		malformed("row 16 body longer than announced, a report behind it", request(len(report())-10)+report()+whole(report()), "invalid_payload_structure"),
		{name: "row 17 Content-Length a byte over the limit", raw: request(1_000_001), status: 413, body: "Discarded=too_large"},
		{name: "row 17 Content-Length 9e18", raw: request(9e18), status: 413, body: "Discarded=too_large"},
		{name: "row 18 larger than the limit", raw: whole(product() + tooMuch), status: 413, body: "Discarded=too_large"},
		{name: "row 19 larger than the limit, chunked", raw: chunked(chunks(product()+dump("a", tooMuch)+end, 65_524)), status: 413, body: "Discarded=too_large"},
		notHTTP("row 21 no Host", strings.Replace(whole(report()), "Host: crash.example.org\r\n", "", 1), ": missing required Host header"),
		notHTTP("row 21 two Hosts", whole(report(), "Host: x"), ""),
		{name: "row 22 header of 40 kB", raw: whole(report(), "X: "+strings.Repeat("x", 40_000)), status: 431, body: "431 Request Header Fields Too Large"},
		{name: "row 23 2,000 header fields", raw: whole(report(), manyFields(2000)...), status: 431, body: "431 Request Header Fields Too Large"},
		{name: "row 23 101 header fields of one name", raw: whole(report(), strings.Split(strings.Repeat("A: b\n", 98), "\n")[:98]...), status: 431, body: "431 Request Header Fields Too Large"},
		{name: "row 23 101 header fields", raw: whole(report(), manyFields(98)...), status: 431, body: "431 Request Header Fields Too Large"},
		{name: "row 29 announced too large, asking first", raw: request(1_000_001, "Expect: 100-continue"), status: 413, body: "Discarded=too_large"},
		{name: "row 30 unknown expectation", raw: whole(report(), "Expect: the-worst"), status: 417},
		{name: "row 31 preface of HTTP/2", raw: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", status: 400},
		{name: "row 32 HTTP/3.7", raw: strings.Replace(whole(report()), "1.1", "3.7", 1), status: 505, body: "505 HTTP Version Not Supported: unsupported protocol version"},
		notHTTP("row 32 TLS", "\x16\x03\x01\x00\x30\x01\x00\x00\x2c\x03\x03\n\n\r\n", ""),
		{name: "row 33 GET", raw: "GET /submit HTTP/1.1\r\nHost: x\r\n\r\n", status: 405, body: "Method Not Allowed\n", kept: true},
		{name: "row 33 PUT", raw: strings.Replace(whole(report()), "POST", "PUT", 1), status: 405, body: "Method Not Allowed\n", kept: true},
		{name: "row 33 OPTIONS", raw: "OPTIONS /submit HTTP/1.1\r\nHost: x\r\n\r\n", status: 405, body: "Method Not Allowed\n", kept: true},
		{name: "row 33 another path", raw: strings.Replace(whole(report()), "/submit", "/submit/x", 1), status: 404, body: "404 page not found\n", kept: true},
		{name: "row 33 no path", raw: strings.Replace(whole(report()), "/submit", "/", 1), status: 404, body: "404 page not found\n", kept: true},
	})
	same := firefox(crash.MinidumpName, minidump)
	m.accept(t, []accepted{
		{name: "row 20 HTTP/1.0 with a chunked body", raw: http10() + chunks(report(), 100), want: firefox(crash.MinidumpName, minidump), close: true},
		{name: "row 5 two Content-Lengths that agree", raw: whole(report(), fmt.Sprintf("Content-Length: %d", len(report()))), want: same},
		{name: "row 6 both a length and chunked, a report behind it", raw: request(10, "Transfer-Encoding: chunked") + chunks(report(), 100) + whole(report()), want: same, close: true},
		{name: "row 6 chunked", raw: chunked(chunks(report(), 100)), want: same, close: true},
		{name: "row 9 folded Transfer-Encoding", raw: request(-1, "Transfer-Encoding:\r\n chunked") + chunks(report(), 100), want: same, close: true},
		{name: "row 23 100 header fields", raw: whole(report(), manyFields(97)...), want: same},
		{name: "row 34 address of another host", raw: strings.Replace(whole(report()), "/submit", "http://elsewhere.example.org/submit", 1), want: same},
		{name: "row 36 request lines end in bare LF", raw: strings.ReplaceAll(request(len(report())), "\r\n", "\n") + report(), want: same, close: true},
	})
}

// overweight frames a body in chunks of a byte, each with an extension of 3 kB.
func overweight(body string) string {
	var b strings.Builder
	for i := range len(body) {
		fmt.Fprintf(&b, "1;%s\r\n%s\r\n", strings.Repeat("x", 3000), body[i:i+1])
	}
	return b.String() + "0\r\n\r\n"
}

// manyFields is n header fields: the request helper adds three that count.
func manyFields(n int) []string {
	head := make([]string, n)
	for i := range head {
		head[i] = fmt.Sprintf("A%d: b", i)
	}
	return head
}

// A body that is cut off is never taken for a whole one, wherever it is cut.
func TestMatrixCutBody(t *testing.T) {
	t.Parallel()
	m := startMatrix(t)
	for name, head := range map[string]string{
		"row 13 chunked and cut off":         chunked(fmt.Sprintf("%x\r\n", len(report()))),
		"row 14 body shorter than announced": request(len(report())),
	} {
		t.Run(name, func(t *testing.T) {
			for cut := 1; cut < len(report()); cut += 7 {
				c := m.intake.dial(t)
				c.send(head + report()[:cut])
				c.cut()
				a := c.answer()
				if a.status != 400 || a.body != "Discarded=malformed_invalid_payload_structure" {
					t.Errorf("cut at %d: answered %d %q", cut, a.status, a.body)
				}
				checkReply(t, c, a, false)
			}
		})
	}
	if got := m.queue.stored(t); len(got) != 0 {
		t.Errorf("the stream has %d reports", len(got))
	}
}

// A client that is told "too large" while it still sends, reads so, instead of
// a connection reset.
func TestMatrixTooLargeIsReadByAClientThatIsStillSending(t *testing.T) {
	t.Parallel()
	m := startMatrix(t, "INTAKE_MAX_BODY=1MB")
	body := product() + dump("upload_file_minidump", strings.Repeat("x", 20_000_000)) + end
	m.refuse(t, []refused{
		{name: "row 18 announced", raw: whole(body), status: 413, body: "Discarded=too_large"},
		{name: "row 19 chunked", raw: chunked(chunks(body, 65_524)), status: 413, body: "Discarded=too_large"},
		malformed("row 38 another type", whole(body, "Content-Type: text/plain"), "wrong_content_type"),
	})
	t.Run("row 22 header of 400 kB", func(t *testing.T) {
		c := m.intake.dial(t)
		c.send(whole(report(), "X: "+strings.Repeat("x", 400_000)))
		if reply, err := io.ReadAll(c.r); err != nil || !strings.HasPrefix(string(reply), "HTTP/1.1 431 ") {
			t.Errorf("got %.20q, %v, want 431 and an end without a reset", reply, err)
		}
	})
}

// Who is slow with what has no meaning yet, or no more, is dropped without a word.
func TestMatrixSlowClients(t *testing.T) {
	t.Parallel()
	m := startMatrix(t)
	slow := m.intake.dial(t)
	slow.send("POST /submit HTTP/1.1\r\nHost: x\r\n")
	deaf := m.intake.dial(t)
	t.Run("row 26 replies are not read", func(t *testing.T) {
		requests := strings.Repeat("GET /__version__ HTTP/1.1\r\nHost: x\r\n\r\n", 1000)
		for {
			if _, err := io.WriteString(deaf, requests); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal("the connection is still open after a minute")
			} else if err != nil {
				return
			}
		}
	})
	t.Run("row 24 header comes slowly", func(t *testing.T) {
		if rest, err := io.ReadAll(slow); err != nil || len(rest) > 0 {
			t.Errorf("got %q, %v, want the end of the connection", rest, err)
		}
	})
}

// No more reports than INTAKE_MAX_CONNECTIONS are received at once; the next one
// waits for one of them to end. Those who wait do not hold up the end.
func TestMatrixConnections(t *testing.T) {
	t.Parallel()
	m := startMatrix(t, "INTAKE_MAX_CONNECTIONS=2")
	t.Run("row 27 more connections than allowed", func(t *testing.T) {
		first, second, third := m.intake.startSender(t), m.intake.startSender(t), m.intake.dial(t)
		awaitLine(t, m.intake, "intake_requests_in_flight 2")
		third.send(whole(report()))
		if !third.comesNothing() {
			t.Error("the third is served too")
		}
		close(first.hurry)
		crashID(t, first.answer())
		crashID(t, third.answer())
		m.intake.dial(t)
		m.intake.stop()
		close(second.hurry)
		crashID(t, second.answer())
		if err := m.intake.ended(t, 10*time.Second); err != nil {
			t.Error(err)
		}
	})
}

// Requests that come before the earlier ones are answered, are answered in order.
func TestMatrixPipelined(t *testing.T) {
	t.Parallel()
	m := startMatrix(t)
	t.Run("row 28 pipelined requests", func(t *testing.T) {
		c := m.intake.dial(t)
		c.send(whole(report()) + strings.Replace(request(-1), "POST", "GET", 1) + whole(report()) + whole(end) + whole(report()))
		first := crashID(t, c.answer())
		if a := c.answer(); a.status != http.StatusMethodNotAllowed {
			t.Errorf("the second is answered %d, want 405", a.status)
		}
		if second := crashID(t, c.answer()); first == second {
			t.Errorf("both are %s", first)
		}
		a := c.answer() // nothing behind a refusal is a request
		if a.status != 400 || a.body != "Discarded=malformed_no_annotations" {
			t.Errorf("the fourth is answered %d %q", a.status, a.body)
		}
		checkReply(t, c, a, false)
		if got := len(m.queue.stored(t)); got != 2 {
			t.Errorf("%d reports in the stream, want 2", got)
		}
	})
}

// Who asks before it sends is told to, or, as another row says, is refused
// before it has sent.
func TestMatrixExpectContinue(t *testing.T) {
	t.Parallel()
	m := startMatrix(t, "INTAKE_MAX_BODY=1MB")
	t.Run("row 29 asking first", func(t *testing.T) {
		c := m.intake.dial(t)
		c.send(request(len(report()), "Expect: 100-continue"))
		if line, err := c.r.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
			t.Fatalf("got %q, %v, want 100 Continue", line, err)
		}
		if _, err := c.r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		c.send(report())
		a := c.answer()
		crashID(t, a)
		checkReply(t, c, a, true)
	})
	t.Run("row 29 too large is said at once", func(t *testing.T) {
		c := m.intake.dial(t)
		c.send(request(1_000_001, "Expect: 100-continue"))
		start := time.Now()
		if a := c.answer(); a.status != 413 || time.Since(start) > 10*time.Second {
			t.Errorf("answered %d after %s, as if a body were waited for", a.status, time.Since(start))
		}
	})
}
