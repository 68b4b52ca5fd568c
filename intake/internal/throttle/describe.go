package throttle

import "github.com/yagi-crash/yagi/pkg/crash"

// Rule is a rule as its file has it. It has one of Verdict and Sample.
type Rule struct {
	Name    string  `json:"name"`
	When    string  `json:"when"`
	Verdict string  `json:"verdict,omitempty"`
	Sample  *Sample `json:"sample,omitempty"`
}

// Sample is the verdict of a rule that draws a random number for each report:
// Below for as many of a hundred as Percent says, Above for the others.
type Sample struct {
	Percent float64 `json:"percent"`
	Below   string  `json:"below"`
	Above   string  `json:"above"`
}

// Source returns what the rules were read from: a file's path or a name.
func (r *Rules) Source() string { return r.source }

// Hash returns the name of the rules' content; see Hash.
func (r *Rules) Hash() string { return r.hash }

// List returns the rules in their order.
func (r *Rules) List() []Rule {
	all := make([]Rule, len(r.content.rules))
	for i := range r.content.rules {
		all[i] = r.content.rules[i].describe()
	}
	return all
}

// Limit returns the guard against storms; ok is false where there is none.
func (r *Rules) Limit() (l Limit, ok bool) {
	if r.limiter == nil {
		return Limit{}, false
	}
	return r.limiter.Limit, true
}

func (r *rule) describe() Rule {
	d := Rule{Name: r.name, When: r.when}
	if r.samples {
		d.Sample = &Sample{r.percent, r.below.String(), r.above.String()}
	} else {
		d.Verdict = r.below.String()
	}
	return d
}

// Warnings returns what the rules hardly mean, a line each such as
//
//	rules.yaml:12:5: rule is_nightly: this last rule does not decide on every report
func (r *Rules) Warnings() []string {
	all := make([]string, len(r.content.warnings))
	for i, w := range r.content.warnings {
		all[i] = w.in(r.source)
	}
	return all
}

// Verdicts returns everything that a Tally may be told of the rules.
func (r *Rules) Verdicts() []Ruling {
	all := []Ruling{{crash.Reject, NoMatch}}
	for i := range r.content.rules {
		rule := &r.content.rules[i]
		all = append(all, Ruling{rule.below, rule.name})
		if rule.above != rule.below {
			all = append(all, Ruling{rule.above, rule.name})
		}
	}
	if r.limiter != nil {
		all = append(all, r.limiter.ruling)
	}
	return all
}
