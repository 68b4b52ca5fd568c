package throttle

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// reader takes a rule file's YAML apart and notes all that is wrong with it.
type reader struct {
	lines    []string
	rule     string // the rule that is read at the moment
	problems []Problem
}

// document returns the file's one document, nil when it is no YAML at all.
func (r *reader) document(data []byte) *yaml.Node {
	if !utf8.Valid(data) {
		r.problems = append(r.problems, Problem{1, 1, "", "the file is not UTF-8"})
		return nil
	}
	r.lines = strings.Split(string(data), "\n")
	// Byte by byte the library reads hardly further than it understands, and so
	// tells where it stopped, which its messages do not.
	progress := &progress{data: data}
	var root, second yaml.Node
	documents := yaml.NewDecoder(progress)
	switch err := documents.Decode(&root); {
	case errors.Is(err, io.EOF):
		r.problems = append(r.problems, Problem{1, 1, "", "the file is empty"})
		return nil
	case err != nil:
		r.syntax(progress, err)
		return nil
	}
	if err := documents.Decode(&second); err == nil {
		r.refuse(&second, "a second document is one too many")
	} else if !errors.Is(err, io.EOF) {
		r.syntax(progress, err)
	}
	return root.Content[0]
}

// progress is a reader that knows how much of a file was read.
type progress struct {
	data []byte
	at   int
}

func (p *progress) Read(b []byte) (int, error) {
	if p.at == len(p.data) || len(b) == 0 {
		return 0, io.EOF
	}
	b[0] = p.data[p.at]
	p.at++
	return 1, nil
}

// syntax notes an error of the YAML library at the last character that it read
// and that is not white space.
func (r *reader) syntax(p *progress, err error) {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if _, behind, ok := strings.Cut(text, ": "); ok && strings.HasPrefix(text, "line ") {
		text = behind
	}
	read := strings.TrimRightFunc(string(p.data[:p.at]), unicode.IsSpace)
	line := strings.LastIndexByte(read, '\n') + 1
	r.problems = append(r.problems, Problem{
		Line: strings.Count(read, "\n") + 1, Column: max(1, utf8.RuneCountInString(read[line:])),
		Text: "YAML: " + text,
	})
}

func (r *reader) refuse(at *yaml.Node, format string, args ...any) {
	r.problems = append(r.problems, Problem{at.Line, at.Column, r.rule, fmt.Sprintf(format, args...)})
}

// member is an entry of a mapping.
type member struct{ key, value *yaml.Node }

// members returns the entries of a mapping whose keys are free.
func (r *reader) members(n *yaml.Node) []member {
	if n.Kind != yaml.MappingNode {
		r.refuse(n, "%s where a mapping should be", shape(n))
		return nil
	}
	var all []member
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch {
		case key.Kind != yaml.ScalarNode || key.Tag == "!!merge":
			r.refuse(key, "%s where a key should be", shape(key))
		case seen[key.Value]:
			r.refuse(key, "key %s stands here twice", key.Value)
		default:
			seen[key.Value] = true
			all = append(all, member{key, value})
		}
	}
	return all
}

// fields hands each entry of a mapping to the function of its key; a key that
// has none is refused.
func (r *reader) fields(n *yaml.Node, known map[string]func(*yaml.Node), names string) {
	for _, m := range r.members(n) {
		if read, ok := known[m.key.Value]; ok {
			read(m.value)
		} else {
			r.refuse(m.key, "unknown key %s: there are %s", m.key.Value, names)
		}
	}
}

func (r *reader) list(n *yaml.Node) []*yaml.Node {
	if n.Kind != yaml.SequenceNode {
		r.refuse(n, "%s where a list should be", shape(n))
		return nil
	}
	return n.Content
}

// text returns a scalar as it is written; true and 52.0 are texts too.
func (r *reader) text(n *yaml.Node) string {
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		r.refuse(n, "%s where a text should be", shape(n))
		return ""
	}
	return n.Value
}

func (r *reader) texts(n *yaml.Node) []string {
	all := []string{}
	for _, item := range r.list(n) {
		all = append(all, r.text(item))
	}
	return all
}

func (r *reader) textLists(n *yaml.Node) map[string][]string {
	all := map[string][]string{}
	for _, m := range r.members(n) {
		all[m.key.Value] = r.texts(m.value)
	}
	return all
}

// number returns a number from low to high, both included.
func (r *reader) number(n *yaml.Node, low, high float64) float64 {
	f, err := strconv.ParseFloat(n.Value, 64)
	if n.Kind != yaml.ScalarNode || err != nil || !(f >= low && f <= high) {
		r.refuse(n, "%s where a number from %g to %g should be", shape(n), low, high)
		return low
	}
	return f
}

// name returns a text that can be part of a metric and of an answer.
func (r *reader) name(n *yaml.Node) string {
	s := r.text(n)
	if s != "" && !isName(s) {
		r.refuse(n, "%q is no name: letters, digits and underscores make one, at most 100", s)
	}
	return s
}

func isName(s string) bool {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_"
	return s != "" && len(s) <= 100 && strings.Trim(s, letters) == ""
}

// shape says what a node is.
func shape(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.AliasNode:
		return "an alias (*" + n.Value + ")"
	case n.Tag == "!!null":
		return "nothing"
	case len(n.Value) > 100:
		return "a long text"
	}
	return strconv.Quote(n.Value)
}

// place is a byte of a file.
type place struct {
	line int // from 0
	at   int // byte of the line
}

// within returns where in the file the byte of a scalar's value stands. A scalar
// loses quotes, indentation and line ends on its way from the file, but its
// other characters stay in order, and so they are looked up one by one. One that
// the file has only as an escape ends the search.
func (r *reader) within(n *yaml.Node, until int) (line, column int) {
	if n.Line > len(r.lines) { // YAML knows other line ends as well
		return n.Line, n.Column
	}
	next := place{n.Line - 1, byteAt(r.lines[n.Line-1], n.Column-1)}
	found := next
	switch {
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		next = place{n.Line, 0}
	case n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0:
		next.at++
	}
	for i, want := range n.Value {
		if unicode.IsSpace(want) {
			continue
		}
		here, ok := r.find(want, next)
		if !ok {
			break
		}
		found, next = here, place{here.line, here.at + utf8.RuneLen(want)}
		if i >= until {
			break
		}
	}
	return found.line + 1, utf8.RuneCountInString(r.lines[found.line][:found.at]) + 1
}

// find returns where a character stands next.
func (r *reader) find(want rune, from place) (found place, ok bool) {
	for line := from.line; line < len(r.lines); line++ {
		begin := min(from.at, len(r.lines[line]))
		if n := strings.IndexRune(r.lines[line][begin:], want); n >= 0 {
			return place{line, begin + n}, true
		}
		from.at = 0
	}
	return place{}, false
}
