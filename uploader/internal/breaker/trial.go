package breaker

// A breaker whose probe was refused, by a store that answers, is half-open: the store
// may refuse everything, or the probe alone. It then grants one trial for each such
// probe, one at a time. Whoever Begins first has the trial, and reports with Tried how
// it went: when it went well, the breaker closes.

// Entry is the room that somebody has inside. The caller must Leave, once.
type Entry struct {
	b     *Breaker
	trial bool // let in to look for a trial
}

// Leave makes room for another one.
func (e Entry) Leave() {
	b := e.b
	b.mu.Lock()
	defer b.mu.Unlock()
	b.inside--
	if e.trial {
		b.seeking = false
	}
	b.wake()
}

// Begin returns nil when work on something may begin, and otherwise why the breaker is
// open. It claims the trial when there is one; the caller then must call Tried or
// Untried, once.
func (b *Breaker) Begin() (trial bool, why error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.granted {
		b.granted, b.trying = false, true
		return true, nil
	}
	return false, b.why
}

// Blocked reports whether nothing may Begin at the moment.
func (b *Breaker) Blocked() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.why != nil && !b.granted
}

// Tried ends a trial. After one that went well the breaker is closed, and later probes
// that are refused do not open it as long as somebody Succeeded since the one before.
func (b *Breaker) Tried(well bool) {
	b.mu.Lock()
	b.trying = false
	closes := well && b.half // a later probe may have met with worse
	if closes {
		b.excuse = true
		b.close()
		select {
		case b.closed <- struct{}{}:
		default:
		}
	}
	b.mu.Unlock()
	if closes {
		b.cfg.Judged(Trial, nil)
	}
}

// Untried gives a trial back that did not come to the store.
func (b *Breaker) Untried() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trying, b.granted = false, b.half
	b.wake()
}
