// Package pyjson reads JSON as Python's json.loads does and spells values as
// Python's str does. Antenna's throttle rules are Python, so it is these two
// that decide what a rule sees of a value that is not a plain string.
//
// Facts are those of CPython 3.11 (Modules/_json.c, Objects/unicodeobject.c),
// which Antenna runs on. What json.loads takes beyond RFC 8259 is NaN,
// Infinity, -Infinity and halves of surrogate pairs; what it refuses beyond it
// is a byte order mark. Bounds of their own keep large values cheap: MaxSpelled,
// and 100,000 values a document.
package pyjson

import "errors"

// maxDepth is how deeply a document may nest. Python gives up a little below
// 1,000, its limit of recursion.
const maxDepth = 1000

// maxNodes is how many values a document may have, its objects' keys included;
// a node takes 16 bytes. Firefox's TelemetryEnvironment has some thousands.
const maxNodes = 100_000

var (
	errSyntax = errors.New("not JSON")
	errDepth  = errors.New("JSON nested too deeply")
	errNodes  = errors.New("JSON of too many values")
)

// kind is a value's type.
type kind uint8

const (
	object kind = iota
	array
	text
	integer
	float
	word // null, true, false
)

// node is one value of a document. The nodes of a document lie in the order of
// their text; those of an object are its keys and values in turn.
type node struct {
	kind  kind
	start int32 // where its text begins
	end   int32 // where its text ends
	next  int32 // the node behind it and all that is in it
}

// Doc is a document that has been read. It can be used again for another.
type Doc struct {
	text  []byte
	nodes []node
	open  []int32 // objects and arrays that have not ended, by node
}

// Parse reads a document, of less than 2 GiB, which it holds on to. The error
// says nothing of where it is wrong; what has been read before is gone.
func (d *Doc) Parse(document []byte) error {
	d.text, d.nodes, d.open = document, d.nodes[:0], d.open[:0]
	p := parser{Doc: d}
	return p.run()
}

// parser reads a document without recursion.
type parser struct {
	*Doc
	at int
}

func (p *parser) run() error {
	for {
		ended, err := p.value()
		if err != nil {
			return err
		}
		for ended && len(p.open) > 0 {
			if ended, err = p.behind(); err != nil {
				return err
			}
		}
		if len(p.open) == 0 {
			break
		}
		if len(p.nodes) > maxNodes {
			return errNodes
		}
	}
	if p.space(); p.at != len(p.text) {
		return errSyntax
	}
	return nil
}

// value reads a value, or the beginning of one that has others in it; ended
// tells which.
func (p *parser) value() (ended bool, err error) {
	switch c := p.peek(); {
	case c == '{':
		return p.begin(object, '}')
	case c == '[':
		return p.begin(array, ']')
	case c == '"':
		return true, p.string()
	case c == '-' || '0' <= c && c <= '9':
		return true, p.number()
	}
	for _, w := range [...]string{"null", "true", "false", "NaN", "Infinity"} {
		if hasPrefix(p.text[p.at:], w) {
			k := word
			if w[0] < 'a' {
				k = float
			}
			p.add(k, p.at+len(w))
			return true, nil
		}
	}
	return false, errSyntax
}

// begin enters an object or array; an empty one has ended at once.
func (p *parser) begin(k kind, closing byte) (ended bool, err error) {
	if len(p.open) == maxDepth {
		return false, errDepth
	}
	p.open = append(p.open, int32(len(p.nodes)))
	p.add(k, p.at+1)
	if p.peek() == closing {
		p.close()
		return true, nil
	}
	if k == object {
		return false, p.key()
	}
	return false, nil
}

// behind reads what follows a value within an object or array; ended tells that
// this one has ended with it.
func (p *parser) behind() (ended bool, err error) {
	k := p.nodes[p.open[len(p.open)-1]].kind
	switch c := p.peek(); {
	case c == ',':
		p.at++
		if k == object {
			return false, p.key()
		}
		return false, nil
	case c == '}' && k == object, c == ']' && k == array:
		p.close()
		return true, nil
	}
	return false, errSyntax
}

func (p *parser) close() {
	p.at++
	n := &p.nodes[p.open[len(p.open)-1]]
	n.end, n.next = int32(p.at), int32(len(p.nodes))
	p.open = p.open[:len(p.open)-1]
}

func (p *parser) key() error {
	if p.peek() != '"' {
		return errSyntax
	}
	if err := p.string(); err != nil {
		return err
	}
	if p.peek() != ':' {
		return errSyntax
	}
	p.at++
	return nil
}

// string reads a string and checks its escapes.
func (p *parser) string() error {
	s := p.text
	for i := p.at + 1; i < len(s); i++ {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		if c == '"' {
			p.add(text, i+1)
			return nil
		}
		size := escape(s[i:])
		if size == 0 { // nor may it be a control character
			return errSyntax
		}
		i += size - 1
	}
	return errSyntax
}

// escape returns the size of the escape that s begins with, 0 if it is none.
func escape(s []byte) int {
	if len(s) < 2 || s[0] != '\\' {
		return 0
	}
	switch s[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if _, ok := hex4(s); ok {
			return 6
		}
	}
	return 0
}

func (p *parser) number() error {
	s, i := p.text, p.at
	if s[i] == '-' {
		i++
	}
	if hasPrefix(s[i:], "Infinity") && i > p.at {
		p.add(float, i+len("Infinity"))
		return nil
	}
	whole := digits(s, i)
	if whole == i || s[i] == '0' && whole > i+1 {
		return errSyntax
	}
	k := integer
	i = whole
	if i < len(s) && s[i] == '.' {
		k, i = float, digits(s, i+1)
		if s[i-1] == '.' {
			return errSyntax
		}
	}
	if i < len(s) && (s[i] == 'e' || s[i] == 'E') {
		k, i = float, i+1
		if i < len(s) && (s[i] == '+' || s[i] == '-') {
			i++
		}
		begin := i
		if i = digits(s, i); i == begin {
			return errSyntax
		}
	}
	p.add(k, i)
	return nil
}

func hasPrefix(s []byte, prefix string) bool {
	return len(s) >= len(prefix) && string(s[:len(prefix)]) == prefix
}

// digits returns where the digits from i on end.
func digits(s []byte, i int) int {
	for i < len(s) && '0' <= s[i] && s[i] <= '9' {
		i++
	}
	return i
}

// add adds a node that begins here, and goes on at end.
func (p *parser) add(k kind, end int) {
	p.nodes = append(p.nodes, node{k, int32(p.at), int32(end), int32(len(p.nodes) + 1)})
	p.at = end
}

// peek returns the next character that is not white space, 0 at the end.
func (p *parser) peek() byte {
	if p.at < len(p.text) && p.text[p.at] > ' ' {
		return p.text[p.at]
	}
	p.space()
	if p.at == len(p.text) {
		return 0
	}
	return p.text[p.at]
}

func (p *parser) space() {
	for p.at < len(p.text) {
		switch p.text[p.at] {
		case ' ', '\t', '\n', '\r':
			p.at++
		default:
			return
		}
	}
}
