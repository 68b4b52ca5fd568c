package throttle

import (
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/yagi-crash/yagi/pkg/crash"
)

// Explanation is how rules judge a report, drawing no random numbers.
type Explanation struct {
	// Steps are the rules that the report gets to, in their order.
	Steps []Step
	// Ends are the rulings that may come out, but for the limit; all but one need
	// sampling.
	Ends []End
}

// Step is what one rule makes of the report.
type Step struct {
	Rule    Rule
	Matches bool
	// Error is why the condition could not be evaluated, otherwise empty.
	Error string
	// Seen is what the condition looked at, each call once.
	Seen []Seen
}

// Seen is a call in a condition, such as text("Version"), and its value.
type Seen struct{ Call, Value string }

// End is a ruling, and how likely it is, percent.
type End struct {
	Ruling  Ruling
	Percent float64
}

// Explain judges a report without counting it anywhere.
func (r *Rules) Explain(annotations crash.Annotations) Explanation {
	w := &witness{evaluator: r.evaluator()}
	w.watch()
	w.view.look(annotations)
	var x Explanation
	left := 100.0 // percent of such reports that get here
	for i := range r.content.rules {
		rule := &r.content.rules[i]
		step := w.step(rule)
		x.Steps = append(x.Steps, step)
		if !step.Matches {
			continue
		}
		for _, end := range []End{
			{Ruling{rule.below, rule.name}, left * rule.percent / 100},
			{Ruling{rule.above, rule.name}, left * (100 - rule.percent) / 100},
		} {
			if end.Ruling.Outcome != crash.Continue && end.Percent > 0 {
				x.add(end)
				left -= end.Percent
			}
		}
		if rule.decides() {
			return x
		}
	}
	if left > 0 {
		x.add(End{Ruling{crash.Reject, NoMatch}, left})
	}
	return x
}

func (x *Explanation) add(end End) {
	if i := slices.IndexFunc(x.Ends, func(e End) bool { return e.Ruling == end.Ruling }); i >= 0 {
		x.Ends[i].Percent += end.Percent
		return
	}
	x.Ends = append(x.Ends, end)
}

// witness is an evaluator that writes down what conditions look at.
type witness struct {
	*evaluator
	seen []Seen
}

func (w *witness) step(rule *rule) Step {
	w.seen = nil
	holds, err := w.holds(rule.condition)
	step := Step{Rule: rule.describe(), Matches: holds, Seen: w.seen}
	if err != nil {
		step.Error = firstLine(err.Error())
	}
	return step
}

// watch puts a function that writes down its calls in each function's place.
func (w *witness) watch() {
	for name, function := range w.view.functions() {
		switch f := function.(type) {
		case func(string) string:
			w.env[name] = watched1(w, name, f)
		case func(string) bool:
			w.env[name] = watched1(w, name, f)
		case func(string) float64:
			w.env[name] = watched1(w, name, f)
		case func(string, string) string:
			w.env[name] = watched2(w, name, f)
		case func(string, string) int:
			w.env[name] = watched2(w, name, f)
		}
	}
}

func watched1[V any](w *witness, name string, f func(string) V) func(string) V {
	return func(a string) V {
		value := f(a)
		w.saw(fmt.Sprintf("%s(%q)", name, a), value)
		return value
	}
}

func watched2[V any](w *witness, name string, f func(a, b string) V) func(a, b string) V {
	return func(a, b string) V {
		value := f(a, b)
		w.saw(fmt.Sprintf("%s(%q, %q)", name, a, b), value)
		return value
	}
}

// maxSeen is how much of a text is shown, in characters.
const maxSeen = 200

func (w *witness) saw(call string, value any) {
	text := fmt.Sprint(value)
	if s, ok := value.(string); ok {
		text = strconv.Quote(s)
		if utf8.RuneCountInString(s) > maxSeen {
			text = strconv.Quote(string([]rune(s)[:maxSeen])) + fmt.Sprintf(" and %d bytes in all", len(s))
		}
	}
	if seen := (Seen{call, text}); !slices.Contains(w.seen, seen) {
		w.seen = append(w.seen, seen)
	}
}
