package spool

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

const (
	// newcomerPatience is how long a newcomer waits for admission. It is longer than idle,
	// so that a newcomer outlasts clients that have just stalled.
	newcomerPatience = 4 * time.Second
	// bodyPatience is how long an admitted body waits for more room.
	bodyPatience = 10 * time.Second
	// lookEvery is the shortest time between two scans of all bodies for victims.
	lookEvery = 50 * time.Millisecond

	// small is the size, in bytes, up to which a body may use all of the room. Larger
	// bodies leave one part in reserve free.
	small   = 1 << 20
	reserve = 8

	// worse is how many times the cost of a body must exceed that of the one that needs
	// the room: equals never evict each other.
	worse = 4
	// bearable is the cost, in byte seconds, up to which no progressing body is evicted.
	// A body of 400 kB that takes a minute costs 6 MB s at most.
	bearable = 16 << 20
	// bearableWindow is the same while windows run short: a minute left to arrive.
	bearableWindow = 60 * Window
	// idle is the silence after which a body may be evicted whatever it costs.
	idle = 3 * time.Second
	// markEvery is the time between two marks of a body's progress.
	markEvery = time.Second
	// usualRate is the prior for the rate of an admitted body, and newRate that of a
	// newcomer, in bytes a second.
	usualRate = 64 << 10
	newRate   = 1 << 20
)

// errReclaimed is the error of an evicted body.
var errReclaimed = fmt.Errorf("%w: the room of a slow body was reclaimed", ErrFull)

// waiter is a body that needs room: an admitted one, or a newcomer.
type waiter struct {
	body     *Body
	newcomer bool
	size     int64 // bytes that it needs now, or the whole size of a newcomer
	granted  bool
	ready    chan struct{} // closed when granted or evicted; nil: it does not wait
	since    time.Time     // when it began to wait
}

// mark is a body's progress at a time.
type mark struct {
	at   time.Time
	size int64
}

// await takes room for w. If there is none it evicts others or waits until they finish.
// Its errors wrap ErrFull.
func (s *Store) await(w *waiter, patience time.Duration) error {
	s.mu.Lock()
	if w.body.evicted {
		defer s.mu.Unlock()
		return errReclaimed
	}
	err := s.full(w)
	if err != nil && !w.newcomer {
		w.size = Window // the least that helps
		err = s.full(w)
	}
	if err == nil || w.size > s.limit(w.size) {
		defer s.mu.Unlock()
		if err == nil {
			s.grant(w)
		}
		return err
	}
	w.ready, w.since = make(chan struct{}), time.Now()
	s.waiting = append(s.waiting, w)
	if !w.newcomer {
		w.body.waits = w
		s.waitingIn++
	}
	s.mu.Unlock()
	s.reclaim(w)
	s.sit(w, patience)

	s.mu.Lock()
	defer s.mu.Unlock()
	s.leave(w)
	switch {
	case w.granted:
		return nil
	case w.body.evicted:
		return errReclaimed
	}
	return err
}

// grow is await without a wait, the usual case. It reports whether there is room.
func (s *Store) grow(b *Body, n int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b.evicted || s.held+n > s.limit(b.room+n) {
		return false
	}
	s.hold(b, n)
	return true
}

// sit waits for w to be granted or evicted, and scans for victims meanwhile.
func (s *Store) sit(w *waiter, patience time.Duration) {
	over := time.NewTimer(patience)
	defer over.Stop()
	again := time.NewTicker(lookEvery * 5)
	defer again.Stop()
	for {
		select {
		case <-w.ready:
			return
		case <-w.body.ended:
			return
		case <-over.C:
			return
		case <-again.C:
			s.reclaim(w)
		}
	}
}

// leave removes w from the waiters.
func (s *Store) leave(w *waiter) {
	if i := slices.Index(s.waiting, w); i >= 0 {
		s.waiting = slices.Delete(s.waiting, i, i+1)
		if !w.newcomer {
			w.body.waits = nil
			s.waitingIn--
		}
	}
}

// wake grants room to waiters, in order of arrival.
func (s *Store) wake() {
	for _, w := range slices.Clone(s.waiting) {
		if s.full(w) == nil {
			s.grant(w)
			s.leave(w)
			close(w.ready)
		}
	}
}

// limit returns how much room may be in use for a body of that size to get more, in
// bytes.
func (s *Store) limit(size int64) int64 {
	if size <= small {
		return s.room
	}
	return s.room - s.room/reserve
}

// missing returns how many bytes w lacks; at most 0 means none. What is pledged counts
// against newcomers, but the reserve for small bodies cannot be pledged away.
func (s *Store) missing(w *waiter) int64 {
	if !w.newcomer {
		return s.held + w.size - s.limit(w.body.room+w.size)
	}
	taken := s.held + s.pledged
	if w.size <= small {
		taken = max(s.held, min(taken, s.limit(small+1)))
	}
	return taken + w.size - s.limit(w.size)
}

var (
	errNoRoom   = fmt.Errorf("%w: in use by other reports", ErrFull)
	errNoWindow = fmt.Errorf("%w: no memory for another report", ErrFull)
)

// full returns why w cannot be granted, nil if it can.
func (s *Store) full(w *waiter) error {
	switch {
	case s.missing(w) > 0:
		return errNoRoom
	case w.newcomer && s.used+Window > s.memory:
		return errNoWindow
	}
	return nil
}

// grant gives w its room. The caller has checked full.
func (s *Store) grant(w *waiter) {
	b := w.body
	w.granted = true
	if w.newcomer {
		s.used += Window
		b.place = len(s.arriving)
		s.arriving = append(s.arriving, b)
		s.hold(b, Window)
		return
	}
	if w.ready != nil {
		b.excuse(time.Since(w.since))
	}
	s.hold(b, w.size)
}

