package breakpad

import (
	"mime"
	"net/http"
	"strings"
	"testing"
)

// Whatever a Content-Type is, the boundary that is read from it is usable, and is
// the standard's wherever the standard's reader has one and both spell alike.
func FuzzContentType(f *testing.F) {
	for _, seed := range []string{
		formData, `Multipart/Mixed; charset=utf-8; Boundary="B"`, "multipart/form-data", "multipart/form-data; boundary=",
		"multipart/form-data; boundary=B; boundary=C", "multipart/form-data; boundary=-- a/b(c)=?:,'é", `multipart/form-data; boundary="a;b\"c"`,
		"multipart/form-data; boundary*=utf-8''x", `multipart/form-data; boundary="B`, "multipart/form-data;;;=;boundary", "application/json",
		"multipart/form-data; boundary=---------------------------1234567890", "multipart/form-data; boundary=" + strings.Repeat("b", 201),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		got, err := boundary(http.Header{"Content-Type": {value}})
		if err == nil && (got == "" || len(got) > maxBoundary) {
			t.Fatalf("%q: a boundary of %d bytes", value, len(got))
		}
		if strings.ContainsAny(value, `\*`) {
			return // escapes, which we leave alone in part, and the extended spelling
		}
		kind, params, standard := mime.ParseMediaType(value)
		if standard != nil || kind != "multipart/form-data" && kind != "multipart/mixed" {
			return
		}
		if want := params["boundary"]; want != "" && len(want) <= maxBoundary && strings.TrimSpace(want) == want && got != want {
			t.Fatalf("%q: boundary %q, %v, the standard reads %q", value, got, err, want)
		}
	})
}

// A value that was put in quotes as the standard has it comes out as it was, but
// for a backslash before a quote, which is read as by Antenna.
func FuzzParameter(f *testing.F) {
	for _, seed := range []string{"a", `a"b`, `C:\dir\a.dmp`, `\`, `;name="x"`, "", "дамп", "\xff", "a b/c[d]", " padded "} {
		f.Add(seed, "x")
		f.Add("x", seed)
	}
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	f.Fuzz(func(t *testing.T, name, filename string) {
		if strings.Contains(name+`"`+filename+`"`, `\"`) {
			return
		}
		params := `a="b;c"; name="` + quote.Replace(name) + `" ;filename="` + quote.Replace(filename) + `"`
		for key, want := range map[string]string{"NAME": name, "filename": filename, "a": "b;c"} {
			if got, times := parameter(params, key); got != want || times != 1 {
				t.Fatalf("%s of %s is %q, %d times, want %q", key, params, got, times, want)
			}
		}
	})
}
