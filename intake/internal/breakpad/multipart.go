package breakpad

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

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

const (
	// gluedPart is how the part behind a file begins in Breakpad, whose
	// delimiter between the two may lack the line end before it (its
	// HTTPMultipartUpload.m, and its http_upload.cc for Windows).
	gluedPart = `Content-Disposition: form-data; name="`
	// gluedBoundary is the shortest boundary, in bytes, that such a delimiter
	// may have. Breakpad's are 27 dashes and 16 digits.
	gluedBoundary = 16
)

// multipart takes a multipart body apart as it arrives (RFC 2046 §5.1). The
// delimiter "CRLF -- boundary" ends a part only where a line end or the final
// "--" follows it; otherwise it is data. Lines that end in a bare LF are
// understood when the first delimiter's line does, and then all of them must.
// As in Antenna the first delimiter may stand within a line, and behind the last
// "--" some bytes may follow that do not belong there.
//
// Only behind a file may a delimiter lack the line end before it, as Breakpad
// leaves it out on macOS between two files, and on Windows (since its change
// c7acbcef of November 2022) at the end of the body too: see endsFile.
type multipart struct {
	src     io.Reader
	buf     []byte
	unread  []byte // the part of buf that is not consumed yet
	err     error  // why src gives no more
	lineEnd []byte // CRLF or LF
	dashed  []byte // "--", boundary

	onlyDashes bool // of dashed, which may then occur at every byte
	done       bool // the final delimiter was met
	bareLF     bool // the line of the last delimiter ended in a bare LF
	glued      bool // the last delimiter had no line end before it
	empty      bool // nothing of the part's body was handed out yet
	headers    int  // bytes of all header lines so far

	started bool // the preamble is over
	inFile  bool // the part is a file
}

var (
	errNoEnd = errors.New("body ends before its final boundary")
	errMixed = errors.New("some lines end in LF and some in CRLF")
)

func newMultipart(src io.Reader, boundary string, window []byte) *multipart {
	m := &multipart{
		src: src, buf: window, lineEnd: []byte("\n"), dashed: []byte("--" + boundary),
		onlyDashes: strings.Trim(boundary, "-") == "",
	}
	m.unread = m.buf[:0]
	return m
}

// start skips the preamble and learns the line end. It must be called once,
// before anything else.
func (m *multipart) start() error {
	if err := m.copy(func([]byte) error { return nil }); err != nil {
		return err
	}
	if !m.bareLF {
		m.lineEnd = []byte("\r\n")
	}
	m.started = true
	return nil
}

// copyFile is copy for a part that holds a file. It notes a line end that was
// missing before the delimiter.
func (m *multipart) copyFile(note func(string), sink func([]byte) error) error {
	m.inFile = true
	err := m.copy(sink)
	m.inFile = false
	switch {
	case err != nil || !m.glued:
	case m.done:
		note("no line end before the final boundary")
	default:
		note("no line end before a boundary")
	}
	return err
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
			bareLF := len(m.lineEnd) == 1
			if m.started && (bareLF && delim.crlf || !bareLF && delim.bareLF && !delim.final) {
				return errMixed // a CR before the delimiter might stay in the data
			}
			m.unread = m.unread[delim.length:]
			m.done, m.bareLF, m.glued = delim.final, delim.bareLF, delim.glued
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
	crlf   bool // its line ends in CRLF,
	bareLF bool // or in a bare LF
	glued  bool // no line end stands before it
}

// locate tells how many of the unread bytes are data and which delimiter
// follows them, if it is there already. Without one all that there will ever be
// is data.
func (m *multipart) locate() (data int, found delimiter) {
	for from := 0; ; {
		i := bytes.Index(m.unread[from:], m.dashed)
		switch {
		case i < 0 && m.err != nil:
			return len(m.unread), delimiter{}
		case i < 0:
			return max(from, len(m.unread)-len(m.lineEnd)-len(m.dashed)+1), delimiter{}
		}
		i += from
		if from = m.skip(i); from > i {
			continue
		}
		data, found, sure := m.delimiterAt(i)
		if found.length > 0 || !sure {
			return data, found
		}
		from = i + 1
	}
}

