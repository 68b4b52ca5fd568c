package visible_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/yagi-crash/yagi/pkg/visible"
)

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"plain text, ümlaut, 日本\u3000語, \t\n": "plain text, ümlaut, 日本\u3000語, \t\n",
		"\x1b]0;title\a":           `\u001b]0;title\u0007`,
		"\u009b2J":                 `\u009b2J`, // C1 as UTF-8
		"\x9b2J":                   `\x9b2J`,   // C1 as a byte
		"a\rb\bc\x7fd\x00":         `a\u000db\u0008c\u007fd\u0000`,
		"\u202e\u202a\u2066\u2069": `\u202e\u202a\u2066\u2069`,
		"\u2028\u2029\u0085":       `\u2028\u2029\u0085`,
		"\u200b\ufeff\u00ad\u061c": `\u200b\ufeff\u00ad\u061c`,
		"\U000e0041":               `\udb40\udc41`, // a tag
		"\ufffd\xff":               "\ufffd" + `\xff`,
		"":                         "",
	} {
		if got := visible.Text(in); got != want {
			t.Errorf("%q shows as %q, want %q", in, got, want)
		}
	}
}

func TestLine(t *testing.T) {
	for in, want := range map[string]string{
		"short":                  "short",
		"a\nb\tc":                `a\nb c`,
		strings.Repeat("é", 10):  strings.Repeat("é", 10),
		strings.Repeat("é", 11):  strings.Repeat("é", 10) + "... (1 more characters)",
		strings.Repeat("x", 999): strings.Repeat("x", 10) + "... (989 more characters)",
	} {
		if got := visible.Line(in, 10); got != want {
			t.Errorf("%q shows as %q, want %q", in, got, want)
		}
	}
}

// What was JSON is the same JSON, and shows nothing that a terminal obeys.
func FuzzWriter(f *testing.F) {
	f.Add("\x1b[2J\u009b\u202e\U000e0041\"\\\xff")
	f.Fuzz(func(t *testing.T, text string) {
		document, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		if n, err := visible.Writer(&out).Write(document); err != nil || n != len(document) {
			t.Fatal(n, err)
		}
		var before, after string
		if err := json.Unmarshal(document, &before); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(out.String()), &after); err != nil || before != after {
			t.Errorf("%q became %q, %v", before, after, err)
		}
		for _, r := range out.String() + visible.Text(text) {
			if r != '\n' && r != '\t' && !unicode.IsGraphic(r) {
				t.Errorf("%q shows %U", text, r)
			}
		}
		if !utf8.ValidString(visible.Text(text)) {
			t.Errorf("%q is not UTF-8 afterwards", text)
		}
	})
}
