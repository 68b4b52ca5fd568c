package transport

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

const (
	// LingerBytes and LingerTime bound what is read after an answer that came before
	// the request's end: a client that is still sending when the connection closes
	// would never see the answer.
	LingerBytes = 32 << 20
	// LingerTime is how long that may take.
	LingerTime = 2 * time.Second
)

// Write writes p within writeTimeout. An answer of net/http's own gets its length,
// for clients depend on it, and is counted.
func (c *Conn) Write(p []byte) (int, error) {
	if c.told && string(p) == goOn {
		c.told = false
		return len(p), nil
	}
	if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	if bytes.HasPrefix(p, []byte(expectationFailed)) {
		c.l.Count(http.StatusExpectationFailed)
	}
	status, answer, ok := withLength(p)
	if !ok {
		return c.TCPConn.Write(p)
	}
	c.l.Count(status)
	if _, err := c.TCPConn.Write(answer); err != nil {
		return 0, err
	}
	return len(p), nil
}

// expectationFailed is how the answer to an unknown expectation begins, which
// net/http alone gives.
const expectationFailed = "HTTP/1.1 417 "

// withLength reports whether p is an answer that net/http writes when it cannot make
// a request of what has come (400, 431, 501, 505), and returns it with its
// length. Such an answer is one write, with these headers and no others:
// errorHeaders in net/http/server.go.
func withLength(p []byte) (status int, answer []byte, ok bool) {
	const errorHeaders = "\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
	line, body, ok := bytes.Cut(p, []byte(errorHeaders))
	code, isHTTP := bytes.CutPrefix(line, []byte("HTTP/1.1 "))
	if !ok || !isHTTP || len(code) < 3 || bytes.IndexByte(line, '\n') >= 0 {
		return 0, nil, false
	}
	status, _ = strconv.Atoi(string(code[:3])) // 0 is counted as other
	return status, closing(string(line), string(body)), true
}

// closing is an answer after which the connection is closed.
func closing(line, body string) []byte {
	return fmt.Appendf(nil, "%s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", line, len(body), body)
}

// refuseHead answers a head of too many lines, in the words that net/http has for
// one of too many bytes.
func (c *Conn) refuseHead() {
	const text = "431 Request Header Fields Too Large"
	c.l.Count(http.StatusRequestHeaderFieldsTooLarge)
	c.l.move(c, answered)
	if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return
	}
	if _, err := c.TCPConn.Write(closing("HTTP/1.1 "+text, text)); err == nil {
		HangUp(c.TCPConn, c.TCPConn)
	}
}

// HangUp ends what is sent and waits, within LingerTime, for the client to do so: a
// connection that is closed with bytes unread is reset, and the answer with it.
// The caller closes it.
func HangUp(conn net.Conn, unread io.Reader) {
	if half, ok := conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		_ = conn.SetReadDeadline(time.Now().Add(LingerTime))
		_, _ = io.CopyN(io.Discard, unread, LingerBytes)
	}
}
