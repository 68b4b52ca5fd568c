package transport

import (
	"bufio"
	"bytes"
	"net/http"
	"testing"
)

// Where net/http finds the end of a head, so does the scanner, in however many
// pieces the head arrives.
func FuzzHeadEnd(f *testing.F) {
	for _, head := range []string{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n",
		"POST / HTTP/1.1\nHost: x\nContent-Length: 5\n\nhello",
		"POST / HTTP/1.0\r\n\r\n\r\n\r\n",
		"POST / HTTP/1.1\r\nX: a\r\n b\r\n\t\r\n \n\r\nx",
		"GET / HTTP/1.1\r\nX:\r\r\n\r\n",
		"GET / HTTP/1.1\r\n\n",
		"GET / HTTP/1.1\n\r\nx",
	} {
		f.Add([]byte(head), uint8(3))
	}
	f.Fuzz(func(t *testing.T, data []byte, piece uint8) {
		r := bufio.NewReaderSize(bytes.NewReader(data), 1<<16)
		if len(data) > 1<<15 {
			return
		}
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		want := len(data) - r.Buffered()
		var s scanner
		for at, step := 0, int(piece)+1; at < len(data); at += step {
			if end := s.scan(data[at:min(at+step, len(data))]); end >= 0 {
				if at+end != want {
					t.Errorf("end at %d, want %d", at+end, want)
				}
				return
			}
		}
		t.Errorf("no end, want %d", want)
	})
}

// What readers may take differently is noticed, and nothing else.
func TestAmbiguousHeads(t *testing.T) {
	for head, want := range map[string]bool{
		"GET / HTTP/1.1\r\nX: a b\r\nY:\tc\r\n\r\n": false,
		"GET / HTTP/1.1\r\nX: a\r\n b\r\n\r\n":      true,
		"GET / HTTP/1.1\r\nX: a\r\n\tb\r\n\r\n":     true,
		"GET / HTTP/1.1\r\nX: a\nY: b\r\n\r\n":      true,
		"GET / HTTP/1.1\r\nX: a\r\n\n":              true,
	} {
		for step := 1; step <= len(head); step++ {
			var s scanner
			end := -1
			for at := 0; at < len(head); at += step {
				end = s.scan([]byte(head[at:min(at+step, len(head))]))
			}
			if end < 0 || s.odd != want {
				t.Errorf("%q by %d: end %d, ambiguous %t, want %t", head, step, end, s.odd, want)
			}
		}
	}
}
