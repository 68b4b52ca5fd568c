package breakpad

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/yagi-crash/yagi/intake/internal/spool"
	"github.com/yagi-crash/yagi/pkg/crash"
)

// Post is a crash report on its way in, whose head is in order.
type Post struct {
	// Size is the size of the body on the wire as announced, in bytes; below 0
	// when it was not.
	Size int64

	limits    Limits
	boundary  string
	coding    coding
	userAgent string // in UTF-8
	body      *spool.Body
	wire      int64 // bytes of the body
}

// Open reads the head of a request, and nothing of its body: who waits for "100
// Continue" is refused before it sends. The error is a *crash.Refusal.
func Open(r *http.Request, limits Limits) (*Post, error) {
	boundary, err := boundary(r.Header)
	if err != nil {
		return nil, err
	}
	if r.ContentLength == 0 {
		return nil, crash.Malformed(crash.ReasonNoContentLength, nil)
	}
	if wire := int64(limits.Wire); r.ContentLength > wire {
		return nil, tooLarge("announced", wire)
	}
	coding, err := codingOf(r.Header)
	if err != nil {
		return nil, err
	}
	agent := latin1([]byte(strings.Join(r.Header.Values("User-Agent"), ","))) // a header is in Latin-1, as for Antenna
	return &Post{Size: r.ContentLength, limits: limits, boundary: boundary, coding: coding, userAgent: agent}, nil
}

// Receive reads the body, as it is, into an empty one of the store. The error is
// a *crash.Refusal.
func (p *Post) Receive(r io.Reader, into *spool.Body) (err error) {
	p.body = into
	limit := int64(p.limits.Wire)
	p.wire, err = into.ReadFrom(&limited{src: r, left: limit, refusal: tooLarge("on the wire", limit)})
	return refusal(err)
}

// Work returns the most bytes that Parse may have to read, a bound on its time. It is
// valid after Receive.
func (p *Post) Work() int64 {
	if p.coding == codingIdentity {
		return p.wire
	}
	return p.limits.inflated(p.wire)
}

// Parse makes the report of the received body: all of it but its id and its
// time. Dumps stay in the store. The window is memory to work with, of WindowSize
// bytes. Parse takes a decoder of its own beside those that decoders bounds. The error is
// a *crash.Refusal.
func (p *Post) Parse(window []byte, decoders *Decoders) (*crash.Report, error) {
	plain, err := p.open(decoders)
	if err != nil {
		return nil, refusal(err)
	}
	defer func() { _ = plain.Close() }() // in memory: cannot fail
	src := &counted{src: plain}
	parser := parser{limits: p.limits, parts: newMultipart(src, p.boundary, window), src: src, body: p.body}
	if p.coding != codingIdentity {
		parser.again = &replay{post: p, decoders: decoders}
	}
	parser.report.Annotations = crash.Annotations{}
	if err := finish(plain, parser.run()); err != nil {
		return nil, refusal(err)
	}
	if _, err := plain.behind.ReadByte(); err == nil {
		parser.note("bytes behind the compressed body were passed over")
	}
	parser.describe(p)
	if len(parser.report.Annotations) == 0 {
		return nil, crash.Malformed(crash.ReasonNoAnnotations, nil)
	}
	return &parser.report, nil
}

// finish reads a body behind what was parsed of it, and returns why the report is
// refused. A wrong checksum shows at the very end, and comes before what is wrong
// within, as in Antenna; of a body that is too large the rest is not looked at.
func finish(plain io.Reader, err error) error {
	if r, ok := errors.AsType[*crash.Refusal](refusal(err)); ok && r.Status != http.StatusBadRequest {
		return err
	}
	if _, late := io.Copy(io.Discard, plain); err == nil || isDamage(late) {
		return late
	}
	return err
}

// refusal makes sure that an error tells the client something.
func refusal(err error) error {
	if err == nil {
		return nil
	}
	if r, ok := errors.AsType[*crash.Refusal](err); ok {
		return r
	}
	if errors.Is(err, spool.ErrFull) || errors.Is(err, spool.ErrFile) {
		return crash.Unavailable(err)
	}
	return crash.Malformed(crash.ReasonInvalidPayloadStructure, err)
}

func tooLarge(where string, limit int64) *crash.Refusal {
	return crash.TooLarge(fmt.Errorf("body %s is over %d bytes", where, limit))
}

// counted counts what was read.
type counted struct {
	src io.Reader
	n   int64
}

// Read implements io.Reader.
func (c *counted) Read(p []byte) (int, error) {
	n, err := c.src.Read(p)
	c.n += int64(n)
	return n, err
}

// limited reads src up to and including its limit, and answers with the
// refusal when there is more. Its errors stay.
type limited struct {
	src     io.Reader
	left    int64
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
	l.left -= int64(n)
	if l.left < 0 {
		n, err = n-1, l.refusal
	}
	l.err = err
	return n, err
}
