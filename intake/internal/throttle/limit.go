package throttle

import (
	"container/list"
	"hash/maphash"
	"math"
	"sync"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/time/rate"

	"github.com/yagi-crash/yagi/pkg/crash"
)

// Limit is a guard against storms: of the reports that the rules would keep, so
// many a second for each value of an annotation; what is beyond gets the
// verdict. Each process counts for itself.
type Limit struct {
	Key       string  `json:"key"`        // the annotation, never empty
	PerSecond float64 `json:"per_second"` // reports, for each of its values; above 0
	Burst     float64 `json:"burst"`      // reports that may come at once, from 1 on
	Verdict   string  `json:"verdict"`    // defer or reject
}

// maxLimitKeys is how many values of the annotation a limit knows at a time.
// One that has not been seen for longest is forgotten, and begins anew.
const maxLimitKeys = 10_000

// minPerSecond is the lowest rate of a limit, about one report in twelve days.
const minPerSecond = 1e-6

// limiter counts the reports of each value.
type limiter struct {
	Limit
	ruling Ruling
	seed   maphash.Seed

	mu      sync.Mutex
	buckets map[uint64]*list.Element // by the value's hash, which has a bounded size
	recent  list.List                // of *bucket, the one seen last in front
}

type bucket struct {
	key    uint64
	tokens *rate.Limiter
}

func newLimiter(l Limit, outcome crash.Outcome) *limiter {
	return &limiter{
		Limit: l, ruling: Ruling{outcome, "limit_" + l.Key},
		seed: maphash.MakeSeed(), buckets: map[uint64]*list.Element{},
	}
}

// allows counts a report.
func (l *limiter) allows(value string, now time.Time) bool {
	key := maphash.String(l.seed, value)
	l.mu.Lock()
	defer l.mu.Unlock()
	element, ok := l.buckets[key]
	if ok {
		l.recent.MoveToFront(element)
	} else {
		element = l.recent.PushFront(&bucket{key, rate.NewLimiter(rate.Limit(l.PerSecond), int(l.Burst))})
		l.buckets[key] = element
	}
	if len(l.buckets) > maxLimitKeys {
		delete(l.buckets, l.recent.Remove(l.recent.Back()).(*bucket).key)
	}
	return element.Value.(*bucket).tokens.AllowN(now, 1)
}

// guard is the limit's say about a ruling.
func (r *Rules) guard(e *evaluator, ruling Ruling) Ruling {
	l := r.limiter
	if l == nil || ruling.Outcome != crash.Accept && ruling.Outcome != crash.Defer {
		return ruling
	}
	if l.allows(e.view.text(l.Key), e.view.now()) {
		return ruling
	}
	r.tally.Verdict(l.ruling)
	return l.ruling
}

// limit reads the limit of a file.
func (r *reader) limit(n *yaml.Node) *limiter {
	var l Limit
	outcome := crash.Reject
	given := map[string]bool{}
	read := func(key string, into func(*yaml.Node)) func(*yaml.Node) {
		return func(n *yaml.Node) { given[key] = true; into(n) }
	}
	r.fields(n, map[string]func(*yaml.Node){
		"key":        read("key", func(n *yaml.Node) { l.Key = r.limitKey(n) }),
		"per_second": read("per_second", func(n *yaml.Node) { l.PerSecond = r.number(n, minPerSecond, 1e6) }),
		"burst":      read("burst", func(n *yaml.Node) { l.Burst = r.whole(n, 1, 1e6) }),
		"verdict":    read("verdict", func(n *yaml.Node) { outcome = r.outcome(n) }),
	}, "key, per_second, burst, verdict")
	for _, key := range []string{"key", "per_second", "burst", "verdict"} {
		if n.Kind == yaml.MappingNode && !given[key] {
			r.refuse(n, "the limit has no %s", key)
		}
	}
	if outcome != crash.Defer && outcome != crash.Reject {
		r.refuse(n, "the limit's verdict is %s, it can be defer or reject", outcome)
	}
	l.Verdict = outcome.String()
	return newLimiter(l, outcome)
}

func (r *reader) limitKey(n *yaml.Node) string {
	if n.Kind == yaml.ScalarNode && n.Tag != "!!null" && n.Value == "" {
		r.refuse(n, "the limit's key is empty")
		return ""
	}
	return r.name(n)
}

// whole returns a number without a fraction.
func (r *reader) whole(n *yaml.Node, low, high float64) float64 {
	f := r.number(n, low, high)
	if f != math.Trunc(f) {
		r.refuse(n, "%s where a whole number should be", shape(n))
	}
	return f
}
