package breakpad

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"

	"github.com/yagi-crash/yagi/intake/internal/spool"
	"github.com/yagi-crash/yagi/pkg/crash"
)

// coding is a Content-Encoding that is understood.
type coding string

const (
	codingIdentity coding = ""
	codingGzip     coding = "gzip"
	codingDeflate  coding = "deflate"
	codingZstd     coding = "zstd"
)

// zstdWindow is the largest window of a zstd body, in bytes: what RFC 9659 allows
// a Content-Encoding to ask for.
const zstdWindow = 8 << 20

// codingOf reads the Content-Encoding: one of those that are understood, in any
// case. Anything else, or several, is refused.
func codingOf(h http.Header) (coding, error) {
	switch c := coding(strings.ToLower(strings.Join(h.Values("Content-Encoding"), ","))); c {
	case "", "identity":
		return codingIdentity, nil
	case codingGzip, "x-gzip":
		return codingGzip, nil
	case codingDeflate, codingZstd:
		return c, nil
	}
	return "", &crash.Refusal{Reason: crash.ReasonUnsupportedEncoding, Status: http.StatusUnsupportedMediaType}
}

// plain is a body without its coding, bounded by its limit.
type plain struct {
	io.Reader
	io.Closer               // the decoder
	behind    io.ByteReader // reads what follows the coded body
}

// open returns the body without its coding. The caller must close it.
func (p *Post) open(decoders *Decoders) (*plain, error) {
	wire := io.NewSectionReader(p.body, 0, p.wire)
	if p.coding == codingIdentity {
		return &plain{wire, io.NopCloser(nil), strings.NewReader("")}, nil
	}
	coded := bufio.NewReader(wire)
	decoder, err := p.coding.decode(coded, decoders)
	if err != nil {
		return nil, p.coding.damaged(err)
	}
	limit := p.limits.inflated(p.wire)
	return &plain{&limited{src: inflate{decoder, p.coding}, left: limit, refusal: tooLarge("inflated", limit)}, decoder, coded}, nil
}

// dumpAt returns a section of the body without its coding, to be read later. Inflated
// bytes are not kept, since they may be many times the body: they are inflated again.
func (p *parser) dumpAt(start, size int64) io.ReaderAt {
	if p.again == nil {
		return io.NewSectionReader(p.body, start, size)
	}
	return &inflating{io.NewSectionReader(p.again, start, size), p.again}
}

// decode undoes the coding. What lies behind the first gzip member is not looked
// at, as in Antenna.
func (c coding) decode(r *bufio.Reader, decoders *Decoders) (io.ReadCloser, error) {
	switch c {
	case codingGzip:
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, err
		}
		z.Multistream(false)
		return z, nil
	case codingDeflate:
		// HTTP means zlib's format (RFC 9110 §8.4.1.2), some clients the bare one.
		if head, _ := r.Peek(2); len(head) == 2 && head[0]&0x0f == 8 && (int(head[0])<<8|int(head[1]))%31 == 0 {
			return zlib.NewReader(r)
		}
		return flate.NewReader(r), nil
	}
	return decoders.zstdOf(r)
}

// damaged is what the client is told of an error of the decoder.
func (c coding) damaged(err error) error {
	switch {
	case errors.Is(err, spool.ErrFile):
		return err
	case c == codingGzip:
		return crash.Malformed(crash.ReasonBadGzip, err)
	}
	return crash.Malformed(crash.ReasonBadEncoding, err)
}

// isDamage tells whether damaged made the error.
func isDamage(err error) bool {
	r, ok := errors.AsType[*crash.Refusal](err)
	return ok && (r.Reason == crash.ReasonBadGzip || r.Reason == crash.ReasonBadEncoding)
}

// inflate turns the errors of a decoder into refusals.
type inflate struct {
	src    io.Reader
	coding coding
}

// Read implements io.Reader.
func (i inflate) Read(p []byte) (int, error) {
	n, err := i.src.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = i.coding.damaged(err)
	}
	return n, err
}
