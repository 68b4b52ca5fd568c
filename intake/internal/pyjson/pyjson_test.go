package pyjson_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/yagi-crash/yagi/intake/internal/pyjson"
)

// Each want is what Python 3.11 printed for str(json.loads(value)).
func TestText(t *testing.T) {
	for value, want := range map[string]string{
		`""`: "", `"a"`: "a", `"a\"\\\/\b\f\n\r\t\u00e9\uD83D\uDE00"`: "a\"\\/\b\f\n\r\té😀",
		`null`: "None", `true`: "True", `false`: "False",
		`0`: "0", `-0`: "0", `42`: "42", `123456789012345678901234567890`: "123456789012345678901234567890",
		`1.0`: "1.0", `-0.0`: "-0.0", `0.1`: "0.1", `1e16`: "1e+16", `1e15`: "1000000000000000.0", `9999999999999999.0`: "1e+16",
		`0.0001`: "0.0001", `0.00001`: "1e-05", `1e22`: "1e+22", `1e400`: "inf", `-1e400`: "-inf", `5e-324`: "5e-324",
		`[]`: "[]", `{}`: "{}", ` [ 1 , "a" , null ] `: "[1, 'a', None]",
		`{"a":1.0,"b":[true,{"c":"d"}],"a":2}`:                                   "{'a': 2, 'b': [True, {'c': 'd'}]}",
		`["it's","\"","'\"","\\"]`:                                               `["it's", '"', '\'"', '\\']`,
		`["\u0000\u001f\n\r\t\u007f\u00a0\u00ad\u2028\ufeff\ue000\udbff\udc00"]`: `['\x00\x1f\n\r\t\x7f\xa0\xad\u2028\ufeff\ue000\U0010fc00']`,
		`["\ud800","é\u0378"]`:                                                   `['\ud800', 'é\u0378']`,
		`"\ud800"`:                                                               "\xed\xa0\x80", // as bytes: .encode("utf-8", "surrogatepass")
	} {
		if got := pyjson.Text(json.RawMessage(value)); got != want {
			t.Errorf("%s: got %q, want %q", value, got, want)
		}
	}
}

// What Python's json.loads takes and refuses, where it and RFC 8259 may differ.
func TestParse(t *testing.T) {
	for document, want := range map[string]bool{
		`{"a":[NaN,Infinity,-Infinity]}`: true, `-NaN`: false, `+1`: false, `nan`: false, `Inf`: false,
		`"\ud800"`: true, `"\udc00\ud800"`: true, `"\u12"`: false, `"\x"`: false, "\"\t\"": false, "\"\x7f\"": true,
		"\ufeff{}": false, "\u00a0{}": false, "\v{}": false, " \t\r\n{} \t\r\n": true,
		`01`: false, `-`: false, `1.`: false, `.5`: false, `1e`: false, `1e+5`: true, `1E5`: true, `-0.0e-0`: true, `--1`: false,
		``: false, ` `: false, `{} {}`: false, `[1,]`: false, `{"a":1,}`: false, `{a:1}`: false, `{"a"}`: false, `{"a" 1}`: false, `[1 2]`: false,
		`]`: false, `[}`: false, `{]`: false, `[`: false, `{"a":`: false, `"`: false, `"\`: false, `truee`: false, `tru`: false, `null`: true,
		strings.Repeat("[", 900) + strings.Repeat("]", 900):         true,
		strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000): false,
	} {
		var doc pyjson.Doc
		if err := doc.Parse([]byte(document)); (err == nil) != want {
			t.Errorf("%.40q: %v, want it taken: %t", document, err, want)
		}
	}
}

func TestMembers(t *testing.T) {
	var doc pyjson.Doc
	if err := doc.Parse([]byte(`{"a":1,"b":{"c":true},"\u0061":2.0,"n":-99999999999999999999}`)); err != nil {
		t.Fatal(err)
	}
	a, ok := doc.Root().Member("a")
	if !ok || a.String() != "2.0" {
		t.Errorf("of a repeated key the last value counts, got %s", a)
	}
	if _, ok := a.Int(); ok {
		t.Error("2.0 is an integer")
	}
	b, _ := doc.Root().Member("b")
	c, _ := b.Member("c")
	if n, ok := c.Int(); !ok || n != 1 {
		t.Errorf("true is %d", n)
	}
	if big, _ := doc.Root().Member("n"); true {
		if n, ok := big.Int(); !ok || n > -1<<62 {
			t.Errorf("a large negative number is %d", n)
		}
	}
	if _, ok := c.Member("d"); ok {
		t.Error("true has a member")
	}
}

// A document that encoding/json takes is taken here too, and the text of a
// string is the same; the other way round there are only the differences that
// TestParse lists.
func FuzzParse(f *testing.F) {
	for _, s := range []string{`{"a":[1,2.5e3,"x\u00e9",null]}`, `"\ud83d\ude00"`, `[[],{}]`, `-0`, "\"\u2028\""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		var doc pyjson.Doc
		err := doc.Parse(document)
		var text string
		if json.Valid(document) && err != nil && len(document) < 1000 {
			t.Errorf("%q: %v", document, err)
		}
		if err == nil {
			_ = doc.Root().String()
		}
		if json.Unmarshal(document, &text) == nil && string(document) != "null" {
			if got := doc.Root().String(); strings.ToValidUTF8(got, "?") == got && !strings.Contains(text, "\ufffd") && got != text {
				t.Errorf("%q: got %q, want %q", document, got, text)
			}
		}
	})
}
