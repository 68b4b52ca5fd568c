// Package visible makes text from outside safe to show on a terminal. Messages,
// headers, error texts and names may hold escape sequences that retitle or
// repaint the terminal, characters that reverse the order of reading, and line
// ends that forge a line of output. All of them become visible escapes, which are
// the same in JSON.
package visible

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Text returns s with every character escaped that does not show as itself:
// control characters (U+0000 to U+001F, U+007F to U+009F), format characters (the
// bidirectional controls, zero width, byte order mark), U+2028, U+2029, and what
// Unicode has not assigned. They become \u001b, as in JSON; a byte that is not
// UTF-8 becomes \x9b. Line feeds and tabs stay.
func Text(s string) string {
	i := strings.IndexFunc(s, hidden)
	if i < 0 {
		return s
	}
	var b strings.Builder
	b.WriteString(s[:i])
	for s = s[i:]; s != ""; {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case hidden(r):
			escape(&b, r)
		default:
			b.WriteString(s[:size])
		}
		s = s[size:]
	}
	return b.String()
}

// hidden reports whether Text may have to escape a character. U+FFFD is what a
// byte that is not UTF-8 decodes to.
func hidden(r rune) bool {
	if ' ' <= r && r <= '~' || r == '\n' || r == '\t' {
		return false
	}
	return r == utf8.RuneError || !unicode.IsGraphic(r)
}

// escape writes a character as JSON does, whose escapes have four digits.
func escape(b *strings.Builder, r rune) {
	if r == utf8.RuneError { // which shows as itself where it was written
		b.WriteRune(r)
		return
	}
	if r > 0xffff {
		const surrogates, low, bits = 0xd800, 0xdc00, 10
		r -= 0x10000
		fmt.Fprintf(b, `\u%04x\u%04x`, surrogates+r>>bits, low+r&(1<<bits-1))
		return
	}
	fmt.Fprintf(b, `\u%04x`, r)
}

// Line returns s as one line of at most that many characters: as Text does, with
// line feeds as \n and tabs as spaces. A longer one ends with how much was cut.
func Line(s string, most int) string {
	s = strings.NewReplacer("\n", `\n`, "\t", " ").Replace(s)
	s = Text(s)
	if len(s) <= most {
		return s
	}
	at, n := len(s), 0
	for i := range s {
		if n == most {
			at = i
		}
		n++
	}
	if n <= most {
		return s
	}
	return fmt.Sprintf("%s... (%d more characters)", s[:at], n-most)
}

// Writer returns a writer that passes on what Text makes of each write. A
// character must not be divided between two writes.
func Writer(w io.Writer) io.Writer { return writer{w} }

type writer struct{ to io.Writer }

// Write implements io.Writer.
func (w writer) Write(p []byte) (int, error) {
	if _, err := io.WriteString(w.to, Text(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}
