package breakpad

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/klauspost/compress/gzip"

	"github.com/yagi-crash/yagi/pkg/crash"
)

// body is a request's body with its encoding undone and both limits held.
type body struct {
	wire  *limited
	plain io.Reader
	gzip  bool
}

// openBody returns the body behind the request's Content-Encoding: none,
// identity, gzip or x-gzip, in any case. Anything else, or several, is refused.
func openBody(r *http.Request, limits Limits) (*body, error) {
	if r.ContentLength == 0 {
		return nil, crash.Malformed(crash.ReasonNoContentLength, nil)
	}
	if r.ContentLength > limits.Wire {
		return nil, tooLarge("announced", limits.Wire)
	}
	b := &body{wire: &limited{src: r.Body, left: limits.Wire, refusal: tooLarge("on the wire", limits.Wire)}}
	switch strings.ToLower(strings.Join(r.Header.Values("Content-Encoding"), ",")) {
	case "", "identity":
		b.plain = b.wire
		return b, nil
	case "gzip", "x-gzip":
		b.gzip = true
	default:
		return nil, &crash.Refusal{Reason: crash.ReasonUnsupportedEncoding, Status: http.StatusUnsupportedMediaType}
	}
	z, err := gzip.NewReader(bufio.NewReader(b.wire))
	if err != nil {
		return nil, b.cause(crash.Malformed(crash.ReasonBadGzip, err))
	}
	z.Multistream(false) // as Antenna: the first member counts
	b.plain = &limited{src: inflate{b, z}, left: limits.Inflated, refusal: tooLarge("inflated", limits.Inflated)}
	return b, nil
}

// cause returns what really ended the body: a refusal by the wire's reader
// comes before what the layers above make of it.
func (b *body) cause(otherwise error) error {
	if b.wire.err != nil && !errors.Is(b.wire.err, io.EOF) {
		return b.wire.err
	}
	return otherwise
}

// finish reads the body to its end, so that a cut body or a wrong checksum at
// the very end is noticed, and returns the size on the wire. What lies behind
// the first gzip member counts but is not looked at.
func (b *body) finish() (size int64, err error) {
	if _, err := io.Copy(io.Discard, b.plain); err != nil {
		return 0, err
	}
	if _, err := io.Copy(io.Discard, b.wire); err != nil {
		return 0, err
	}
	return b.wire.read, nil
}

func tooLarge(where string, limit int64) *crash.Refusal {
	return crash.TooLarge(fmt.Errorf("body %s is over %d bytes", where, limit))
}

// inflate turns the errors of a gzip stream into refusals.
type inflate struct {
	body *body
	z    *gzip.Reader
}

// Read implements io.Reader.
func (i inflate) Read(p []byte) (int, error) {
	n, err := i.z.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = i.body.cause(crash.Malformed(crash.ReasonBadGzip, err))
	}
	return n, err
}

// limited reads src up to and including its limit, and answers with the
// refusal when there is more. Its errors stay.
type limited struct {
	src     io.Reader
	left    int64
	read    int64
	refusal error
	err     error
}

// Read implements io.Reader.
func (l *limited) Read(p []byte) (int, error) {
	if l.err != nil {
		return 0, l.err
	}
	if int64(len(p)) > l.left+1 {
		p = p[:l.left+1] // one byte more tells "at the limit" from "over it"
	}
	n, err := l.src.Read(p)
	l.read += int64(n)
	l.left -= int64(n)
	if l.left < 0 {
		n, err = n-1, l.refusal
	}
	l.err = err
	return n, err
}
