package intake_test

import (
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Whatever follows a request whose framing two readers may take differently is
// never a request: one answer, and the end of the connection.
func TestNothingHidesInARequest(t *testing.T) {
	t.Parallel()
	i := startIntake(t, startQueue(t).url, "INTAKE_BODY_STALL=2s")
	const hidden = "GET /__version__ HTTP/1.1\r\nHost: x\r\n\r\n"
	length := fmt.Sprintf("Content-Length: %d", len(report()))
	old := func(raw string) string {
		return strings.Replace(raw, " HTTP/1.1\r\n", " HTTP/1.0\r\nConnection: keep-alive\r\n", 1)
	}
	elsewhere := func(raw string) string { return strings.Replace(raw, "/submit", "/x", 1) }
	get := func(head string) string { return "GET /__lbheartbeat__ HTTP/1.1\r\nHost: x\r\n" + head + "\r\n\r\n" }
	chunkedHead := request(-1, "Transfer-Encoding: chunked")
	for name, c := range map[string]struct {
		raw    string
		status int
	}{
		"HTTP/1.0, length and chunked":              {old(request(-1, length, "Transfer-Encoding: chunked") + report()), 200},
		"HTTP/1.0, length 0 and chunked":            {old(request(0, "Transfer-Encoding: chunked") + "0\r\n\r\n"), 400},
		"HTTP/1.0, length and identity":             {old(request(-1, length, "Transfer-Encoding: identity") + report()), 200},
		"HTTP/1.0, kept, bytes after the body":      {old(request(-1, length) + report()), 200},
		"HTTP/1.0, chunked":                         {old(chunkedHead + chunks(report(), 100)), 200},
		"HTTP/1.0, chunked, another path":           {old(elsewhere(chunkedHead) + chunks(report(), 100)), 404},
		"HTTP/1.0, chunked GET":                     {old(get("Transfer-Encoding: chunked") + "0\r\n\r\n"), 200},
		"HTTP/1.0, length and chunked, GET":         {old(get("Content-Length: 5\r\nTransfer-Encoding: chunked") + "0\r\n\r\n"), 200},
		"HTTP/1.1, length and chunked":              {request(5, "Transfer-Encoding: chunked") + chunks(report(), 100), 200},
		"HTTP/1.1, length and chunked, other path":  {elsewhere(request(5, "Transfer-Encoding: chunked")) + chunks(report(), 100), 404},
		"chunked, another path":                     {elsewhere(chunkedHead) + chunks(report(), 100), 404},
		"chunked health check":                      {get("Transfer-Encoding: chunked") + "0\r\n\r\n", 200},
		"chunked with extensions":                   {chunkedHead + fmt.Sprintf("%x;a=\"\r\n\"\r\n", len(report())) + report() + "\r\n0\r\n\r\n", 400},
		"chunked with an extension":                 {chunkedHead + fmt.Sprintf("%x;a=b\r\n", len(report())) + report() + "\r\n0\r\n\r\n", 200},
		"chunk size after a bare LF":                {chunkedHead + fmt.Sprintf("%x\n", len(report())) + report() + "\r\n0\r\n\r\n", 400},
		"chunk size with a prefix":                  {chunkedHead + fmt.Sprintf("0x%x\r\n", len(report())) + report() + "\r\n0\r\n\r\n", 400},
		"trailers":                                  {chunkedHead + strings.TrimSuffix(chunks(report(), 100), "\r\n") + "Content-Length: 5\r\n\r\n", 200},
		"identity":                                  {request(-1, length, "Transfer-Encoding: identity") + report(), 501},
		"no coding":                                 {request(-1, length, "Transfer-Encoding:") + report(), 501},
		"chunked, identity":                         {request(-1, "Transfer-Encoding: chunked, identity") + chunks(report(), 100), 501},
		"a coding in quotes":                        {request(-1, length, "Transfer-Encoding: \"chunked\"") + report(), 501},
		"space before the colon":                    {request(-1, length, "Transfer-Encoding : chunked") + chunks(report(), 100), 400},
		"tab before the colon":                      {request(-1, length, "Transfer-Encoding\t: chunked") + chunks(report(), 100), 400},
		"folded coding":                             {request(-1, length, "Transfer-Encoding:\r\n chunked") + chunks(report(), 100), 200},
		"folded length":                             {request(-1, "Content-Length:\r\n "+strconv.Itoa(len(report()))) + report(), 200},
		"folded field":                              {request(-1, "X: a\r\n\tb", length) + report(), 200},
		"a bare LF in the head":                     {request(-1, "X: a\n"+length) + report(), 200},
		"a head that ends in a bare LF":             {strings.TrimSuffix(request(-1, length), "\r\n") + "\n" + report(), 200},
		"a bare CR in the head":                     {request(-1, "X: a\r"+length) + report(), 400},
		"two lengths":                               {request(-1, "Content-Length: 5", length) + report(), 400},
		"two lengths in a line":                     {request(-1, length+", "+strconv.Itoa(len(report()))) + report(), 400},
		"length with a sign":                        {request(-1, strings.Replace(length, ": ", ": +", 1)) + report(), 400},
		"length in hexadecimal":                     {request(-1, fmt.Sprintf("Content-Length: 0x%x", len(report()))) + report(), 400},
		"a body that was asked for and is not sent": {elsewhere(request(len(hidden), "Expect: 100-continue")), 404},
		"an expectation nobody has":                 {request(-1, length, "Expect: the-worst") + report(), 417},
		"CONNECT":                                   {"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", 404},
		"preface of HTTP/2":                         {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400},
		"OPTIONS *":                                 {"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 400},
		"Connection: close":                         {request(-1, length, "Connection: close") + report(), 200},
		"HTTP/0.9":                                  {"GET /__lbheartbeat__\r\n\r\n", 400},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			con := i.dial(t)
			con.send(c.raw + hidden)
			raw, err := io.ReadAll(con.r)
			if err != nil && len(raw) == 0 {
				t.Fatal(err)
			}
			answers := regexp.MustCompile(`HTTP/1\.[01] (\d+) `).FindAllStringSubmatch(string(raw), -1)
			if len(answers) != 1 || answers[0][1] != strconv.Itoa(c.status) || strings.Contains(string(raw), `"commit"`) {
				t.Errorf("answered\n%s, want %d and the end", raw, c.status)
			}
		})
	}
}

