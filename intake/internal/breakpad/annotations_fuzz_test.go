package breakpad

import (
	"encoding/json"
	"errors"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/yagi-crash/yagi/pkg/crash"
)

// Annotations that are taken can be stored: raw_crash is valid JSON with them,
// no deeper than allowed, and they are what the standard's reader has. All others
// are refused for a reason.
func FuzzAnnotations(f *testing.F) {
	for _, seed := range []string{
		`{"a":"1"}`, `{"a":1,"a":{"b":[null,true,1E400]}}`, "\xef\xbb\xbf{}", `null`, `[]`, `"a"`, `{"a":NaN}`, `{"\ud800":"\ud800"}`,
		`{"metadata":{"payload":1},"uuid":null,"version":[]}`, `{"a":[[[[[[[[[[]]]]]]]]]]}`, `{"a":"[[[[[[\"[[["}`, `{} {}`, "{\"a\":\"\xff\"}", `{"a":123456789012345678901234567890}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		limits := DefaultLimits()
		limits.JSONDepth, limits.Annotations = 8, 50
		annotations, tooLong, err := decodeJSON(text, limits)
		if err != nil {
			if refusal, ok := errors.AsType[*crash.Refusal](err); len(text) < 100 && (!ok || refusal.Status != 400) {
				t.Fatalf("error without a reason: %v", err)
			}
			return
		}
		report := crash.Report{ID: "de1bb258-cbbf-4589-a673-34f800160918", Received: time.Unix(0, 0), Annotations: annotations}
		sealed, err := report.Seal()
		if err != nil {
			t.Fatalf("sealing: %v", err)
		}
		stored, err := sealed.RawCrash.AppendTo(nil)
		if err != nil || !json.Valid(stored) || !utf8.Valid(stored) {
			t.Fatalf("raw_crash is no JSON: %q, %v", stored, err)
		}
		if d, _ := extremes(stored); d > limits.JSONDepth {
			t.Fatalf("raw_crash is nested %d deep", d)
		}
		var standard crash.Annotations
		if err := json.Unmarshal(text, &standard); err == nil && tooLong == 0 {
			if diff := cmp.Diff(standard, annotations); diff != "" {
				t.Fatalf("(-standard +got):\n%s", diff)
			}
		}
	})
}

// No bytes in any character set make a value that is not UTF-8.
func FuzzDecodeText(f *testing.F) {
	for _, charset := range []string{"utf-8", "us-ascii", "iso-8859-1", "latin1", "klingon", ""} {
		f.Add(charset, []byte("K\xf6ln"))
		f.Add(charset, []byte("Köln"))
	}
	f.Fuzz(func(t *testing.T, charset string, value []byte) {
		text, ok := decodeText(charset, value)
		if ok && !utf8.ValidString(text) {
			t.Fatalf("%q in %s became %q", value, charset, text)
		}
		var back string
		if err := json.Unmarshal(crash.Text(text), &back); ok && (err != nil || back != text) {
			t.Fatalf("%q was stored as %q: %v", text, back, err)
		}
	})
}
