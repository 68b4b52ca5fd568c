package intake

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"

	"github.com/yagi-crash/yagi/intake/internal/transport"
	"github.com/yagi-crash/yagi/pkg/crash"
)

// hasHiddenBody tells whether a request may be one of Crashpad's socket transport
// (Android, Fuchsia), which posts HTTP/1.0 with a chunked body. HTTP/1.0 has no
// chunks (RFC 9112 §6.1), so net/http takes the framing for nothing and the body
// for empty.
func hasHiddenBody(r *http.Request) bool {
	return r.ProtoMajor == 1 && r.ProtoMinor == 0 && r.ContentLength == 0 && r.Header.Get("Content-Length") == "" &&
		len(r.Header.Values("Content-Type")) > 0
}

// serveHidden takes the connection over from net/http, reads the chunks under the
// limits of any other body, answers, and closes.
func (s *submit) serveHidden(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	conn, buffered, err := control.Hijack()
	if err != nil { // not a connection of net/http's server
		s.answer(r, control, func(a reply) { s.send(w, r, control, a) })
		return
	}
	defer func() { _ = conn.Close() }() // its error is of no use to anyone
	taken := r.WithContext(r.Context())
	taken.ContentLength = -1
	taken.Body = io.NopCloser(&hiddenBody{r: buffered.Reader})
	s.answer(taken, conn, func(a reply) { _, _ = conn.Write(a.http10()) }) // a client that is gone is told nothing
	transport.HangUp(conn, buffered.Reader)
}

// hiddenBody is a chunked body. One that does not begin with a chunk is none.
type hiddenBody struct {
	r      *bufio.Reader
	chunks io.Reader
}

// Read implements io.Reader.
func (b *hiddenBody) Read(p []byte) (int, error) {
	if b.chunks == nil {
		first, err := b.r.Peek(1)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		if !bytes.ContainsAny(first, "0123456789abcdefABCDEF") {
			return 0, crash.Malformed(crash.ReasonNoContentLength, errors.New("HTTP/1.0 body that is not chunked"))
		}
		b.chunks = httputil.NewChunkedReader(b.r)
	}
	return b.chunks.Read(p)
}

// http10 is the whole reply as such a client can read it: it knows Content-Length
// in this spelling only, and no chunks.
func (a reply) http10() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.0 %d %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n",
		a.status, http.StatusText(a.status), len(a.body))
	if a.status == http.StatusServiceUnavailable {
		b.WriteString("Retry-After: " + retryAfter + "\r\n")
	}
	b.WriteString("\r\n" + a.body)
	return b.Bytes()
}
