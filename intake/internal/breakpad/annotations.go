package breakpad

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/yagi-crash/yagi/pkg/crash"
)

// decodeText returns a text part's value in UTF-8; ok is false when the bytes
// are not what the character set says, or the set is not one of the few that
// clients use. Nothing is nothing in any set.
func decodeText(charset string, value []byte) (text string, ok bool) {
	switch charsetName(charset) {
	case "utf_8", "utf8", "u8":
		return string(value), utf8.Valid(value)
	case "us_ascii", "ascii", "646":
		for _, c := range value {
			if c >= utf8.RuneSelf {
				return "", false
			}
		}
		return string(value), true
	case "iso_8859_1", "iso8859_1", "latin_1", "latin1", "l1", "cp819":
		return latin1(value), true
	}
	return "", len(value) == 0
}

// charsetName spells a character set's name as Python does to look it up: in
// small letters, with an underscore for whatever separates its words.
func charsetName(charset string) string {
	return strings.Join(strings.FieldsFunc(strings.ToLower(charset), func(r rune) bool {
		return r != '.' && r != 0 && !unicode.IsLetter(r) && !unicode.IsDigit(r) // a name with a NUL is unknown
	}), "_")
}

// latin1 reads bytes as ISO 8859-1, in which each is a character.
func latin1(value []byte) string {
	runes := make([]rune, len(value))
	for i, c := range value {
		runes[i] = rune(c)
	}
	return string(runes)
}

// maxDigits is how many digits an integer may have: Python, and so a Socorro
// processor, reads no document with a longer one.
const maxDigits = 4300

var (
	errDepth  = errors.New("JSON nested too deeply")
	errDigits = errors.New("JSON with a number that is too long")
)

// decodeJSON reads annotations from a JSON object. Values are kept as they
// were sent, whatever their type; of a repeated name the last value counts. It
// leaves out names that are too long, and tells how many.
func decodeJSON(text []byte, limits Limits) (annotations crash.Annotations, tooLong int, err error) {
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")) // a byte order mark
	depth, digits := extremes(text)
	switch {
	case !utf8.Valid(text):
		return nil, 0, crash.Malformed(crash.ReasonInvalidJSON, errors.New("JSON is not UTF-8"))
	case depth > limits.JSONDepth:
		return nil, 0, crash.Malformed(crash.ReasonInvalidJSON, errDepth)
	case digits > maxDigits:
		return nil, 0, crash.Malformed(crash.ReasonInvalidJSON, errDigits)
	case !json.Valid(text):
		return nil, 0, crash.Malformed(crash.ReasonInvalidJSON, nil)
	}
	annotations = crash.Annotations{}
	values := json.NewDecoder(bytes.NewReader(text))
	if begin, err := values.Token(); err != nil || begin != json.Delim('{') {
		return nil, 0, crash.Malformed(crash.ReasonInvalidJSONValue, err)
	}
	for n := 0; values.More(); n++ {
		if n == limits.Annotations {
			return nil, 0, fmt.Errorf("more than %d annotations", limits.Annotations)
		}
		name, err := values.Token()
		if err != nil {
			return nil, 0, crash.Malformed(crash.ReasonInvalidJSON, err)
		}
		var value json.RawMessage
		if err := values.Decode(&value); err != nil {
			return nil, 0, crash.Malformed(crash.ReasonInvalidJSON, err)
		}
		if key := name.(string); len(key) <= int(limits.Name) {
			annotations[key] = value
		} else {
			tooLong++
		}
	}
	return annotations, tooLong, nil
}

// extremes returns how deeply brackets nest outside of strings, which bounds the
// reader's recursion before it begins, and how many digits the longest number has
// in a row.
func extremes(text []byte) (depth, digits int) {
	inString, now, row := false, 0, 0
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c < '0' || c > '9' || inString {
			row = 0
		} else if row++; row > digits {
			digits = row
		}
		switch {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			now++
			depth = max(depth, now)
		case c == '}' || c == ']':
			now--
		}
	}
	return depth, digits
}
