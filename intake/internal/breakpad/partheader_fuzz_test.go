package breakpad

import (
	"mime"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"
)

// Whatever a part's header is, its name can be a JSON key, its notes are few, it
// reads the same however its bytes come, and it is named as the standard has it
// wherever the standard's reader finds a name and both spell alike.
func FuzzPartHeader(f *testing.F) {
	for _, seed := range []string{
		"Content-Disposition: form-data; name=\"a\"; filename=\"f\"\r\nContent-Type: application/octet-stream\r\n",
		"content-disposition: attachment; name=a b/c[d]\xff\r\n", "Content-Disposition: form-data; name*=utf-8'de'K%C3%B6ln\r\n",
		"Content-Disposition: form-data; name=\"a\"; name=\"b\"\r\n", "Content-Disposition:\r\n name=\"x\"\r\n\tfilename=y\r\n",
		"Content-Transfer-Encoding: base64\r\n", "Content-Type: text/plain; charset=\xe9\r\n", "nonsense\r\n", " folded: first\r\n", ":\n", "",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, lines string) {
		limits := DefaultLimits()
		limits.HeaderBytes, limits.HeaderLines = 1000, 20
		text := lines + "\r\nbody"
		h, err := newMultipart(strings.NewReader(text), "B", make([]byte, WindowSize)).header(limits)
		slow, errSlow := newMultipart(iotest.OneByteReader(strings.NewReader(text)), "B", make([]byte, WindowSize)).header(limits)
		if (err == nil) != (errSlow == nil) || h.name != slow.name || h.filename != slow.filename || h.kind != slow.kind {
			t.Fatalf("at once: %+v, %v; byte by byte: %+v, %v", h, err, slow, errSlow)
		}
		if err != nil {
			return
		}
		if !utf8.ValidString(h.name) || len(h.name) > 3*len(lines) || len(h.notes) > 5 {
			t.Fatalf("name %q, notes %q", h.name, h.notes)
		}
		h.isJSON()
		h.isText()
		h.charset()
		value, one := strings.CutPrefix(lines, "Content-Disposition: ")
		value = strings.TrimSuffix(value, "\r\n")
		if !one || strings.ContainsAny(value, "\r\n\\*") {
			return
		}
		_, params, standard := mime.ParseMediaType(value)
		if want := params["name"]; standard == nil && want != "" && h.name != strings.ToValidUTF8(want, "\uFFFD") {
			t.Fatalf("%q: name %q, the standard reads %q", value, h.name, want)
		}
	})
}
