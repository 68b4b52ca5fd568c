package breakpad

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"

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

// open returns the body behind its coding, which holds to the limit, and where
// to look for what lies behind that.
func (p *Post) open() (plain io.Reader, behind io.ByteReader, err error) {
	wire := io.NewSectionReader(p.body, 0, p.wire)
	if p.coding == codingIdentity {
		return wire, strings.NewReader(""), nil
	}
	coded := bufio.NewReader(wire)
	plain, err = p.coding.decode(coded)
	if err != nil {
		return nil, nil, p.coding.damaged(err)
	}
	limit := int64(p.limits.Inflated)
	return &limited{src: inflate{plain, p.coding}, left: limit, refusal: tooLarge("inflated", limit)}, coded, nil
}

// again returns what open does, to be read in parts and later. What a compressed
// body holds is not kept, since it may be a hundred times its size: it is
// decompressed anew.
func (p *Post) again() io.ReaderAt {
	if p.coding == codingIdentity {
		return p.body
	}
	return &replay{post: p}
}

// replay decompresses a body up to where it is asked for. Reading on from there
// goes on.
type replay struct {
	post *Post

	mu    sync.Mutex
	plain io.Reader
	at    int64
}

// ReadAt implements io.ReaderAt. Its errors are those of Parse.
func (r *replay) ReadAt(p []byte, off int64) (n int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.plain == nil || off < r.at {
		if r.plain, _, err = r.post.open(); err != nil {
			return 0, err
		}
		r.at = 0
	}
	skipped, err := io.CopyN(io.Discard, r.plain, off-r.at)
	r.at += skipped
	if err != nil {
		return 0, err
	}
	n, err = io.ReadFull(r.plain, p)
	r.at += int64(n)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	return n, err
}

// decode undoes the coding. What lies behind the first gzip member is not looked
// at, as in Antenna.
func (c coding) decode(r *bufio.Reader) (io.Reader, error) {
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
	return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(zstdWindow))
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
