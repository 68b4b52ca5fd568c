package loadgen

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/yagi-crash/yagi/deploy/internal/submit"
)

// mostLatencies bounds the memory for them to 80 MB.
const mostLatencies = 10_000_000

// tally is what came of the reports so far.
type tally struct {
	mu        sync.Mutex
	sent      int64
	late      int64
	answered  int64
	troubled  int64 // refused, or without an answer
	bytes     int64 // of the bodies that were answered
	outcomes  map[string]*Outcome
	latencies []time.Duration
	longest   time.Duration
	last      time.Time // when the last outcome was known
}

// Outcome is what reports met with.
type Outcome struct {
	// Text is the answer, such as "200 CrashID" or "503 Discarded=unavailable",
	// or what kept it away, such as "connection refused".
	Text string `json:"text"`
	// Fine says that it is what an intake in good health does.
	Fine  bool  `json:"fine"`
	Count int64 `json:"count"`
}

func (t *tally) begin(late time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sent++
	if late > lateness {
		t.late++
	}
}

func (t *tally) answer(a submit.Answer, size int, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.answered++
	t.bytes += int64(size)
	t.enter(Outcome{Text: a.String(), Fine: a.Promised() || a.Ruled()})
	t.measure(took)
}

// fail counts a report without an answer. One that was waited for in vain took
// at least as long, and to leave it out would make a stall look better.
func (t *tally) fail(err error, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.enter(Outcome{Text: submit.Kind(err)})
	if submit.IsTimeout(err) {
		t.measure(took)
	}
}

func (t *tally) enter(o Outcome) {
	known := t.outcomes[o.Text]
	if known == nil {
		known = &o
		t.outcomes[o.Text] = known
	}
	known.Count++
	if !o.Fine {
		t.troubled++
	}
	t.last = time.Now()
}

func (t *tally) measure(took time.Duration) {
	if len(t.latencies) < mostLatencies {
		t.latencies = append(t.latencies, took)
	}
	t.longest = max(t.longest, took)
}

// list is the outcomes, the most frequent first.
func (t *tally) list() []Outcome {
	all := make([]Outcome, 0, len(t.outcomes))
	for o := range maps.Values(t.outcomes) {
		all = append(all, *o)
	}
	slices.SortFunc(all, func(a, b Outcome) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Text, b.Text))
	})
	return all
}

// Latency is how long answers took, in seconds: from when a report was due, or
// without a rate from when it was sent.
type Latency struct {
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99_9"`
	Max  float64 `json:"max"`
	// Measured is how many answers this tells of, and posts that ran into their
	// timeout: all, or the first ten million.
	Measured int `json:"measured"`
}

func (t *tally) latency() Latency {
	slices.Sort(t.latencies)
	at := func(share float64) float64 {
		if len(t.latencies) == 0 {
			return 0
		}
		rank := int(math.Ceil(share * float64(len(t.latencies)))) // the nearest rank
		return t.latencies[max(rank, 1)-1].Seconds()
	}
	return Latency{at(0.5), at(0.9), at(0.99), at(0.999), t.longest.Seconds(), len(t.latencies)}
}
