package intake

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

const (
	// sharedOut is the part of the bytes in flight, one in so many, that large messages
	// leave to small ones.
	sharedOut = 4
	// smallMessages is how many small messages fit that part, at least.
	smallMessages = 16
)

// flight bounds the bytes in flight to the queue. Messages are small or large. Within a
// kind they are served in order of arrival, and neither kind can starve the other.
type flight struct {
	capacity int64 // bytes
	reserved int64 // how many of them large messages cannot have

	mu           sync.Mutex
	small, large kind
}

// kind is the messages of one kind.
type kind struct {
	used    int64 // bytes in flight
	waiting []*share
}

// share is capacity that a message waits for.
type share struct {
	size  int64
	ready chan struct{} // closed when it is acquired
}

func newFlight(capacity int64) *flight {
	return &flight{capacity: capacity, reserved: capacity / sharedOut}
}

// largest returns the largest share, in bytes. A larger message takes one of that size,
// and so all that large messages can have.
func (f *flight) largest() int64 { return f.capacity - f.reserved }

// acquire waits for a share of size bytes, at most largest. The error is that of ctx.
func (f *flight) acquire(ctx context.Context, size int64) (release func(), err error) {
	f.mu.Lock()
	k := &f.large
	if size <= f.reserved/smallMessages {
		k = &f.small
	}
	s := &share{size, make(chan struct{})}
	k.waiting = append(k.waiting, s)
	f.grant()
	f.mu.Unlock()
	select {
	case <-s.ready:
		return func() { f.release(k, s) }, nil
	case <-ctx.Done():
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if i := slices.Index(k.waiting, s); i >= 0 {
		k.waiting = slices.Delete(k.waiting, i, i+1)
	} else { // it was acquired at the same moment
		k.used -= s.size
	}
	f.grant() // what waits after it may fit
	return nil, fmt.Errorf("waiting to publish %d bytes: %w", size, ctx.Err())
}

func (f *flight) release(k *kind, s *share) {
	f.mu.Lock()
	defer f.mu.Unlock()
	k.used -= s.size
	f.grant()
}

// grant gives shares to all waiting messages that fit.
func (f *flight) grant() {
	for f.next(&f.large, f.largest()) {
	}
	limit := f.capacity
	if len(f.large.waiting) > 0 {
		limit = f.reserved // otherwise small messages could starve it
	}
	for f.next(&f.small, limit) {
	}
}

// next gives the first waiting message of a kind its share, and reports whether it fits
// that kind's limit and the capacity.
func (f *flight) next(k *kind, limit int64) bool {
	if len(k.waiting) == 0 {
		return false
	}
	s := k.waiting[0]
	if k.used+s.size > limit || f.small.used+f.large.used+s.size > f.capacity {
		return false
	}
	k.used += s.size
	k.waiting = slices.Delete(k.waiting, 0, 1)
	close(s.ready)
	return true
}
