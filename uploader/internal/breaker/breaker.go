// Package breaker keeps workers away from a store that is not well, and finds
// out how many of them a store that is well can bear.
//
// A failure alone opens no breaker, however often it is repeated: it may be
// about one report. It only raises a suspicion, which a probe confirms or not;
// nobody enters meanwhile. As long as the probe fails, the breaker is open. Where a probe
// may be what is refused, a trial decides (trial.go).
package breaker

import (
	"context"
	"sync"
	"time"
)

// Config is how a breaker works. Every field is needed.
type Config struct {
	// Probe returns nil when the store is well. It is never called twice at once.
	Probe func(context.Context) error
	// Every is the time between probes while the breaker is open.
	Every time.Duration
	// Most is how many may be inside at a time when all is well.
	Most int
	// Judged is told each verdict, and what the probe returned, once Err says so too. It
	// may be called by Run, and by whoever calls Tried.
	Judged func(Verdict, error)
	// Refused reports whether a probe failed although the store answered, and may have
	// refused the probe alone. Nil means never.
	Refused func(error) bool
}

// Verdict is what came out of a probe or a trial.
type Verdict int

const (
	// Well means that the probe succeeded: the breaker is closed.
	Well Verdict = iota
	// Unwell means that the probe failed: the breaker is open.
	Unwell
	// HalfOpen means that the probe was refused: the breaker is open but for trials.
	HalfOpen
	// Excused means that the probe was refused, as it was before a trial went well, and
	// that something went well since the probe before: the breaker stays closed.
	Excused
	// Trial means that a trial went well: the breaker is closed.
	Trial
)

// Breaker is a breaker. Make one with New and have Run running; its other methods
// may be called from any number of goroutines.
type Breaker struct {
	cfg     Config
	suspect chan struct{}

	mu      sync.Mutex
	why     error // the breaker is open; nil: closed
	probing bool
	inside  int
	half    bool          // open, and trials are granted
	granted bool          // a trial may Begin
	trying  bool          // a trial has begun
	seeking bool          // somebody is inside to find something to try
	excuse  bool          // a trial went well although the probe was refused
	good    int           // how often something went well since the last probe
	failed  int           // how often something failed
	begun   int           // what failed was when the last probe began
	probed  int           // how many of failed the verdicts are about
	closed  chan struct{} // holds an element when a trial closed the breaker
	limit   float64       // how many may be inside
	target  float64       // up to here limit grows fast
	cut     time.Time     // when limit was last lowered
	changed chan struct{} // closed, and replaced, when somebody may enter, or Cleared may know more
	stopped chan struct{} // closed when Run has ended
}

// New returns a closed breaker that lets Most inside.
func New(cfg Config) *Breaker {
	return &Breaker{
		cfg: cfg, suspect: make(chan struct{}, 1), closed: make(chan struct{}, 1),
		limit: float64(cfg.Most), target: float64(cfg.Most), changed: make(chan struct{}), stopped: make(chan struct{}),
	}
}

// calm is the least time from a probe that went well to the next one: one report
// that fails again and again must not keep the others waiting for probes.
const calm = time.Second

// Run probes the store whenever there is a reason to, until ctx ends. It must be called
// only once.
func (b *Breaker) Run(ctx context.Context) {
	defer close(b.stopped)
	for {
		select {
		case <-b.suspect:
		case <-ctx.Done():
			return
		}
		for open := true; open; {
			b.begin()
			err := b.cfg.Probe(ctx)
			if ctx.Err() != nil {
				return // so the error says nothing about the store
			}
			b.judge(err)
			if open = b.pause(ctx); ctx.Err() != nil {
				return
			}
		}
	}
}

// pause waits until the next probe may run, and reports whether the breaker is open
// then.
func (b *Breaker) pause(ctx context.Context) (open bool) {
	probed := time.Now()
	every := b.cfg.Every
	if b.Err() == nil {
		every = min(every, calm)
	}
	select {
	case <-time.After(every):
	case <-b.closed:
		select {
		case <-time.After(min(b.cfg.Every, calm) - time.Since(probed)):
		case <-ctx.Done():
		}
	case <-ctx.Done():
	}
	return b.Err() != nil
}

