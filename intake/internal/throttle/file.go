package throttle

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/yagi-crash/yagi/pkg/crash"
)

// maxRules is how many rules a file may have: each has series among the metrics.
const maxRules = 1000

// maxProblems is how many problems of a file are told.
const maxProblems = 100

// rule is one rule of a file.
type rule struct {
	name      string
	when      string
	condition condition
	percent   float64       // 0 to 100; of a rule that does not sample 100
	below     crash.Outcome // up to and including percent
	above     crash.Outcome
	samples   bool
}

// decides tells that no report which the rule matches goes on to the next.
func (r *rule) decides() bool { return r.below != crash.Continue && r.above != crash.Continue }

// content is what a file says.
type content struct {
	products     []string
	packageNames map[string][]string
	aliases      map[string][]string
	rules        []rule
	limiter      *limiter // nil without a limit
	warnings     []Problem
}

// parse reads a file. The error is a *FileError.
func parse(source string, data []byte) (*content, error) {
	r := &reader{}
	c := &content{products: []string{}, packageNames: map[string][]string{}, aliases: map[string][]string{}}
	if root := r.document(data); root != nil {
		r.content(root, c)
	}
	if len(r.problems) > 0 {
		sortProblems(r.problems)
		return nil, &FileError{source, r.problems[:min(len(r.problems), maxProblems)]}
	}
	return c, nil
}

func (r *reader) content(root *yaml.Node, c *content) {
	var rules *yaml.Node
	r.fields(root, map[string]func(*yaml.Node){
		"products":      func(n *yaml.Node) { c.products = r.texts(n) },
		"package_names": func(n *yaml.Node) { c.packageNames = r.textLists(n) },
		"aliases":       func(n *yaml.Node) { c.aliases = r.textLists(n) },
		"rules":         func(n *yaml.Node) { rules = n },
		"limit":         func(n *yaml.Node) { c.limiter = r.limit(n) },
	}, "products, package_names, aliases, rules, limit")
	if rules == nil {
		r.refuse(root, "there are no rules")
		return
	}
	nodes := r.list(rules)
	if len(nodes) > maxRules {
		r.refuse(rules, "%d rules, at most %d are allowed", len(nodes), maxRules)
		return
	}
	env := environment(&view{}, c)
	for i, n := range nodes {
		if len(r.problems) >= maxProblems { // further ones are not told
			break
		}
		r.rule = cmp.Or(nameOf(n), fmt.Sprintf("#%d", i+1))
		next := r.readRule(n, env)
		switch {
		case next.name != "" && slices.ContainsFunc(c.rules, func(o rule) bool { return o.name == next.name }):
			r.refuse(n, "there is another rule of this name")
		case next.name == NoMatch, c.limiter != nil && next.name == c.limiter.ruling.Rule:
			r.refuse(n, "this name is taken by what is not a rule")
		}
		c.rules = append(c.rules, next)
	}
	r.rule = ""
	c.warnings = warnings(rules, c.rules)
}

// warnings is what is not wrong with the rules, but hardly meant.
func warnings(list *yaml.Node, rules []rule) []Problem {
	if len(rules) == 0 {
		return []Problem{{list.Line, list.Column, "", "there are no rules, so that every report is rejected as NO_MATCH"}}
	}
	catchAll := slices.IndexFunc(rules, func(r rule) bool { return r.condition.always && r.decides() })
	at := list.Content[len(rules)-1]
	switch last := len(rules) - 1; {
	case catchAll < 0:
		return []Problem{{at.Line, at.Column, rules[last].name, "this last rule does not decide on every report, so that some may be rejected as NO_MATCH"}}
	case catchAll < last:
		next := list.Content[catchAll+1]
		return []Problem{{next.Line, next.Column, rules[catchAll+1].name, "no report gets here, since rule " + rules[catchAll].name + " decides on all"}}
	}
	return nil
}

func (r *reader) readRule(n *yaml.Node, env map[string]any) rule {
	rule := rule{percent: 100}
	var when, verdict, sample *yaml.Node
	known := len(r.problems)
	r.fields(n, map[string]func(*yaml.Node){
		"name":    func(n *yaml.Node) { rule.name = r.name(n) },
		"when":    func(n *yaml.Node) { when = n },
		"verdict": func(n *yaml.Node) { verdict = n },
		"sample":  func(n *yaml.Node) { sample = n },
	}, "name, when, verdict, sample")
	if n.Kind != yaml.MappingNode {
		return rule
	}
	if rule.name == "" && len(r.problems) == known {
		r.refuse(n, "the rule has no name")
	}
	if when == nil {
		r.refuse(n, "the rule has no condition (when)")
	} else {
		rule.when, rule.condition = r.condition(when, env)
	}
	switch {
	case verdict != nil && sample == nil:
		rule.below = r.outcome(verdict)
		rule.above = rule.below
	case sample != nil && verdict == nil:
		r.sample(sample, &rule)
	default:
		r.refuse(n, "the rule needs one of verdict and sample")
	}
	return rule
}

// nameOf finds a rule's name before it is read, for what is said about it.
func nameOf(n *yaml.Node) string {
	for i := 0; i+1 < len(n.Content) && n.Kind == yaml.MappingNode; i += 2 {
		if value := n.Content[i+1]; n.Content[i].Value == "name" && isName(value.Value) {
			return value.Value
		}
	}
	return ""
}

func (r *reader) condition(n *yaml.Node, env map[string]any) (string, condition) {
	text := r.text(n)
	if strings.TrimSpace(text) == "" {
		if n.Kind == yaml.ScalarNode && n.Tag != "!!null" {
			r.refuse(n, "the condition is empty")
		}
		return text, condition{}
	}
	compiled, wrong := compile(text, env)
	if wrong != nil {
		line, column := r.within(n, wrong.at)
		r.problems = append(r.problems, Problem{line, column, r.rule, wrong.text})
	}
	return text, compiled
}

func (r *reader) sample(n *yaml.Node, rule *rule) {
	rule.samples = true
	given := map[string]bool{}
	r.fields(n, map[string]func(*yaml.Node){
		"percent": func(n *yaml.Node) { given["percent"], rule.percent = true, r.number(n, 0, 100) },
		"below":   func(n *yaml.Node) { given["below"], rule.below = true, r.outcome(n) },
		"above":   func(n *yaml.Node) { given["above"], rule.above = true, r.outcome(n) },
	}, "percent, below, above")
	for _, key := range []string{"percent", "below", "above"} {
		if n.Kind == yaml.MappingNode && !given[key] {
			r.refuse(n, "the sample has no %s", key)
		}
	}
}

func (r *reader) outcome(n *yaml.Node) crash.Outcome {
	for o := crash.Accept; o <= crash.Continue; o++ {
		if n.Kind == yaml.ScalarNode && n.Value == o.String() {
			return o
		}
	}
	r.refuse(n, "%s is no verdict: there are accept, defer, reject, fake_accept, continue", shape(n))
	return crash.Reject
}
