package transport

import (
	"cmp"
	"slices"
	"time"
)

const (
	// ripe is how long a connection has, before it may be evicted, to show that
	// it has a request, or to get its answer. Without it a flood of newcomers
	// would displace each other before the first was read. It also bounds how fast
	// they do.
	ripe = 100 * time.Millisecond
	// mellow is the same while there is a reserve: connections of a moment ago are
	// evicted only where they are too many.
	mellow = time.Second
	// stale is how long a connection has been idle that goes first.
	stale = 10 * time.Second
	// looks is how many connections are looked at to find one to evict.
	looks = 16
)

// evictOne evicts a connection, and reports whether there was one to evict.
func (l *Listener) evictOne() bool {
	l.mu.Lock()
	victim := cmp.Or(l.longest(idle), l.longest(fresh, head, announced, answered))
	if victim != nil {
		l.evict(victim)
	}
	l.mu.Unlock()
	victim.cut()
	return victim != nil
}

// victim returns the connection to evict for a newcomer, or nil. reserved says that
// there is a slot for it in the reserve. The caller holds the lock.
func (l *Listener) victim(reserved bool) *Conn {
	unfinished, kept := l.longest(fresh, head, announced, answered), l.longest(idle)
	switch {
	case kept.lasted(stale):
		return kept
	case unfinished.lasted(mellow):
		return unfinished
	case kept.lasted(mellow):
		return kept
	case reserved:
		return nil
	case unfinished.lasted(ripe):
		return unfinished
	case unfinished == nil && kept.lasted(ripe):
		return kept
	}
	return nil
}

// anyWaiting reports whether a connection has no request in progress. The caller holds
// the lock.
func (l *Listener) anyWaiting() bool {
	return slices.ContainsFunc(l.waiting[:], func(s list) bool { return s.n > 0 })
}

// lasted reports whether a connection, which may be nil, has been in its state for d. The
// caller holds the lock.
func (c *Conn) lasted(d time.Duration) bool { return c != nil && time.Since(c.since) >= d }

// longest returns the connection that has been in one of these states the longest, or
// nil. The caller holds the lock.
func (l *Listener) longest(states ...state) (longest *Conn) {
	for _, state := range states {
		if c := l.silent(state); c != nil && (longest == nil || c.since.Before(longest.since)) {
			longest = c
		}
	}
	return longest
}

// silent returns the connection that has been in a state the longest, or nil. One
// from which there is something to read is taken for a newcomer: its client has done
// what it can. The caller holds the lock.
func (l *Listener) silent(s state) *Conn {
	for range looks {
		c := l.waiting[s].first
		if c == nil || s == answered || !c.lasted(ripe) || !c.hasUnread() {
			return c
		}
		l.waiting[s].remove(c)
		c.since = time.Now()
		l.waiting[s].push(c)
	}
	return nil
}

// evict takes a connection's slot. The caller holds the lock, and cuts it.
func (l *Listener) evict(c *Conn) {
	l.metrics.evicted.WithLabelValues(c.state.String()).Inc()
	l.leave(c)
}
