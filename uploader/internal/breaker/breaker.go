// Package breaker keeps workers away from a store that is not well, and finds
// out how many of them a store that is well can bear.
//
// A failure alone opens no breaker, however often it is repeated: it may be
// about one report. It only raises a suspicion, which a probe confirms or not;
// nobody enters meanwhile. As long as the probe fails, the breaker is open.
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
	// Judged is told what each probe returned, once Err says so too.
	Judged func(error)
}

// Breaker is a breaker. Make one with New and have Run running; its other methods
// may be called from any number of goroutines.
type Breaker struct {
	cfg     Config
	suspect chan struct{}

	mu      sync.Mutex
	why     error // the breaker is open; nil: closed
	probing bool
	inside  int
	limit   float64       // how many may be inside
	target  float64       // up to here limit grows fast
	cut     time.Time     // when limit was last lowered
	changed chan struct{} // closed, and replaced, when somebody may enter
}

// New returns a closed breaker that lets Most inside.
func New(cfg Config) *Breaker {
	return &Breaker{
		cfg: cfg, suspect: make(chan struct{}, 1),
		limit: float64(cfg.Most), target: float64(cfg.Most), changed: make(chan struct{}),
	}
}

// calm is the least time from a probe that went well to the next one: one report
// that fails again and again must not keep the others waiting for probes.
const calm = time.Second

// Run probes the store whenever there is a reason to, until ctx ends.
func (b *Breaker) Run(ctx context.Context) {
	for {
		select {
		case <-b.suspect:
		case <-ctx.Done():
			return
		}
		for well := false; !well; {
			b.begin()
			err := b.cfg.Probe(ctx)
			if ctx.Err() != nil {
				return // so the error says nothing about the store
			}
			b.judge(err)
			pause := b.cfg.Every
			if well = err == nil; well {
				pause = min(pause, calm)
			}
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return
			}
		}
	}
}

// begin keeps everybody out until the verdict.
func (b *Breaker) begin() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.probing = true
}

// judge is the verdict of a probe.
func (b *Breaker) judge(err error) {
	b.mu.Lock()
	if b.why != nil && err == nil {
		// Whoever waited comes back, other uploaders too: not all at once.
		b.limit = 1
	}
	b.why, b.probing = err, false
	b.wake()
	b.mu.Unlock()
	b.cfg.Judged(err)
}

// Enter waits until there is room inside; the caller then has to Leave. It returns
// ctx's error when that ends first.
func (b *Breaker) Enter(ctx context.Context) error {
	for ctx.Err() == nil {
		b.mu.Lock()
		if b.why == nil && !b.probing && b.inside < int(b.limit) {
			b.inside++
			b.mu.Unlock()
			return nil
		}
		changed := b.changed
		b.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

// Leave makes room for another one.
func (b *Breaker) Leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.inside--
	b.wake()
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
// sake: a probe will tell.
func (b *Breaker) Failed() {
	select {
	case b.suspect <- struct{}{}:
	default: // there is a suspicion already
	}
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
