// Package strikes tells a report that can never be stored from a store that is not
// well: it counts how often each report failed while others did not.
package strikes

import (
	"sync"
	"time"
)

// Rule says when a report that failed once more is given up.
type Rule struct {
	// Strikes is how many times it has to have failed; 0 means never.
	Strikes int
	// Age is how long ago the first strike has to be.
	Age time.Duration
	// Always has every failure be a strike. Otherwise it is one only if the store
	// was seen to be well since the one before, since failures in a row may have
	// one cause.
	Always bool
	// Others has a failure be a strike only if the same part of another report was
	// stored since the one before, in a PUT that began after it: that the store
	// takes a probe, or other parts, does not show that it would take this one.
	Others bool
}

// Report is a message of a stream.
type Report struct {
	Stream   string
	Sequence uint64
	Stored   int64 // when, as time.Time's UnixNano: a stream that was made anew counts from 1 again
}

// most bounds the reports that are counted; the one that failed longest ago is
// forgotten for a new one, and then counted from the beginning.
const most = 1024

// Counter counts strikes. Its methods may be called from any number of goroutines;
// the zero value is ready.
type Counter struct {
	mu     sync.Mutex
	well   uint64 // how often the store was seen to be well
	counts map[Report]*count
}

// count is how it stands with a report. Another part that fails, or trouble of another
// kind, which has another rule, is counted from the beginning.
type count struct {
	rule        Rule
	part        string
	strikes     int
	well        uint64 // Counter.well at the last strike
	others      bool   // took that part since the last strike
	first, last time.Time
}

// Failed counts a failure to store a part at the time now, and tells whether the
// report is to be given up by the rule.
func (c *Counter) Failed(r Report, part string, rule Rule, now time.Time) (giveUp bool) {
	if rule.Strikes == 0 {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.counts[r]
	switch {
	case n == nil || n.rule != rule || n.part != part:
		n = c.begin(r, now)
		n.rule, n.part = rule, part
	case n.well == c.well && !rule.Always, rule.Others && !n.others:
		return false
	}
	n.strikes++
	n.well, n.others, n.last = c.well, false, now
	return n.strikes >= rule.Strikes && now.Sub(n.first) >= rule.Age
}

// begin makes a count for a report that has none. The caller holds mu.
func (c *Counter) begin(r Report, now time.Time) *count {
	if c.counts == nil {
		c.counts = map[Report]*count{}
	}
	if _, there := c.counts[r]; !there && len(c.counts) >= most {
		var oldest Report
		var at time.Time
		for report, n := range c.counts {
			if at.IsZero() || n.last.Before(at) {
				oldest, at = report, n.last
			}
		}
		delete(c.counts, oldest)
	}
	n := &count{first: now}
	c.counts[r] = n
	return n
}

// Settled forgets a report that was stored or given up.
func (c *Counter) Settled(r Report) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.counts, r)
}

// Stored says that the store took a part of a report, in a PUT that began then.
func (c *Counter) Stored(part string, began time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.well++
	for _, n := range c.counts {
		n.others = n.others || n.part == part && began.After(n.last)
	}
}

// Well says that the store took a probe.
func (c *Counter) Well() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.well++
}

// Unwell says that the store did not take a probe: nothing that failed so far was
// a report's own fault for sure.
func (c *Counter) Unwell() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.counts)
}
