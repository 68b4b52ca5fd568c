package transport

import "bytes"

// scanner finds the end of a request's head in what arrives, line by line as
// net/http does: a line ends in LF, and an empty one ends the head.
type scanner struct {
	lines int  // whole lines that are not empty, the request line too
	size  int  // of the line that is unfinished
	last  byte // of the line that is unfinished
	odd   bool // see Conn.Ambiguous
}

// scan reads p and returns the index after the head's end, or -1.
func (s *scanner) scan(p []byte) int {
	for at := 0; at < len(p); {
		line, _, whole := bytes.Cut(p[at:], []byte{'\n'})
		at += len(line) + 1
		s.take(line)
		if !whole {
			return -1
		}
		empty := s.size == 0 || s.size == 1 && s.last == '\r'
		s.odd = s.odd || s.last != '\r'
		if empty && s.lines > 0 {
			return at
		}
		if !empty {
			s.lines++
		}
		s.size, s.last = 0, 0
	}
	return -1
}

// take adds a piece to the line that is unfinished.
func (s *scanner) take(piece []byte) {
	if len(piece) == 0 {
		return
	}
	if s.size == 0 && (piece[0] == ' ' || piece[0] == '\t') {
		s.odd = true
	}
	s.size += len(piece)
	s.last = piece[len(piece)-1]
}

// begun reports whether a head has begun: some clients end a body in a line end
// that is not part of it.
func (s *scanner) begun() bool { return s.lines > 0 || s.size > 1 || s.size == 1 && s.last != '\r' }
