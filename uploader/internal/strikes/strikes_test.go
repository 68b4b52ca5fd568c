package strikes

import (
	"testing"
	"time"
)

// What happens to a report, and to the store.
const (
	fails    = "it fails"
	stored   = "another report is stored"
	inHand   = "that of another report is stored whose PUT began before"
	other    = "another part is stored"
	well     = "a probe succeeds"
	unwell   = "a probe fails"
	anHour   = "an hour passes"
	isStored = "it is stored"
	control  = "a control object is stored"
)

func TestGivesUp(t *testing.T) {
	damage := Rule{Strikes: 3, Always: true}
	definite := Rule{Strikes: 3}
	doubtful := Rule{Strikes: 3, Others: true}
	passing := Rule{Strikes: 3, Age: time.Hour, Others: true}
	alone := Rule{Strikes: 3, Others: true, ControlAge: time.Hour}
	for name, test := range map[string]struct {
		rule  Rule
		story []string
		want  bool // given up by its last failure
	}{
		"no rule":                              {Rule{}, []string{fails, stored, fails, stored, fails, stored, fails}, false},
		"damage, in a row":                     {damage, []string{fails, fails, fails}, true},
		"damage, and an outage":                {damage, []string{fails, fails, unwell, fails, fails}, false},
		"when another part was stored":         {doubtful, []string{fails, other, fails, other, fails}, false},
		"when one in hand was stored":          {doubtful, []string{fails, inHand, fails, well, fails}, false},
		"once too few":                         {definite, []string{fails, stored, fails, stored}, false},
		"while others are stored":              {definite, []string{fails, stored, fails, stored, fails}, true},
		"with a store that is well":            {definite, []string{fails, well, fails, well, fails}, true},
		"in a row, for one cause perhaps":      {definite, []string{fails, fails, fails, fails, fails}, false},
		"two of them in a row":                 {definite, []string{fails, well, fails, fails}, false},
		"an outage in between":                 {definite, []string{fails, well, fails, unwell, well, fails}, false},
		"an outage, and then as often":         {definite, []string{fails, unwell, fails, well, fails, well, fails}, true},
		"it was stored in between":             {definite, []string{fails, well, fails, isStored, well, fails}, false},
		"when only probes succeed":             {doubtful, []string{fails, well, fails, well, fails, well, fails}, false},
		"when one report was stored before":    {doubtful, []string{stored, fails, well, fails, well, fails}, false},
		"when one report was stored":           {doubtful, []string{fails, stored, fails, well, fails, well, fails}, false},
		"when others are stored each time":     {doubtful, []string{fails, stored, fails, well, fails, stored, fails}, true},
		"too soon":                             {passing, []string{fails, stored, fails, stored, fails, stored, fails}, false},
		"after an hour":                        {passing, []string{fails, stored, fails, anHour, stored, fails}, true},
		"an hour after an outage":              {passing, []string{fails, stored, anHour, unwell, well, fails, well, fails, stored, fails}, false},
		"an hour with nothing but the failure": {passing, []string{fails, anHour, fails, fails}, false},
		"alone, with controls, too soon":       {alone, []string{fails, control, fails, control, fails, control, fails}, false},
		"alone, with controls, for an hour":    {alone, []string{fails, control, fails, anHour, control, fails}, true},
		"alone for an hour, without controls":  {alone, []string{fails, well, fails, anHour, well, fails, fails}, false},
		"others are stored, one control":       {alone, []string{fails, control, fails, stored, fails, stored, fails}, false},
		"others are stored, and controls":      {alone, []string{fails, control, stored, fails, control, stored, fails}, true},
		"a control before it failed":           {alone, []string{control, fails, anHour, well, fails, well, fails}, false},
	} {
		t.Run(name, func(t *testing.T) {
			var c Counter
			r := Report{Stream: "CRASHES_0", Sequence: 7}
			begin := time.Unix(0, 0)
			now := begin
			got := false
			for _, what := range test.story {
				now = now.Add(time.Second)
				switch what {
				case fails:
					got = c.Failed(r, "dump", test.rule, now)
				case stored:
					c.Stored("dump", now)
				case inHand:
					c.Stored("dump", begin)
				case other:
					c.Stored("raw_crash", now)
				case well:
					c.Well()
				case unwell:
					c.Unwell()
				case anHour:
					now = now.Add(time.Hour)
				case isStored:
					c.Settled(r)
				case control:
					c.Controlled("dump", now)
				}
			}
			if got != test.want {
				t.Errorf("given up: %t, want %t", got, test.want)
			}
		})
	}
}

