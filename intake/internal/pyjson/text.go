package pyjson

import (
	"bytes"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxSpelled is the largest value that is spelled if it is not a string, in bytes
// of JSON. Spelling takes many times a value's size, and there is nothing
// sensible that a rule could compare a longer text with.
const MaxSpelled = 64 << 10

// Text returns what Python's str says of a JSON value: a string as it is, null
// as None, 1.0 as 1.0, an object as the dict {'a': None}. What is not JSON comes
// back as it is. A half of a surrogate pair, which Python's strings may have,
// is the three bytes that UTF-8 would spell it with. Unlike Python's, the text of
// what is not a string and above MaxSpelled is empty.
func Text(raw json.RawMessage) string {
	if n := len(raw); n > 1 && raw[0] == '"' && raw[n-1] == '"' && bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : n-1])
	}
	return string(AppendText(nil, raw))
}

// AppendText appends Text to a buffer.
func AppendText(b []byte, raw json.RawMessage) []byte {
	if n := len(raw); n > 1 && raw[0] == '"' && raw[n-1] == '"' {
		return unquote(b, raw[1:n-1])
	}
	if len(raw) > MaxSpelled {
		return b
	}
	var doc Doc
	if err := doc.Parse(raw); err != nil {
		return append(b, raw...)
	}
	return append(b, doc.Root().String()...)
}

// String is what Python's str says of the value; see Text.
func (v Value) String() string {
	if v.node().kind == text {
		return Text(v.raw())
	}
	if len(v.raw()) > MaxSpelled {
		return ""
	}
	var b strings.Builder
	v.repr(&b)
	return b.String()
}

// repr writes what Python's repr says of the value.
func (v Value) repr(b *strings.Builder) {
	raw := v.raw()
	switch v.node().kind {
	case object:
		v.reprDict(b)
	case array:
		b.WriteByte('[')
		for at := v.at + 1; at < v.node().next; at = v.doc.nodes[at].next {
			if at > v.at+1 {
				b.WriteString(", ")
			}
			Value{v.doc, at}.repr(b)
		}
		b.WriteByte(']')
	case text:
		quote(b, Text(raw))
	case integer:
		if string(raw) == "-0" {
			raw = raw[1:]
		}
		b.Write(raw)
	case float:
		b.WriteString(floatText(string(raw)))
	case word:
		b.WriteString(wordText(raw))
	}
}

func wordText(raw []byte) string {
	switch raw[0] {
	case 'n':
		return "None"
	case 't':
		return "True"
	}
	return "False"
}

// reprDict writes an object as a dict: a repeated key stands where it was first
// and has the value it had last.
func (v Value) reprDict(b *strings.Builder) {
	var keys []string
	last := map[string]Value{}
	for at := v.at + 1; at < v.node().next; at = v.doc.nodes[at+1].next {
		key := Value{v.doc, at}.String()
		if _, seen := last[key]; !seen {
			keys = append(keys, key)
		}
		last[key] = Value{v.doc, at + 1}
	}
	b.WriteByte('{')
	for i, key := range keys {
		if i > 0 {
			b.WriteString(", ")
		}
		quote(b, key)
		b.WriteString(": ")
		last[key].repr(b)
	}
	b.WriteByte('}')
}

// floatText spells a float as Python does: the fewest digits that tell it from
// its neighbours, with an exponent below 1e-4 and from 1e16 on.
func floatText(raw string) string {
	f, _ := strconv.ParseFloat(raw, 64) // out of range it is infinite, as in Python
	switch {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	case f != 0 && (math.Abs(f) < 1e-4 || math.Abs(f) >= 1e16):
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if strings.IndexByte(s, '.') < 0 {
		s += ".0"
	}
	return s
}

// unquote appends a string without its escapes. What looks like an escape and is
// none stays as it is.
func unquote(b, s []byte) []byte {
	b = slices.Grow(b, len(s))
	out, n := b[len(b):cap(b)], 0 // no escape makes more bytes than it has
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c != '\\':
			i++
		case i+1 < len(s) && s[i+1] == '"': // most are, where JSON lies within JSON
			c, i = '"', i+2
		default:
			r, size := unescape(s[i:])
			n += len(appendRune(out[:n], r)) - n
			i += size
			continue
		}
		out[n] = c
		n++
	}
	return b[:len(b)+n]
}

// unescape returns the character of the escape that s begins with, and the size
// of the escape. Two halves of a surrogate pair make one character.
func unescape(s []byte) (r rune, size int) {
	if size = escape(s); size == 0 {
		return rune(s[0]), 1
	}
	switch s[1] {
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case 'u':
		high, _ := hex4(s)
		if 0xd800 <= high && high < 0xdc00 {
			if low, ok := hex4(s[6:]); ok && 0xdc00 <= low && low < 0xe000 {
				return (high-0xd800)<<10 | (low - 0xdc00) + 0x10000, 12
			}
		}
		return high, 6
	}
	return rune(s[1]), 2
}

// hex4 reads an escape such as \u00e9.
func hex4(s []byte) (r rune, ok bool) {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0, false
	}
	for i := 2; i < 6; i++ {
		c := s[i] | 0x20 // lower case
		switch {
		case '0' <= s[i] && s[i] <= '9':
			r = r<<4 | rune(s[i]-'0')
		case 'a' <= c && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

func isSurrogate(r rune) bool { return 0xd800 <= r && r < 0xe000 }

// appendRune is utf8.AppendRune that keeps halves of surrogate pairs.
func appendRune(b []byte, r rune) []byte {
	if isSurrogate(r) {
		return append(b, 0xed, 0x80|byte(r>>6)&0x3f, 0x80|byte(r)&0x3f)
	}
	return utf8.AppendRune(b, r)
}

// decodeRune is its reverse.
func decodeRune(s string) (r rune, size int) {
	if len(s) > 2 && s[0] == 0xed && s[1] >= 0xa0 {
		return 0xd000 | rune(s[1]&0x3f)<<6 | rune(s[2]&0x3f), 3
	}
	return utf8.DecodeRuneInString(s)
}

// quote writes a string as Python's repr does: in single quotes unless it has
// those and no double ones, with escapes for what does not print.
func quote(b *strings.Builder, s string) {
	around := byte('\'')
	if strings.IndexByte(s, '\'') >= 0 && strings.IndexByte(s, '"') < 0 {
		around = '"'
	}
	b.WriteByte(around)
	for len(s) > 0 {
		r, size := decodeRune(s)
		switch {
		case r == '\\' || r == rune(around):
			b.WriteByte('\\')
			b.WriteRune(r)
		case unicode.IsPrint(r):
			b.WriteString(s[:size])
		default:
			b.WriteString(escaped(r))
		}
		s = s[size:]
	}
	b.WriteByte(around)
}

func escaped(r rune) string {
	digits, width, prefix := strconv.FormatInt(int64(r), 16), 8, `\U`
	switch {
	case r == '\n':
		return `\n`
	case r == '\r':
		return `\r`
	case r == '\t':
		return `\t`
	case r < 0x100:
		width, prefix = 2, `\x`
	case r < 0x10000:
		width, prefix = 4, `\u`
	}
	return prefix + strings.Repeat("0", width-len(digits)) + digits
}
