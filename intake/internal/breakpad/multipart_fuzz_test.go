package breakpad

import (
	"errors"
	"io"
	stdmultipart "mime/multipart"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzMultipart holds the scanner to the standard library's where RFC 2046
// allows one reading only, and to itself however the bytes arrive.
func FuzzMultipart(f *testing.F) {
	for _, body := range multipartSeeds() {
		f.Add("B", body)
		f.Add(breakpadBoundary, strings.ReplaceAll(body, "--B", "--"+breakpadBoundary))
	}
	f.Fuzz(func(t *testing.T, boundary, body string) {
		if boundary == "" || len(boundary) > maxBoundary || strings.ContainsAny(boundary, "\r\n") || len(body) > WindowSize {
			return
		}
		strict := scan(t, boundary, body, strictly)
		lenient := scan(t, boundary, body, leniently)

		if want, err := standard(boundary, body); err == nil && hasOneReading(boundary, body) {
			if diff := cmp.Diff(reading{parts: want}, strict, cmp.AllowUnexported(reading{})); diff != "" {
				t.Fatalf("mime/multipart reads it otherwise (-mime/multipart +ours):\n%s", diff)
			}
		}
		if !strict.failed && !strings.Contains(body, "--"+boundary+"--") {
			t.Fatal("a body without its final boundary is taken")
		}
		rest := body
		for _, part := range strict.parts {
			at := strings.Index(rest, part)
			if at < 0 {
				t.Fatalf("part %q is not in the body, or not in its place", part)
			}
			rest = rest[at+len(part):]
		}
		switch notes := lenient.notes; {
		case len(notes) == 0 && !cmp.Equal(strict, lenient, cmp.AllowUnexported(reading{})):
			t.Fatal("a file is read otherwise than a field, and no note says so")
		case slices.Contains(notes, gluedNextNote) && len(boundary) < gluedBoundary:
			t.Fatal("a short boundary ends a file without a line end before it")
		case len(notes) == 1 && notes[0] == gluedEndNote && !strict.failed:
			t.Fatal("a file ends without a line end although it has a proper end")
		}
	})
}

// multipartSeeds are the shapes that clients send, and those that are broken in
// every way we know of.
func multipartSeeds() []string {
	ok := field("ProductName", "Firefox")
	dump := file("upload_file_minidump", "application/octet-stream", "MDMP\x93\xa7\x00\r\n--\x00\r\n--B\xff--B\r")
	return []string{
		ok + dump + end,
		extra(`{"ProductName":"Firefox"}`) + dump + end,
		dump + ok + end,
		ok + glued("log", "BZh9\r\n--") + dump + end,
		ok + glued("upload_file_minidump", "MDMP\r\n--\r") + end,
		ok + glued("log", "BZh9") + glued("upload_file_minidump", "MDMP") + "--B--",
		lines("--B", "Content-Disposition: form-data; name=Android_Board", "", "goldfish", "", end),
		"preamble\r\n--Bx\r\n" + ok + end + "epilogue\r\n--B\r\n",
		strings.ReplaceAll(ok+dump+end, "\r\n", "\n"),
		"--B \t\r\n\r\n1\r\n--B-- \r\n",
		"--B\r\n\r\n--B\r\n\r\n\r\n--B--",
		"--B\n\n1\r\n--B\r\n\r\n2\r\n--B--\r\n",
		"no boundary",
		end,
		ok,
		ok + "--B\r\n",
		ok + "--B--x",
		ok + "--B---\r\n--B--\r\n",
		ok + lines("--B", "no colon", "", "x", "") + end,
		ok + lines("--B", "", "no headers", "") + end,
		ok + lines("--B", "X: y", " continued", "", "x", "") + end,
		ok + "--B" + strings.Repeat(" ", maxPadding) + "\r\n\r\n1\r\n--B--" + strings.Repeat("\t", maxPadding+1) + "\r\n",
		strings.Repeat("\r\n--B\r\n--B", 20) + end,
	}
}

// reading is what a scanner makes of a body. Parts before a failure count.
type reading struct {
	parts  []string
	notes  []string
	failed bool
}

// strictly and leniently copy the body of a part: a field's, or a file's.
func strictly(m *multipart, _ *reading, sink func([]byte) error) error { return m.copy(sink) }

func leniently(m *multipart, r *reading, sink func([]byte) error) error {
	return m.copyFile(func(note string) { r.notes = append(r.notes, note) }, sink)
}

// scan reads a body at once and byte by byte, which must be the same.
func scan(t *testing.T, boundary, body string, read func(*multipart, *reading, func([]byte) error) error) reading {
	t.Helper()
	var both [2]reading
	for i, step := range []int{WindowSize, 1} {
		r := &both[i]
		m := newMultipart(&source{t: t, rest: body, step: step}, boundary, make([]byte, WindowSize))
		r.failed = m.start() != nil
		for !m.done && !r.failed {
			var part strings.Builder
			r.failed = skipHeader(m) != nil || read(m, r, func(piece []byte) error {
				part.Write(piece)
				return nil
			}) != nil
			if !r.failed {
				r.parts = append(r.parts, part.String())
			}
		}
	}
	if diff := cmp.Diff(both[0], both[1], cmp.AllowUnexported(reading{})); diff != "" {
		t.Fatalf("at once and byte by byte differ:\n%s", diff)
	}
	return both[0]
}

// skipHeader leaves the meaning of header lines to the tests of theirs.
func skipHeader(m *multipart) error {
	for {
		if line, err := m.line(WindowSize - 1); err != nil || len(line) == 0 {
			return err
		}
	}
}

// source is a body that comes so many bytes at a time, its end together with the
// last of them when they come at once. Nobody may read behind the end.
type source struct {
	t     *testing.T
	rest  string
	step  int
	ended bool
}

// Read implements io.Reader.
func (s *source) Read(p []byte) (int, error) {
	if s.ended {
		s.t.Error("read behind the end of the body")
	}
	n := copy(p[:min(len(p), s.step)], s.rest)
	s.rest = s.rest[n:]
	if n == 0 || s.rest == "" && s.step > 1 {
		s.ended = true
		return n, io.EOF
	}
	return n, nil
}

// standard is what the standard library makes of a body.
func standard(boundary, body string) (parts []string, err error) {
	for r := stdmultipart.NewReader(strings.NewReader(body), boundary); ; {
		part, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			return parts, nil
		}
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(part)
		if err != nil {
			return nil, err
		}
		parts = append(parts, string(data))
	}
}