// How long control objects have to be the evidence may change; the failures still count.
func TestControlAgeChanges(t *testing.T) {
	var c Counter
	r := Report{Stream: "CRASHES_0", Sequence: 7}
	now := time.Unix(0, 0)
	fail := func(age time.Duration) bool {
		now = now.Add(time.Second)
		c.Controlled("dump", now)
		now = now.Add(time.Second)
		return c.Failed(r, "dump", Rule{Strikes: 3, Others: true, ControlAge: age}, now)
	}
	for range 4 {
		if fail(time.Hour) {
			t.Fatal("given up too soon")
		}
	}
	if !fail(0) {
		t.Error("not given up")
	}
}

// What fails for one cause after another, or at one part after another, is not given
// up by the rule of the last one alone.
func TestTroublesAreCountedApart(t *testing.T) {
	var c Counter
	r := Report{Stream: "CRASHES_0", Sequence: 7}
	now := time.Unix(0, 0)
	fail := func(part string, rule Rule) bool {
		now = now.Add(time.Second)
		c.Well()
		return c.Failed(r, part, rule, now)
	}
	for range 9 {
		fail("dump", Rule{Strikes: 3, Age: time.Hour})
	}
	if fail("dump", Rule{Strikes: 3}) {
		t.Error("given up by its first failure of another kind")
	}
	fail("dump", Rule{Strikes: 3})
	if fail("raw_crash", Rule{Strikes: 3}) {
		t.Error("given up by its first failure at another part")
	}
	fail("raw_crash", Rule{Strikes: 3})
	if !fail("raw_crash", Rule{Strikes: 3}) {
		t.Error("not given up")
	}
}

func TestReportsAreCountedApart(t *testing.T) {
	var c Counter
	for range 2 {
		for seq := range uint64(10) {
			if c.Failed(Report{Stream: "CRASHES_0", Sequence: seq}, "dump", Rule{Strikes: 3}, time.Now()) {
				t.Errorf("report %d is given up too early", seq)
			}
		}
		c.Well()
	}
	if c.Failed(Report{Stream: "CRASHES_1", Sequence: 3}, "dump", Rule{Strikes: 3}, time.Now()) {
		t.Error("a report of another stream is given up")
	}
	if c.Failed(Report{Stream: "CRASHES_0", Sequence: 3, Stored: 1}, "dump", Rule{Strikes: 3}, time.Now()) {
		t.Error("a report of a stream that was made anew is given up")
	}
	if !c.Failed(Report{Stream: "CRASHES_0", Sequence: 3}, "dump", Rule{Strikes: 3}, time.Now()) {
		t.Error("a report is not given up")
	}
}

// A control object is asked for once in a while, and only where nothing else is evidence.
func TestNeedsControl(t *testing.T) {
	const controlEvery = time.Minute
	c := Counter{ControlEvery: controlEvery}
	r, rule := Report{Stream: "CRASHES_0", Sequence: 7}, Rule{Strikes: 3, Others: true}
	now := time.Unix(0, 0)
	if c.NeedsControl(r, "dump", now) {
		t.Error("before it failed")
	}
	c.Failed(r, "dump", rule, now)
	if c.NeedsControl(r, "raw_crash", now) {
		t.Error("of a part that did not fail")
	}
	if !c.NeedsControl(r, "dump", now.Add(time.Second)) {
		t.Error("not after it failed")
	}
	if c.NeedsControl(r, "dump", now.Add(2*time.Second)) {
		t.Error("again at once")
	}
	if !c.NeedsControl(r, "dump", now.Add(time.Second+controlEvery)) {
		t.Error("not after a while")
	}
	c.Stored("dump", now.Add(3*time.Second))
	if c.NeedsControl(r, "dump", now.Add(time.Hour)) {
		t.Error("although the part of another report was stored")
	}
}

// However many fail, memory is bounded, and what failed last is remembered.
func TestForgetsTheOldest(t *testing.T) {
	var c Counter
	now := time.Unix(0, 0)
	for seq := range uint64(3 * most) {
		c.Failed(Report{Stream: "CRASHES_0", Sequence: seq}, "dump", Rule{Strikes: 2}, now.Add(time.Duration(seq)))
	}
	if len(c.counts) != most {
		t.Errorf("%d reports are counted, want %d", len(c.counts), most)
	}
	c.Well()
	now = now.Add(time.Hour)
	if !c.Failed(Report{Stream: "CRASHES_0", Sequence: 2 * most}, "dump", Rule{Strikes: 2}, now) {
		t.Error("one that failed lately is forgotten")
	}
	if c.Failed(Report{Stream: "CRASHES_0", Sequence: 2*most - 1}, "dump", Rule{Strikes: 2}, now) {
		t.Error("one that failed long ago is remembered")
	}
}
