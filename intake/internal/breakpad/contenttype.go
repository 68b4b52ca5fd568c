package breakpad

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"unicode"

	"github.com/yagi-crash/yagi/pkg/crash"
)

// maxBoundary is the longest boundary, in bytes. RFC 2046 allows 70; nothing
// speaks against some more.
const maxBoundary = 200

// boundary returns the delimiter that the Content-Type header announces. Type
// and parameter names may be in any case, and the boundary need not be the
// first parameter, which Antenna asks for.
func boundary(h http.Header) (string, error) {
	values := h.Values("Content-Type")
	if len(values) == 0 || values[0] == "" {
		return "", crash.Malformed(crash.ReasonNoContentType, nil)
	}
	kind, params, _ := strings.Cut(values[0], ";")
	kind = strings.ToLower(strings.TrimSpace(kind))
	if len(values) > 1 || kind != "multipart/form-data" && kind != "multipart/mixed" {
		return "", crash.Malformed(crash.ReasonWrongContentType, nil)
	}
	value, times := parameter(params, "boundary")
	value = strings.TrimRightFunc(value, unicode.IsSpace) // a boundary never ends in white space (RFC 2046 §5.1.1)
	if times != 1 || value == "" || len(value) > maxBoundary {
		return "", crash.Malformed(crash.ReasonNoBoundary, errors.New("want one boundary of 1 to 200 bytes"))
	}
	return value, nil
}

// parameter finds a value in "a=b; c=\"d\"", the last if there are several, and
// says how often the name is there. It reads as Antenna does, which is leniently:
// names in any case, values as they stand up to the next semicolon or, in quotes,
// with backslash escapes of quote and backslash undone. Clients send names with
// spaces, slashes and raw non-ASCII, quoted or not; no standard parser keeps all
// of those.
func parameter(s, name string) (value string, times int) {
	for s != "" {
		var one string
		one, s = cutParameter(s)
		if key, text, ok := strings.Cut(one, "="); ok && len(key) >= len(name) && strings.EqualFold(trim(key), name) {
			value = unquote(trim(text))
			times++
		}
	}
	return value, times
}

// trim takes off white space, as which Python has four control characters more
// than Go.
func trim(s string) string {
	if n := len(s); n > 0 && isGraph(s[0]) && isGraph(s[n-1]) { // the usual case
		return s
	}
	return strings.TrimFunc(s, func(r rune) bool { return unicode.IsSpace(r) || '\x1c' <= r && r <= '\x1f' })
}

// isGraph reports whether c is printable ASCII and no space.
func isGraph(c byte) bool { return ' ' < c && c < 0x7f }

// extended finds a value in the spelling of RFC 8187, name*=utf-8'en'a%20b. RFC
// 7578 forbids it here, and still some libraries write it. A value that cannot be
// read is empty; one that is not in its charset is as good as any.
func extended(s, name string) (value string, times int) {
	text, times := parameter(s, name+"*")
	charset, rest, _ := strings.Cut(text, "'")
	_, escaped, _ := strings.Cut(rest, "'")
	if plain, err := url.PathUnescape(escaped); err == nil {
		value, _ = decodeText(charset, []byte(plain))
	}
	return value, times
}

// cutParameter cuts s at the first semicolon outside of quotes. A backslash makes
// the quote behind it none, even if it is the second of two.
func cutParameter(s string) (first, rest string) {
	quoted := false
	for i := range len(s) {
		switch {
		case s[i] == '"' && (i == 0 || s[i-1] != '\\'):
			quoted = !quoted
		case s[i] == ';' && !quoted:
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

// unquote takes quotes off a value. A backslash before anything but a quote or
// a backslash stays, because Windows clients send paths as they are. That it looks
// for quotes behind backslashes only after it has halved those is Antenna's way.
func unquote(v string) string {
	if len(v) < 2 || v[0] != '"' || v[len(v)-1] != '"' {
		return v
	}
	v = v[1 : len(v)-1]
	if !strings.Contains(v, `\`) {
		return v
	}
	return strings.ReplaceAll(strings.ReplaceAll(v, `\\`, `\`), `\"`, `"`)
}
