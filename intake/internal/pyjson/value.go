package pyjson

import (
	"bytes"
	"strconv"
)

// Value is a value in a document.
type Value struct {
	doc *Doc
	at  int32
}

// Root returns the document's value.
func (d *Doc) Root() Value { return Value{d, 0} }

func (v Value) node() *node { return &v.doc.nodes[v.at] }

func (v Value) raw() []byte { return v.doc.text[v.node().start:v.node().end] }

// Member returns the value under a key of an object; of a repeated key the last
// counts. ok is false where the key is not there or v is not an object.
func (v Value) Member(key string) (member Value, ok bool) {
	n := v.node()
	if n.kind != object {
		return Value{}, false
	}
	for at := v.at + 1; at < n.next; at = v.doc.nodes[at+1].next {
		if (Value{v.doc, at}).is(key) {
			member, ok = Value{v.doc, at + 1}, true
		}
	}
	return member, ok
}

// is compares a string without making one where it has no escapes.
func (v Value) is(s string) bool {
	raw := v.raw()
	if bytes.IndexByte(raw, '\\') >= 0 {
		return Text(raw) == s
	}
	return string(raw[1:len(raw)-1]) == s
}

// Int returns the value of an integer, at most as far from 0 as an int can be.
// As in Python, true and false are 1 and 0. ok is false for everything else,
// 1.0 and 1e3 among it.
func (v Value) Int() (n int, ok bool) {
	switch raw := string(v.raw()); {
	case v.node().kind == integer:
		n, _ := strconv.Atoi(raw) // out of range it is the limit on that side
		return n, true
	case raw == "true":
		return 1, true
	case raw == "false":
		return 0, true
	}
	return 0, false
}