// hasOneReading tells whether every line that begins with the boundary is a
// delimiter by the letter of RFC 2046 (CRLF before it, no more padding than we
// take, CRLF behind it or, if it is final, the end), or can only be data, for a
// byte follows that no delimiter has there; and whether the final one is there.
// A boundary in the middle of a line is data, but for the first, which we take
// there; a bare LF in a part's header ends no line. What follows the final boundary
// does not matter.
func hasOneReading(boundary, body string) bool {
	dashed := "--" + boundary
	started := false
	for i := 0; ; i++ {
		next := strings.Index(body[i:], dashed)
		if next < 0 {
			return false
		}
		i += next
		behind := body[i+len(dashed):]
		rest, final := strings.CutPrefix(behind, "--")
		line := strings.TrimLeft(rest, " \t")
		switch {
		case i > 0 && body[i-1] != '\n':
			if !started {
				return false
			}
		case i > 0 && !strings.HasSuffix(body[:i], "\r\n") || len(rest)-len(line) > maxPadding:
			return false
		case strings.HasPrefix(line, "\r\n") || final && line == "":
			if started = true; final {
				return true
			}
			if header, _, _ := strings.Cut(line, "\r\n\r\n"); strings.Count(header, "\n") != strings.Count(header, "\r\n") {
				return false
			}
		case behind == "" || strings.ContainsRune(" \t\r\n-", rune(behind[0])):
			return false
		}
	}
}
