package intake

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/yagi-crash/yagi/intake/internal/transport"
	"github.com/yagi-crash/yagi/pkg/crash"
)

const (
	// slotWait is how long a report waits for one of INTAKE_MAX_CONNECTIONS: less than
	// clients wait for an answer, and enough for some of them to end.
	slotWait = 5 * time.Second
	// slotGrace is how long all reads of a body have to wait for its client before it may
	// lose its slot, and slotRate how many bytes a second keep the slot for it. The first
	// flight of a TCP connection alone, some 14 kB (RFC 6928), does so for 1.7 s.
	slotGrace = 100 * time.Millisecond
	slotRate  = 8 << 10
	// askedGrace is slotGrace where nothing has arrived: the client was told to go on, and
	// may be far away.
	askedGrace = time.Second
	// displaceEvery is the time between two scans of all slots for slow clients, at
	// least; scanShare times as long as a scan takes.
	displaceEvery = 25 * time.Millisecond
	scanShare     = 10
)

var (
	errManyWait  = errors.New("INTAKE_MAX_CONNECTIONS reports are in progress, and many wait")
	errNoneEnded = fmt.Errorf("INTAKE_MAX_CONNECTIONS reports are in progress, and none ended within %s", slotWait)
	errDisplaced = errors.New("INTAKE_MAX_CONNECTIONS reports are in progress, and the slot of a slow body was given away")
)

// slots bounds how many reports are in progress. There may be more connections, for
// health checks to be answered when all slots are taken. Those who wait for one displace
// those who hold one and send less than slotRate, the slowest first.
type slots struct {
	limit, patient int // how many hold one and wait at a time

	mu      sync.Mutex
	held    map[*slot]struct{}
	waiting []*slot   // in order of arrival
	leaving int       // held, and displaced
	rescan  time.Time // for slow clients, not before
}

// slot is one of slots, held or waited for.
type slot struct {
	of        *slots
	body      arrival
	granted   chan struct{} // closed when it is held
	displaced bool          // guarded by of.mu
}

// arrival is a body on its way.
type arrival interface {
	// Progress returns how many bytes have arrived, and how long reads have waited for
	// the client; waits is whether one does now.
	Progress(now time.Time) (size int64, waited time.Duration, waits bool)
	// Interrupt ends its reading, and reports whether there was something left to read.
	Interrupt() bool
}

// newSlots leaves a part of the further connections to health checks.
func newSlots(c transport.Config) *slots {
	return &slots{limit: c.Connections, patient: c.Reserve() * 3 / 4, held: map[*slot]struct{}{}}
}

// acquire waits at most slotWait for a slot, which must be released. Its errors are
// errManyWait, and errNoneEnded, also when ctx ends.
func (s *slots) acquire(ctx context.Context, body arrival) (*slot, error) {
	slot := &slot{of: s, body: body}
	s.mu.Lock()
	switch {
	case len(s.held) < s.limit:
		s.held[slot] = struct{}{}
		s.mu.Unlock()
		return slot, nil
	case len(s.waiting) >= s.patient:
		s.mu.Unlock()
		return nil, errManyWait
	}
	slot.granted = make(chan struct{})
	s.waiting = append(s.waiting, slot)
	s.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, slotWait)
	defer cancel()
	again := time.NewTicker(displaceEvery)
	defer again.Stop()
	for {
		select {
		case <-slot.granted:
			return slot, nil
		case <-ctx.Done():
			if s.leave(slot) {
				return nil, errNoneEnded
			}
			return slot, nil // granted at the last moment
		case <-again.C:
			s.displace(time.Now())
		}
	}
}

// areFree reports whether there is a slot that nobody waits for.
func (s *slots) areFree() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.held) < s.limit
}

// leave has a slot no longer waited for. It reports false if it is held by now.
func (s *slots) leave(slot *slot) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.waiting, slot)
	if i >= 0 {
		s.waiting = slices.Delete(s.waiting, i, i+1)
	}
	return i >= 0
}

// displace interrupts the slowest clients, as many as wait for a slot.
func (s *slots) displace(now time.Time) {
	s.mu.Lock()
	wanted := len(s.waiting) - s.leaving
	if wanted <= 0 || now.Before(s.rescan) {
		s.mu.Unlock()
		return
	}
	slow := s.slow(now)
	slow = slow[:min(wanted, len(slow))]
	for _, c := range slow {
		c.displaced = true
	}
	s.leaving += len(slow)
	done := time.Now()
	s.rescan = done.Add(max(displaceEvery, scanShare*done.Sub(now)))
	s.mu.Unlock()
	for _, c := range slow {
		if !c.body.Interrupt() {
			s.spare(c.slot)
		}
	}
}

// spare has a slot stay with a body that has become whole.
func (s *slots) spare(slot *slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, held := s.held[slot]; held {
		slot.displaced = false
		s.leaving--
	}
}

// candidate is a slot that may be displaced.
type candidate struct {
	*slot

	rate float64 // bytes a second
}

// slow returns those who may be displaced, the slowest first. The caller holds mu.
func (s *slots) slow(now time.Time) (slow []candidate) {
	for slot := range s.held {
		size, waited, waits := slot.body.Progress(now)
		grace := slotGrace
		if size == 0 {
			grace = askedGrace
		}
		rate := float64(size) / waited.Seconds()
		if waits && !slot.displaced && waited >= grace && rate < slotRate {
			slow = append(slow, candidate{slot, rate})
		}
	}
	slices.SortFunc(slow, func(a, b candidate) int { return cmp.Compare(a.rate, b.rate) })
	return slow
}

// release hands the slot on to the one that has waited the longest.
func (s *slot) release() {
	all := s.of
	all.mu.Lock()
	defer all.mu.Unlock()
	delete(all.held, s)
	if s.displaced {
		all.leaving--
	}
	if len(all.waiting) > 0 {
		next := all.waiting[0]
		all.waiting = slices.Delete(all.waiting, 0, 1)
		all.held[next] = struct{}{}
		close(next.granted)
	}
}

// explain returns why a body could not be read to its end.
func (s *slot) explain(err error) error {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	if s.displaced {
		return crash.Unavailable(errDisplaced)
	}
	return err
}
