// Package strikes tells a report that can never be stored from a store that is not
// well: it counts how often each report failed while others did not.
package strikes

import (
	"container/list"
	"sync"
	"time"
)

// Rule says when a report that failed once more is given up.
type Rule struct {
	// Strikes is how many failures it takes; 0 means that no number does.
	Strikes int
	// Age is how long ago the first of them must be.
	Age time.Duration
	// Always counts every failure. Otherwise one counts only if the store was seen
	// to be healthy since the one before, because failures in a row may have one
	// cause.
	Always bool
	// Others counts a failure only if the store has accepted the same part of
	// another report, or a control object in its place, in a PUT that began after
	// the failure before: that it accepts a probe, or other parts, does not show
	// that it would accept this one.
	Others bool
	// ControlAge is Age where control objects are all the evidence there is: the
	// store may refuse every report and accept what is small. It may differ from one
	// failure of a kind to the next.
	ControlAge time.Duration
}

// kind is what the rules of failures that are counted together have in common.
func (r Rule) kind() Rule {
	r.ControlAge = 0
	return r
}

// Report is a message of a stream.
type Report struct {
	Stream   string
	Sequence uint64
	Stored   int64 // when, as time.Time's UnixNano: a re-created stream counts from 1 again
}

// most bounds the reports that are counted, some 200 bytes each; the one that failed
// longest ago is forgotten for a new one, and then counted from the beginning. It is
// more than can be held and unacknowledged together.
const most = 1 << 16

// Counter counts strikes. Its methods may be called from any number of goroutines;
// the zero value is ready.
type Counter struct {
	// ControlEvery is the least time between two control objects in the place of one
	// part.
	ControlEvery time.Duration

	mu     sync.Mutex
	well   uint64 // how often the store was seen to be healthy
	counts map[Report]*count
	order  list.List            // of Report: the one that failed longest ago is first
	parts  map[string]*evidence // of those that counts are about
}

// count is the failures of one report. A failure of another part, or of another kind,
// which has another rule, begins a new one.
type count struct {
	place       *list.Element // in Counter.order
	rule        Rule          // its kind
	part        string
	evidence    *evidence // about part
	strikes     int
	weak        bool   // control objects were the evidence for some of them
	well        uint64 // Counter.well at the last strike
	first, last time.Time
}

// evidence is what the store accepted last in the place of a part: when the PUT began.
type evidence struct {
	counts          int // that refer to it
	stored, control time.Time
	triedAt         time.Time // the last control object
}

// Failed counts a failure to store a part at the time now, and reports whether the
// rule gives the report up.
func (c *Counter) Failed(r Report, part string, rule Rule, now time.Time) (giveUp bool) {
	if rule.Strikes == 0 {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.counts[r]
	switch {
	case n == nil || n.rule != rule.kind() || n.part != part:
		n = c.begin(r, part, now)
		n.rule = rule.kind()
	default:
		c.order.MoveToBack(n.place)
	}
	switch {
	case n.strikes == 0:
	case n.well == c.well && !rule.Always, rule.Others && !n.refuted():
		return false
	default:
		n.weak = n.weak || rule.Others && !n.evidence.stored.After(n.last)
	}
	n.strikes++
	n.well, n.last = c.well, now
	age := rule.Age
	if n.weak {
		age = max(age, rule.ControlAge)
	}
	return n.strikes >= rule.Strikes && now.Sub(n.first) >= age
}

// Strikes returns how many failures of a report count, by the rule of the last one.
func (c *Counter) Strikes(r Report) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.counts[r]; n != nil {
		return n.strikes
	}
	return 0
}

// refuted reports whether the store has accepted the like of the part since the last
// strike.
func (n *count) refuted() bool {
	return n.evidence.stored.After(n.last) || n.evidence.control.After(n.last)
}

// begin makes a new count for a report. The caller holds mu.
func (c *Counter) begin(r Report, part string, now time.Time) *count {
	if c.counts == nil {
		c.counts, c.parts = map[Report]*count{}, map[string]*evidence{}
	}
	c.drop(r)
	if len(c.counts) >= most {
		c.drop(c.order.Front().Value.(Report))
	}
	if c.parts[part] == nil {
		c.parts[part] = &evidence{}
	}
	c.parts[part].counts++
	n := &count{place: c.order.PushBack(r), part: part, evidence: c.parts[part], first: now}
	c.counts[r] = n
	return n
}

// drop forgets a report, if it is counted. The caller holds mu.
func (c *Counter) drop(r Report) {
	n := c.counts[r]
	if n == nil {
		return
	}
	delete(c.counts, r)
	c.order.Remove(n.place)
	if n.evidence.counts--; n.evidence.counts == 0 {
		delete(c.parts, n.part)
	}
}

// Settled forgets a report that was stored or given up.
func (c *Counter) Settled(r Report) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(r)
}

// Stored says that the store accepted a part of a report, in a PUT that began then.
func (c *Counter) Stored(part string, began time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.well++
	if e := c.parts[part]; e != nil && began.After(e.stored) {
		e.stored = began
	}
}

// NeedsControl reports whether a control object in the place of a part could be
// evidence against the report, which nothing else is. It says so at most once in
// ControlEvery for each part.
func (c *Counter) NeedsControl(r Report, part string, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.counts[r]
	if n == nil || n.part != part || n.refuted() || now.Sub(n.evidence.triedAt) < c.ControlEvery {
		return false
	}
	n.evidence.triedAt = now
	return true
}

// Controlled says that the store accepted a control object in the place of a part, in a
// PUT that began then.
func (c *Counter) Controlled(part string, began time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.well++
	if e := c.parts[part]; e != nil && began.After(e.control) {
		e.control = began
	}
}

// Well says that the store accepted a probe.
func (c *Counter) Well() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.well++
}

// Unwell says that the store did not accept a probe: nothing that failed so far was
// a report's own fault for sure.
func (c *Counter) Unwell() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.counts)
	clear(c.parts)
	c.order.Init()
}
