package throttle

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/yagi-crash/yagi/intake/internal/pyjson"
	"github.com/yagi-crash/yagi/pkg/crash"
)

// view is a report as conditions see it: its methods are the functions that the
// language offers. None of them fails, whatever a client has sent.
type view struct {
	annotations crash.Annotations
	aliases     map[string][]string
	now         func() time.Time

	// The texts of the annotations that the report has and rules have asked for,
	// by the name asked: many rules look at the same few.
	texts map[string]string

	// The document that json read last: one annotation is usually asked for
	// several of its members.
	doc   pyjson.Doc
	read  bool   // there is one
	docOf string // the annotation's name
	isDoc bool   // it is JSON
	bytes []byte // its text
}

// maxKept is how much memory a view keeps for the next report's document, bytes.
const maxKept = 64 << 10

// look turns the view to another report.
func (v *view) look(annotations crash.Annotations) {
	v.annotations, v.read = annotations, false
	clear(v.texts)
	if cap(v.bytes) > maxKept {
		v.doc, v.bytes = pyjson.Doc{}, nil
	}
}

// functions is what a condition may call.
func (v *view) functions() map[string]any {
	return map[string]any{
		"text":      v.text,
		"text_or":   v.textOr,
		"has":       v.has,
		"number":    v.number,
		"json":      v.json,
		"json_int":  v.jsonInt,
		"build_age": v.buildAge,
	}
}

// find returns an annotation's value as JSON text: its own, or that of the
// first of its aliases that is there.
func (v *view) find(name string) (raw []byte, ok bool) {
	if raw, ok := v.annotations[name]; ok {
		return raw, true
	}
	for _, alias := range v.aliases[name] {
		if raw, ok := v.annotations[alias]; ok {
			return raw, true
		}
	}
	return nil, false
}

func (v *view) has(name string) bool {
	_, ok := v.find(name)
	return ok
}

func (v *view) text(name string) string { return v.textOr(name, "") }

func (v *view) textOr(name, otherwise string) string {
	if text, known := v.texts[name]; known {
		return text
	}
	raw, ok := v.find(name)
	if !ok {
		return otherwise
	}
	text := pyjson.Text(raw)
	if v.texts == nil {
		v.texts = map[string]string{}
	}
	v.texts[name] = text
	return text
}

// number is NaN, with which no comparison but != holds, for what is not a number.
func (v *view) number(name string) float64 {
	n, err := strconv.ParseFloat(strings.TrimSpace(v.text(name)), 64)
	if err != nil {
		return math.NaN()
	}
	return n
}

func (v *view) buildAge(name string) float64 { return buildAge(v.text(name), v.now()) }

func (v *view) json(name, path string) string {
	value, ok := v.member(name, path)
	if !ok {
		return ""
	}
	return value.String()
}

func (v *view) jsonInt(name, path string) int {
	value, ok := v.member(name, path)
	if !ok {
		return 0
	}
	n, _ := value.Int()
	return n
}

// member finds a value within an annotation that is itself a JSON document.
func (v *view) member(name, path string) (value pyjson.Value, ok bool) {
	if !v.read || v.docOf != name {
		raw, ok := v.find(name)
		v.bytes = pyjson.AppendText(v.bytes[:0], raw)
		v.read, v.docOf, v.isDoc = true, name, ok && v.doc.Parse(v.bytes) == nil
	}
	if !v.isDoc {
		return pyjson.Value{}, false
	}
	value = v.doc.Root()
	for key := range strings.SplitSeq(path, ".") {
		if value, ok = value.Member(key); !ok {
			return pyjson.Value{}, false
		}
	}
	return value, true
}
