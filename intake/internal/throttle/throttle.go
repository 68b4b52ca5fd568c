// Package throttle decides which reports are kept: it judges a report's
// annotations by the rules of a file and names the rule that decided.
//
// A file is YAML (mozilla.yaml is one): an ordered list of rules, each with a
// condition and a verdict. The first rule decides whose condition holds and
// whose verdict is not continue; the meaning of a condition's functions is that
// of Antenna's throttler (antenna/throttler.py), so that its rules can be
// written down and give the same verdicts.
//
// Conditions are expressions (github.com/expr-lang/expr) without loops. They
// are checked when the file is read, names and types included, so that none
// can fail for a reason of its own later; one that fails on a report all the
// same counts as not holding, because a report must not be lost over it.
package throttle

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/expr-lang/expr/vm"

	"github.com/yagi-crash/yagi/pkg/crash"
)

// NoMatch is the rule of a report about which no rule decided; it is rejected,
// as in Antenna.
const NoMatch = "NO_MATCH"

// Ruling is what became of a report, and why.
type Ruling struct {
	Outcome crash.Outcome
	// Rule is the name of the rule that decided: letters, digits, underscores.
	Rule string
}

// Tally is told what rules say. It is told by many goroutines at a time.
type Tally interface {
	// Verdict counts what a rule says of a report that it matches, which may be
	// continue; and also the rejection of a report about which no rule decided,
	// and what the limit says of one that is beyond it.
	Verdict(Ruling)
	// Failed counts a rule's condition that could not be evaluated.
	Failed(rule string)
}

// Rules is a set of rules, safe for concurrent use. The zero value is not
// usable; see Parse.
type Rules struct {
	source, hash string
	content      *content
	draw         func() float64
	now          func() time.Time
	tally        Tally
	limiter      *limiter // nil without a limit
	evaluators   sync.Pool
}

// Option changes a set of rules from what production uses.
type Option func(*Rules)

// WithDraws has sampling rules draw from a source of one's own, which returns
// numbers from 0 up to, but not including, 1.
func WithDraws(draw func() float64) Option { return func(r *Rules) { r.draw = draw } }

// WithClock has the ages of build ids counted to a time of one's own.
func WithClock(now func() time.Time) Option { return func(r *Rules) { r.now = now } }

// WithTally has verdicts counted.
func WithTally(t Tally) Option { return func(r *Rules) { r.tally = t } }

// WithCountsOf has the limit go on counting from where that of other rules is,
// if the two are the same.
func WithCountsOf(other *Rules) Option {
	return func(r *Rules) {
		if other != nil && r.limiter != nil && other.limiter != nil && r.limiter.Limit == other.limiter.Limit {
			r.limiter = other.limiter
		}
	}
}

// Load is Read and Parse in one.
func Load(source string, options ...Option) (*Rules, error) {
	data, err := Read(source)
	if err != nil {
		return nil, err
	}
	return Parse(source, data, options...)
}

// Parse reads a rule file. Everything that is wrong with it is in the error,
// a *FileError; source is what the file is called there.
func Parse(source string, data []byte, options ...Option) (*Rules, error) {
	c, err := parse(source, data)
	if err != nil {
		return nil, err
	}
	r := &Rules{source: source, hash: Hash(data), content: c, draw: rand.Float64, now: time.Now, tally: nobody{}, limiter: c.limiter}
	for _, option := range options {
		option(r)
	}
	r.evaluators.New = func() any { return r.evaluator() }
	return r, nil
}

// Hash names a rule file's content: the first twelve hexadecimal digits of its
// SHA-256.
func Hash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:6])
}

// nobody is the Tally of rules that nobody counts.
type nobody struct{}

func (nobody) Verdict(Ruling) {}
func (nobody) Failed(string)  {}

// evaluator is what one goroutine needs to judge a report.
type evaluator struct {
	view view
	env  map[string]any
	vm   vm.VM
}

func (r *Rules) evaluator() *evaluator {
	e := &evaluator{view: view{aliases: r.content.aliases, now: r.now}}
	e.env = environment(&e.view, r.content)
	return e
}

// environment is every name that a condition may use.
func environment(v *view, c *content) map[string]any {
	env := map[string]any{"products": c.products, "package_names": c.packageNames}
	maps.Copy(env, v.functions())
	return env
}

// holds evaluates a condition.
func (e *evaluator) holds(c condition) (bool, error) {
	if c.always {
		return true, nil
	}
	result, err := e.vm.Run(c.program, e.env)
	if err != nil {
		return false, err
	}
	holds, _ := result.(bool) // it was compiled to be one
	return holds, nil
}

// Judge rules on a report by its annotations.
func (r *Rules) Judge(annotations crash.Annotations) Ruling {
	return r.judge(annotations, func(string) float64 { return r.draw() })
}

// JudgeBoth rules on a report by two sets of rules. Rules of one name draw the
// same random number, so that only what differs between the sets shows.
func JudgeBoth(live, shadow *Rules, annotations crash.Annotations) (ruling, other Ruling) {
	drawn := map[string]float64{}
	draw := func(rule string) float64 {
		if _, ok := drawn[rule]; !ok {
			drawn[rule] = live.draw()
		}
		return drawn[rule]
	}
	return live.judge(annotations, draw), shadow.judge(annotations, draw)
}

func (r *Rules) judge(annotations crash.Annotations, draw func(rule string) float64) Ruling {
	e := r.evaluators.Get().(*evaluator)
	e.view.look(annotations)
	ruling := r.guard(e, r.decide(e, draw))
	e.view.look(nil)
	r.evaluators.Put(e)
	return ruling
}

// decide finds the first rule that decides.
func (r *Rules) decide(e *evaluator, draw func(rule string) float64) Ruling {
	for i := range r.content.rules {
		rule := &r.content.rules[i]
		holds, err := e.holds(rule.condition)
		if err != nil {
			r.tally.Failed(rule.name)
		}
		if !holds {
			continue
		}
		ruling := Ruling{rule.below, rule.name}
		if rule.samples && draw(rule.name)*100 > rule.percent {
			ruling.Outcome = rule.above
		}
		r.tally.Verdict(ruling)
		if ruling.Outcome != crash.Continue {
			return ruling
		}
	}
	ruling := Ruling{crash.Reject, NoMatch}
	r.tally.Verdict(ruling)
	return ruling
}
