package breakpad

import (
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Names in the spelling of RFC 8187 are read, though RFC 7578 forbids them.
func TestExtendedNames(t *testing.T) {
	const told = "part that is named by name* instead of name"
	for name, c := range map[string]struct {
		disposition string
		want        got
	}{
		"decoded":            {`name*=UTF-8'de'K%C3%B6ln%2b`, got{Annotations: map[string]string{"Köln+": `"1"`}, Notes: []string{told}}},
		"another charset":    {`name*=iso-8859-1''K%F6ln`, got{Annotations: map[string]string{"Köln": `"1"`}, Notes: []string{told}}},
		"the plain one wins": {`name*=utf-8''x; name=y`, got{Annotations: map[string]string{"y": `"1"`}}},
		"no charset":         {`name*=x`, got{Notes: []string{told}}},
		"a charset too few":  {`name*=''x`, got{Notes: []string{told}}},
		"a bad escape":       {`name*=utf-8''%fx`, got{Notes: []string{told}}},
		"not in its charset": {`name*=utf-8''%ff`, got{Annotations: map[string]string{"\uFFFD": `"1"`}, Notes: []string{told, "part whose name is not UTF-8: \uFFFD"}}},
		"a file name makes it a file": {`name=log; filename*=utf-8''log.txt`, got{
			Dumps: map[string]string{"log": "1"}, Notes: []string{"unknown content type: log text/plain"},
		}},
	} {
		body := field("a", "1") + lines("--B", "Content-Disposition: form-data; "+c.disposition, "", "1", "") + end
		report, err := parse(request(formData, "", strings.NewReader(body), -1), DefaultLimits())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want := got{Annotations: map[string]string{"a": `"1"`}, Dumps: map[string]string{}, Notes: c.want.Notes, Payload: "multipart"}
		maps.Copy(want.Annotations, c.want.Annotations)
		maps.Copy(want.Dumps, c.want.Dumps)
		if diff := cmp.Diff(want, flat(report)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// Quotes, backslashes and semicolons mean what they mean to Antenna: these are
// the answers of its parser (parse_header of Falcon 4.3.1).
func TestParametersAreReadAsByAntenna(t *testing.T) {
	for _, c := range []struct{ disposition, name, filename string }{
		{`form-data; name="a\\"; filename="b"`, `a"; filename="b`, ``},
		{`form-data; name="a\"; filename="b"`, `a"; filename="b`, ``},
		{`form-data; name="C:\x\y.dmp"`, `C:\x\y.dmp`, ``},
		{`form-data; name="\\\"a"`, `\"a`, ``},
		{`form-data; name="\\\\"`, `\\`, ``},
		{`form-data; name="a\;b"; filename="c"`, `a\;b`, `c`},
		{`form-data; name=a\;b`, `a\`, ``},
		{`form-data; name="a;b"; filename=c`, `a;b`, `c`},
		{`form-data; name="a`, `"a`, ``},
		{`form-data; name="a;name=b`, `"a;name=b`, ``},
		{`form-data; name="`, `"`, ``},
		{`form-data; name=""`, ``, ``},
		{`form-data; name=a"b;c"d; filename=x`, `a"b;c"d`, `x`},
		{`form"data; name="a"; filename="b"`, ``, ``},
		{`form-data; name="a" b`, `"a" b`, ``},
		{`form-data; name="a"x"b"`, `a"x"b`, ``},
		{`form-data; name='a;b'`, `'a`, ``},
		{`form-data;; name=a;`, `a`, ``},
		{`form-data; name = "a" ; FileName= b`, `a`, `b`},
		{`form-data; name=a=b`, `a=b`, ``},
		{"form-data; \x1fname\x1c=\x1d\"a\" \x1e", "a", ""},
	} {
		var h partHeader
		h.dispose(c.disposition)
		if h.name != c.name || h.filename != c.filename {
			t.Errorf("%s: name %q, file name %q, want %q and %q", c.disposition, h.name, h.filename, c.name, c.filename)
		}
	}
}

// The type of a part is looked at as by Antenna: in small letters, and no further
// than it has to be.
func TestTypesAreReadAsByAntenna(t *testing.T) {
	for _, c := range []struct {
		kind       string
		json, text bool
	}{
		{"application/json; charset=utf-8", true, false},
		{"application/json5", true, false},
		{"Application/JSON", false, false},
		{"text/plain; charset=utf-8", false, true},
		{"text/plain-ish", false, true},
		{"Text/Plain", false, false},
		{"text/html", false, false},
		{"", false, false},
	} {
		h := partHeader{kind: c.kind}
		if h.isJSON() != c.json || h.isText() != c.text {
			t.Errorf("%q: JSON %t, text %t", c.kind, h.isJSON(), h.isText())
		}
	}
}

// A character set goes by the names that Python has for it, and Antenna with it;
// the note has the name as it was sent.
func TestCharsetNames(t *testing.T) {
	const value = "K\xc3\xb6ln"
	for charset, want := range map[string]string{
		"UTF-8": "Köln", "utf_8": "Köln", "U8": "Köln", "'utf-8'": "Köln", "utf 8": "Köln",
		"ISO-8859-1": "KÃ¶ln", "ISO_8859-1": "KÃ¶ln", "l1": "KÃ¶ln", "cp819": "KÃ¶ln",
		"US-ASCII": "", "646": "", "klingon": "", "": "", "utf-8\x00": "", "utf--16": "",
	} {
		if text, ok := decodeText(charset, []byte(value)); text != want || ok != (want != "") {
			t.Errorf("%q is %q, %t, want %q", charset, text, ok, want)
		}
		if text, ok := decodeText(charset, nil); text != "" || !ok {
			t.Errorf("nothing in %q is %q, %t", charset, text, ok)
		}
	}
}