// begin keeps everybody out until the verdict.
func (b *Breaker) begin() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.probing, b.begun = true, b.failed
}

// judge is the verdict of a probe.
func (b *Breaker) judge(err error) {
	b.mu.Lock()
	verdict := b.verdict(err)
	switch verdict {
	case Well:
		b.excuse = false
		if b.why != nil {
			b.close()
		}
	case Unwell, HalfOpen:
		b.why, b.half = err, verdict == HalfOpen
		b.granted = b.half && !b.trying
	case Excused, Trial: // closed
	}
	b.good, b.probing, b.probed = 0, false, max(b.probed, b.begun)
	select {
	case <-b.closed: // by a trial during the probe
	default:
	}
	b.wake()
	b.mu.Unlock()
	b.cfg.Judged(verdict, err)
}

// verdict is that on a probe's error. The caller holds mu.
func (b *Breaker) verdict(err error) Verdict {
	switch {
	case err == nil:
		return Well
	case b.cfg.Refused == nil || !b.cfg.Refused(err):
		return Unwell
	case b.why == nil && b.excuse && b.good > 0:
		return Excused
	}
	return HalfOpen
}

// close closes the breaker: not everybody who waited comes back at once, other uploaders
// too. The caller holds mu.
func (b *Breaker) close() {
	b.why, b.half, b.granted, b.limit = nil, false, false, 1
	b.probed = b.failed
	b.wake()
}

// Enter waits until there is room inside; the caller then has to Leave. While the
// breaker is half-open, one at a time is let in to find something to try. It returns
// ctx's error when that ends first.
func (b *Breaker) Enter(ctx context.Context) (Entry, error) {
	for ctx.Err() == nil {
		b.mu.Lock()
		trial := b.granted && !b.seeking
		if !b.probing && (trial || b.why == nil && b.inside < int(b.limit)) {
			b.inside++
			b.seeking = b.seeking || trial
			b.mu.Unlock()
			return Entry{b, trial}, nil
		}
		changed := b.changed
		b.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
	return Entry{}, ctx.Err()
}

// wake lets those who wait look again. The caller holds mu.
func (b *Breaker) wake() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// Err returns what the last probe said while the breaker is open, and nil while
// it is closed.
func (b *Breaker) Err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.why
}

// Limit returns how many may be inside at the moment.
func (b *Breaker) Limit() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.why != nil {
		return 0
	}
	return int(b.limit)
}

// Succeeded says that something went well inside: there may soon be more. As with
// TCP (RFC 5681), the limit doubles each round up to where it was good for half
// of the last trouble, and then grows by one a round.
func (b *Breaker) Succeeded() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.good++
	before := int(b.limit)
	if b.limit < b.target {
		b.limit++
	} else {
		b.limit += 1 / b.limit
	}
	b.limit = min(b.limit, float64(b.cfg.Most))
	if int(b.limit) > before {
		b.wake()
	}
}

// Failed says that something did not go well inside, perhaps for the store's
// sake: a probe will tell. While the breaker is open, probes run anyway.
func (b *Breaker) Failed() {
	b.mu.Lock()
	b.failed++
	open := b.why != nil
	b.mu.Unlock()
	if open {
		return
	}
	select {
	case b.suspect <- struct{}{}:
	default: // there is a suspicion already
	}
}

// Cleared waits for the verdict of a probe that began after every failure so far, and
// reports whether the breaker is closed: none of them opened it. It takes a second or so,
// and as long as a probe. It reports false when ctx or Run ends first.
func (b *Breaker) Cleared(ctx context.Context) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for failed := b.failed; b.why == nil; {
		if b.probed >= failed {
			return true
		}
		changed := b.changed
		b.mu.Unlock()
		select {
		case <-changed:
		case <-b.stopped:
		case <-ctx.Done():
		}
		b.mu.Lock()
		if changed == b.changed { // it was the end
			return false
		}
	}
	return false
}

// cutEvery is the least time between two cuts: those who are inside together hear
// of the same trouble together.
const cutEvery = time.Second

// TooMuch says that the store asks for less: half as many may be inside.
func (b *Breaker) TooMuch() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now := time.Now(); now.Sub(b.cut) >= cutEvery {
		b.cut = now
		b.limit = max(1, b.limit/2)
		b.target = b.limit
	}
}