// hold gives a body n bytes of room. A body that announced more is expected to need as
// much again as has arrived of it: one that sends comes before newcomers, one that only
// announces does not.
func (s *Store) hold(b *Body, n int64) {
	s.held += n
	b.room += n
	s.pledged -= b.pledge
	b.pledge = max(0, min(roundUp(b.announced)-b.room, b.arrived.Load()))
	s.pledged += b.pledge
}

// makeRoom gives a body that has arrived one Window for derived data.
func (s *Store) makeRoom(b *Body) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.made+Window > s.rest {
		return ErrFull
	}
	s.made += Window
	b.made += Window
	return nil
}

// arrivedAt ends a body's growth and takes back its surplus room. It reports whether the
// body had been evicted, which no longer matters if it is complete.
func (s *Store) arrivedAt(b *Body) (evicted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := len(s.arriving) - 1
	s.arriving[b.place], s.arriving[last].place = s.arriving[last], b.place
	s.arriving[last] = nil
	s.arriving = s.arriving[:last]
	surplus := b.room - b.filled
	b.room -= surplus
	s.held -= surplus
	s.pledged -= b.pledge
	b.pledge = 0
	s.leaving -= b.leaving
	b.leaving = 0
	s.wake()
	return b.evicted
}

// reclaim evicts bodies so that w can be granted: the costliest first, and slightly more
// than w needs, since others will need room too. If more than half of the arriving
// bodies wait for each other, the costliest is evicted whatever it costs.
func (s *Store) reclaim(w *waiter) {
	s.mu.Lock()
	now := time.Now()
	missing := max(s.missing(w), Window) - s.leaving
	if w.granted || w.body.evicted || missing <= 0 || now.Sub(s.looked) < lookEvery && !s.stuck() {
		s.mu.Unlock()
		return
	}
	s.looked = now
	var interrupts []func()
	for _, b := range s.choose(w, missing, now) {
		interrupts = append(interrupts, b.interrupt) // b may be released when it is called
		s.evict(b)
	}
	s.mu.Unlock()
	for _, interrupt := range interrupts {
		interrupt()
	}
}

// stuck reports whether more than half of the arriving bodies wait and none is evicted.
func (s *Store) stuck() bool {
	return s.leaving == 0 && s.waitingIn > 1 && s.waitingIn*2 > len(s.arriving)
}

// choose returns the victims, none if they would not suffice.
func (s *Store) choose(w *waiter, missing int64, now time.Time) (leavers []*Body) {
	type candidate struct {
		body *Body
		cost float64
	}
	var all []candidate
	var worst candidate
	var room int64 // of all candidates
	limit := s.bearable(w, now)
	for _, b := range s.arriving {
		if b.evicted {
			continue
		}
		c := candidate{b, b.cost(0, now)}
		if worst.body == nil || c.cost > worst.cost {
			worst = c
		}
		if b != w.body && (c.cost > limit || b.isIdle(now)) {
			all = append(all, c)
			room += b.room + b.pledge
		}
	}
	var taken int64
	slices.SortFunc(all, func(a, b candidate) int { return cmp.Compare(b.cost, a.cost) })
	for _, c := range all {
		if room < missing || taken >= missing+s.room/64 {
			break
		}
		leavers = append(leavers, c.body)
		taken += c.body.room + c.body.pledge
	}
	if len(leavers) == 0 && worst.body != nil && s.stuck() {
		leavers = append(leavers, worst.body)
	}
	return leavers
}

// bearable returns the cost up to which a progressing body is not evicted for w.
func (s *Store) bearable(w *waiter, now time.Time) float64 {
	switch {
	case !w.newcomer:
		return max(bearable, worse*w.body.cost(w.size, now))
	case s.missing(w) <= 0: // so a window is
		return bearableWindow
	}
	return max(bearable, worse*float64(w.size)*float64(w.size)/newRate/2)
}

// evict marks a body as a victim. Its room is back when its reader has ended.
func (s *Store) evict(b *Body) {
	b.evicted = true
	b.leaving = b.room
	s.leaving += b.leaving
	s.reclaimed++
	s.pledged -= b.pledge
	b.pledge = 0
	if w := b.waits; w != nil {
		s.leave(w)
		close(w.ready)
	}
}

// cost estimates what letting a body arrive costs, in byte seconds: the bytes that it
// holds, and more, times the time that the rest takes at its recent rate.
func (b *Body) cost(more int64, now time.Time) float64 {
	size := b.arrived.Load()
	left := b.announced - size
	if b.announced < 0 {
		left = max(size, expected)
	}
	if b.waits != nil { // its silence is ours
		now = time.Unix(0, b.lastAt.Load())
	}
	took := max(0, now.Sub(b.marks[0].at)).Seconds() + 1
	rate := (float64(size-b.marks[0].size) + usualRate) / took
	return float64(b.room+more) * float64(max(left, 0)) / rate
}

// isIdle reports whether a body has stalled.
func (b *Body) isIdle(now time.Time) bool {
	return b.waits == nil && now.Sub(time.Unix(0, b.lastAt.Load())) > idle
}

// excuse leaves a wait for room out of what is known about the client.
func (b *Body) excuse(waited time.Duration) {
	b.lastAt.Add(int64(waited))
	for i := range b.marks {
		b.marks[i].at = b.marks[i].at.Add(waited)
	}
}

// progress records the body's progress for others to see.
func (b *Body) progress(now time.Time) {
	b.arrived.Store(b.size)
	b.lastAt.Store(now.UnixNano())
	if now.Sub(b.marks[1].at) < markEvery {
		return
	}
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	b.marks[0], b.marks[1] = b.marks[1], mark{now, b.size}
}
