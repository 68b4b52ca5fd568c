package breakpad

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/yagi-crash/yagi/pkg/crash"
)

// decodeText returns a text part's value in UTF-8; ok is false when the bytes
// are not what the character set says, or the set is not one of the few that
// clients use.
func decodeText(charset string, value []byte) (text string, ok bool) {
	switch charset {
	case "utf-8", "utf8":
		return string(value), utf8.Valid(value)
	case "us-ascii", "ascii":
		for _, c := range value {
			if c >= utf8.RuneSelf {
				return "", false
			}
		}
		return string(value), true
	case "iso-8859-1", "latin-1", "latin1":
		runes := make([]rune, len(value))
		for i, c := range value {
			runes[i] = rune(c)
		}
		return string(runes), true
	}
	return "", false
}

var errDepth = errors.New("JSON nested too deeply")

// decodeJSON reads annotations from a JSON object. Values are kept as they
// were sent, whatever their type; of a repeated name the last value counts.
func decodeJSON(text []byte, maxDepth int) (crash.Annotations, error) {
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")) // a byte order mark
	if !utf8.Valid(text) {
		return nil, crash.Malformed(crash.ReasonInvalidJSON, errors.New("JSON is not UTF-8"))
	}
	if depth(text) > maxDepth {
		return nil, crash.Malformed(crash.ReasonInvalidJSON, errDepth)
	}
	if !json.Valid(text) {
		return nil, crash.Malformed(crash.ReasonInvalidJSON, nil)
	}
	var annotations crash.Annotations
	if err := json.Unmarshal(text, &annotations); err != nil {
		return nil, crash.Malformed(crash.ReasonInvalidJSONValue, errors.New("JSON is not an object"))
	}
	if annotations == nil { // "null" is read without an error
		return nil, crash.Malformed(crash.ReasonInvalidJSONValue, errors.New("JSON is null"))
	}
	return annotations, nil
}

// depth returns how deeply brackets nest outside of strings, which bounds the
// reader's recursion before it begins.
func depth(text []byte) (deepest int) {
	inString, now := false, 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			now++
			deepest = max(deepest, now)
		case c == '}' || c == ']':
			now--
		}
	}
	return deepest
}

// checkNames drops annotations whose names are out of bounds, with a note.
func checkNames(annotations crash.Annotations, limit int) (notes []string) {
	for name := range annotations {
		if len(name) > limit {
			delete(annotations, name)
			notes = append(notes, tooLongName(limit))
		}
	}
	return notes
}

func tooLongName(limit int) string {
	return fmt.Sprintf("dropped an annotation whose name is over %d bytes", limit)
}