// Where framing is clear, requests that follow are answered.
func TestPipelinedPosts(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	i := startIntake(t, q.url)
	c := i.dial(t)
	// The line end after a post is one of old clients' (RFC 9112 §2.2).
	c.send(strings.Repeat(whole(report())+alive, 50) + whole(report()) + "\r\n" + whole(report(), "Connection: close"))
	for range 50 {
		crashID(t, c.answer())
		if a := c.answer(); a.status != 200 || a.body != "{}" {
			t.Fatalf("answered %d %q", a.status, a.body)
		}
	}
	crashID(t, c.answer())
	last := c.answer()
	crashID(t, last)
	if !last.closed {
		t.Error("the connection is kept, though its client wanted it closed")
	}
	if got := len(q.stored(t)); got != 52 {
		t.Errorf("%d reports in the stream, want 52", got)
	}
}

// Every request that is no report is answered for good, without a redirect, and
// counted by its status alone.
func TestOtherRequestsAreCounted(t *testing.T) {
	t.Parallel()
	i := startIntake(t, startQueue(t).url)
	const host = " HTTP/1.1\r\nHost: x\r\n\r\n"
	for raw, status := range map[string]int{
		"GET /submit" + host:                                           405,
		"HEAD /submit" + host:                                          405,
		"OPTIONS /submit" + host:                                       405,
		"DELETE //submit/" + host:                                      405,
		"BREW /submit" + host:                                          405,
		"POST /__lbheartbeat__" + host:                                 405,
		"GET /secret-path" + host:                                      404,
		"TRACE /secret-path" + host:                                    404,
		"POST /secret/../submit" + host:                                404,
		"POST /./submit" + host:                                        404,
		"POST /submit/secret-path" + host:                              404,
		"GET //__version__" + host:                                     404,
		"GET /__version__/" + host:                                     404,
		"GET http://elsewhere" + host:                                  404,
		"GET /" + strings.Repeat("secret-path/", 300) + host:           404,
		"GET http://elsewhere/__version__" + host:                      200,
		"CONNECT secret-path:80" + host:                                404,
		"OPTIONS *" + host:                                             400,
		"GET /%zz" + host:                                              400,
		"GET secret-path" + host:                                       400,
		"B@D /submit" + host:                                           400,
		"GET / HTTP/1.1\r\n\r\n":                                       400,
		"GET /" + strings.Repeat("x", 50_000) + host:                   431,
		"GET / HTTP/2.0\r\nHost: x\r\n\r\n":                            505,
		"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n": 501,
		"POST /submit HTTP/1.1\r\nHost: x\r\nExpect: secret-path\r\nContent-Length: 1\r\n\r\nx": 417,
	} {
		c := i.dial(t).soon()
		c.send(raw)
		if strings.HasPrefix(raw, "HEAD") {
			head, err := c.r.ReadString('\n')
			if err != nil || !strings.Contains(head, " 405 ") {
				t.Errorf("%.60q: answered %q, %v", raw, head, err)
			}
			continue
		}
		a := c.answer()
		if a.status != status || a.head.Get("Location") != "" || strings.Contains(a.body, "secret") {
			t.Errorf("%.60q: answered %d %q %v, want %d", raw, a.status, a.body, a.head, status)
		}
		if allow := a.head.Get("Allow"); status == 405 && allow == "" {
			t.Errorf("%.60q: no Allow", raw)
		}
	}
	crashID(t, i.post(t, report()))
	for status, n := range map[int]int{200: 1, 400: 5, 404: 10, 405: 6, 417: 1, 431: 1, 501: 1, 505: 1, 500: 0, 503: 0} {
		awaitLine(t, i, fmt.Sprintf(`intake_other_requests_total{status="%d"} %d`, status, n))
	}
	if log := i.log.String(); strings.Contains(log, "secret") {
		t.Errorf("the log has a path:\n%s", log)
	}
}
