package intake

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/yagi-crash/yagi/intake/internal/transport"
)

// slowBody arrives at a rate, of which the client is waited for all the time.
type slowBody struct {
	rate        float64 // bytes a second
	since       time.Time
	whole       bool
	interrupted atomic.Bool
}

func (b *slowBody) Progress(now time.Time) (size int64, waited time.Duration, waits bool) {
	waited = now.Sub(b.since)
	return int64(b.rate * waited.Seconds()), waited, !b.whole
}

func (b *slowBody) Interrupt() bool {
	b.interrupted.Store(true)
	return true
}

func newSlow(rate float64) *slowBody { return &slowBody{rate: rate, since: time.Now()} }

// take has a body hold a slot at once.
func take(t *testing.T, s *slots, b *slowBody) *slot {
	t.Helper()
	slot, err := s.acquire(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	return slot
}

// Those who wait displace the slowest, one each, and none that is whole, has just
// begun, or sends something.
func TestSlowestAreDisplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(transport.Config{Connections: 6})
		bodies := []*slowBody{newSlow(200), newSlow(100), newSlow(slotRate + 1), newSlow(0), newSlow(300)}
		bodies[3].whole = true
		var held []*slot
		for _, b := range bodies {
			held = append(held, take(t, s, b))
		}
		<-time.After(time.Second)
		bodies = append(bodies, newSlow(0)) // has just begun
		held = append(held, take(t, s, bodies[5]))
		got := make(chan error, 2)
		for range 2 {
			go func() {
				_, err := s.acquire(t.Context(), newSlow(1e6))
				got <- err
			}()
		}
		synctest.Wait()
		<-time.After(displaceEvery * 3)
		synctest.Wait()
		var displaced []int
		for n, b := range bodies {
			if b.interrupted.Load() {
				displaced = append(displaced, n)
				if err := held[n].explain(errors.New("interrupted")); !errors.Is(err, errDisplaced) {
					t.Errorf("%d was interrupted because of %v", n, err)
				}
			}
		}
		if !slices.Equal(displaced, []int{0, 1}) {
			t.Errorf("displaced %v, want 0 and 1", displaced)
		}
		held[0].release()
		held[1].release()
		for range 2 {
			if err := <-got; err != nil {
				t.Error(err)
			}
		}
	})
}

// Where nobody is slow, those who wait are served in order, and give up in time.
func TestWaitForASlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(transport.Config{Connections: 1})
		first := take(t, s, newSlow(1e6))
		order := make(chan int, 3)
		var errs [3]error
		for n := range 3 {
			go func() {
				var got *slot
				if got, errs[n] = s.acquire(t.Context(), newSlow(1e6)); errs[n] == nil {
					<-time.After(2 * slotWait / 3)
					got.release()
				}
				order <- n
			}()
			synctest.Wait()
		}
		first.release()
		if a, b, c := <-order, <-order, <-order; a != 0 || b != 2 || c != 1 || errs[0] != nil || errs[1] != nil || !errors.Is(errs[2], errNoneEnded) {
			t.Errorf("ended in the order %d, %d, %d with %v", a, b, c, errs)
		}
		if len(s.held) != 0 || len(s.waiting) != 0 || s.leaving != 0 {
			t.Errorf("%d held, %d waiting and %d leaving at the end", len(s.held), len(s.waiting), s.leaving)
		}
	})
}