// skip rules out the boundary at i as cheaply as possible, since a body may consist of
// them. It returns i if that may be a delimiter, else where to continue.
func (m *multipart) skip(i int) int {
	end := i + len(m.dashed)
	rest := m.unread[end:]
	if len(rest) < longestEnd {
		return i // the end of the body has rules of its own
	}
	if rest[0] != '-' {
		if isEndByte(rest[0]) {
			return i
		}
		return i + 1
	}
	if rest[1] == '-' && isEndByte(rest[2]) {
		return i
	}
	if !m.onlyDashes {
		return i + 1
	}
	for end < len(m.unread) && m.unread[end] == '-' {
		end++
	}
	return max(i+1, min(end-len("--"), len(m.unread)-longestEnd+1)-len(m.dashed))
}

// isEndByte reports whether c may follow a boundary in a delimiter.
func isEndByte(c byte) bool { return c == '\r' || c == '\n' || c == ' ' || c == '\t' }

// delimiterAt reads the delimiter whose boundary is at i, and tells how many
// bytes stand before it. It is not sure when more of the body might change the
// answer. In a part that is still empty the line end is that of its headers.
func (m *multipart) delimiterAt(i int) (data int, found delimiter, sure bool) {
	before, whole := bytes.CutSuffix(m.unread[:i], m.lineEnd)
	glued := m.started && !whole && (i > 0 || !m.empty)
	rest := m.unread[i+len(m.dashed):]
	switch {
	case glued && !m.inFile:
		return len(before), delimiter{}, true
	case len(rest) < longestEnd && m.err == nil:
		return len(before), delimiter{}, false
	}
	found = delimiterEnd(rest)
	switch {
	case glued && !m.endsFile(found, rest):
		found = delimiter{}
	case !glued && found.length == 0 && m.endsBody(rest):
		found = delimiter{length: len("--"), final: true}
	}
	if found.length > 0 {
		found.glued = glued
		found.length += i - len(before) + len(m.dashed)
	}
	return len(before), found, true
}

// endsFile tells whether a delimiter without a line end before it ends a file.
// A final one does when the body ends with it: nothing else could have been
// meant. Another one would be data to a strict reader, so the next part's first
// header has to follow, and the boundary to be none that a file has by chance.
func (m *multipart) endsFile(found delimiter, rest []byte) bool {
	if found.final {
		return m.err != nil && found.length == len(rest)
	}
	next, ok := bytes.CutPrefix(rest, m.lineEnd)
	return ok && len(m.dashed) >= len("--")+gluedBoundary && bytes.HasPrefix(next, []byte(gluedPart))
}

// endsBody tells whether a boundary that something odd follows is the final one
// all the same, such as a line end of which the half is lost: it has its "--", few
// bytes are left, and in them no other boundary.
func (m *multipart) endsBody(rest []byte) bool {
	return m.err != nil && len(rest) < longestEnd && bytes.HasPrefix(rest, []byte("--")) && !bytes.Contains(rest, m.dashed)
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
		return delimiter{length: length + 2, final: final, crlf: true}
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
		i := bytes.Index(m.unread[:max(0, min(len(m.unread), limit+len(m.lineEnd)))], m.lineEnd)
		switch {
		case i < 0 && len(m.unread) >= limit+len(m.lineEnd):
			return nil, fmt.Errorf("part headers of more than %d bytes", limit)
		case i > 0 && len(m.lineEnd) == 1 && m.unread[i-1] == '\r':
			return nil, errMixed
		case i >= 0:
			line := m.unread[:i]
			m.unread = m.unread[i+len(m.lineEnd):]
			return line, nil
		case !m.fill():
			return nil, m.ended()
		}
	}
}

// fill reads more after the unread bytes, and reports whether there was any. It fills
// half of the window or more, since a decoder may return a byte at a time.
func (m *multipart) fill() bool {
	n := copy(m.buf, m.unread)
	end := n
	for m.err == nil && (end == n || end < len(m.buf)/2) {
		var got int
		got, m.err = m.src.Read(m.buf[end:])
		end += got
	}
	m.unread = m.buf[:end]
	return end > n
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
