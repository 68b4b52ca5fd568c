package breakpad

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/yagi-crash/yagi/pkg/crash"
)

// WindowSize is how much of a body is looked at at a time, in bytes. It must hold
// a part's headers, and a delimiter with what may follow it.
const WindowSize = 64 << 10

const (
	// maxPadding is how many spaces and tabs may follow a delimiter, which RFC
	// 2046 allows in any number.
	maxPadding = 128
	// longestEnd is as much as has to be seen behind a boundary.
	longestEnd = len("--") + maxPadding + len("\r\n")
)

// multipart takes a multipart body apart as it arrives (RFC 2046 §5.1). The
// delimiter "CRLF -- boundary" ends a part only where a line end or the final
// "--" follows it; otherwise it is data. Lines that end in a bare LF are
// understood when the first delimiter's line does.
type multipart struct {
	src    io.Reader
	buf    []byte
	unread []byte // the part of buf that is not consumed yet
	err    error  // why src gives no more
	delim  []byte // CRLF or LF, "--", boundary
	done   bool   // the final delimiter was met
	bareLF bool   // the line of the last delimiter ended in a bare LF
	empty  bool   // nothing of the part's body was handed out yet

	started bool // the preamble is over
}

var (
	errNoEnd = errors.New("body ends before its final boundary")
	errMixed = errors.New("lines end in LF at first and in CRLF later")
)

func newMultipart(src io.Reader, boundary string, window []byte) *multipart {
	m := &multipart{src: src, buf: window, delim: []byte("\r\n--" + boundary)}
	m.unread = m.buf[:0]
	return m
}

// start skips the preamble and learns the line end. It must be called once,
// before anything else.
func (m *multipart) start() error {
	crlf := m.delim
	m.delim = crlf[1:]
	if err := m.copy(func([]byte) error { return nil }); err != nil {
		return err
	}
	if !m.bareLF {
		m.delim = crlf
	}
	m.started = true
	return nil
}

// copy hands the rest of the part's body to sink, piece by piece, and goes on
// behind the delimiter.
func (m *multipart) copy(sink func([]byte) error) error {
	for m.empty = true; ; {
		data, delim := m.locate()
		if data > 0 {
			if err := sink(m.unread[:data]); err != nil {
				return err
			}
			m.unread = m.unread[data:]
			m.empty = false
		}
		if delim.length > 0 {
			if m.delim[0] == '\n' && m.started && !delim.bareLF && !delim.final {
				return errMixed // the CR before the LF of the delimiter would stay in the data
			}
			m.unread = m.unread[delim.length:]
			m.done, m.bareLF = delim.final, delim.bareLF
			return nil
		}
		if data == 0 && m.err != nil {
			return m.ended()
		}
		if data == 0 {
			m.fill()
		}
	}
}

// delimiter is a boundary with all that belongs to it.
type delimiter struct {
	length int // bytes; 0: none was found
	final  bool
	bareLF bool
}

// locate tells how many of the unread bytes are data and which delimiter
// follows them, if it is there already. A part that is still empty may end
// with a delimiter that lacks the line end before it.
func (m *multipart) locate() (data int, found delimiter) {
	if dashed := m.delim[bytes.IndexByte(m.delim, '-'):]; m.empty && bytes.HasPrefix(m.unread, dashed) {
		if found, sure := m.delimiterAt(0, dashed); found.length > 0 || !sure {
			return 0, found
		}
	}
	for from := 0; ; {
		i := bytes.Index(m.unread[from:], m.delim)
		if i < 0 {
			return max(from, len(m.unread)-len(m.delim)+1), delimiter{}
		}
		found, sure := m.delimiterAt(from+i, m.delim)
		if found.length > 0 || !sure {
			return from + i, found
		}
		from += i + 1
	}
}

// delimiterAt reads the delimiter that begins with the given bytes at i. It is
// not sure when more of the body might change the answer.
func (m *multipart) delimiterAt(i int, begins []byte) (found delimiter, sure bool) {
	rest := m.unread[i+len(begins):]
	if len(rest) < longestEnd && m.err == nil {
		return delimiter{}, false
	}
	found = delimiterEnd(rest)
	if found.length > 0 {
		found.length += len(begins)
	}
	return found, true
}

// delimiterEnd looks at what follows a boundary: the final "--" or not, padding,
// and a line end, in place of which the body may end behind the final one. Its
// length is 0 when the boundary was none.
func delimiterEnd(rest []byte) delimiter {
	all := len(rest)
	rest, final := bytes.CutPrefix(rest, []byte("--"))
	padding := 0
	for padding < min(len(rest), maxPadding) && (rest[padding] == ' ' || rest[padding] == '\t') {
		padding++
	}
	rest = rest[padding:]
	length := all - len(rest)
	switch {
	case bytes.HasPrefix(rest, []byte("\r\n")):
		return delimiter{length: length + 2, final: final}
	case bytes.HasPrefix(rest, []byte("\n")):
		return delimiter{length: length + 1, final: final, bareLF: true}
	case final && len(rest) == 0:
		return delimiter{length: length, final: true}
	}
	return delimiter{}
}

// line returns the next line without its end. It is valid until the next call.
func (m *multipart) line(limit int) ([]byte, error) {
	for {
		i := bytes.IndexByte(m.unread, '\n')
		switch {
		case i > limit || i < 0 && len(m.unread) > limit:
			return nil, fmt.Errorf("part headers of more than %d bytes", limit)
		case i >= 0:
			line := bytes.TrimSuffix(m.unread[:i], []byte("\r"))
			m.unread = m.unread[i+1:]
			return line, nil
		case !m.fill():
			return nil, m.ended()
		}
	}
}

// fill reads more behind what is unread and tells whether there was any.
func (m *multipart) fill() bool {
	n := copy(m.buf, m.unread)
	for m.err == nil {
		var got int
		got, m.err = m.src.Read(m.buf[n:])
		if got > 0 {
			m.unread = m.buf[:n+got]
			return true
		}
	}
	m.unread = m.buf[:n]
	return false
}

// ended says why the body has no more: the reader's own refusal if it has one.
func (m *multipart) ended() error {
	if refusal, ok := errors.AsType[*crash.Refusal](m.err); ok {
		return refusal
	}
	if errors.Is(m.err, io.EOF) {
		return errNoEnd
	}
	return fmt.Errorf("reading the body: %w", m.err)
}
