package intake

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// message is a message that waits for its share.
type message struct{ outcome atomic.Pointer[outcome] }

type outcome struct {
	release func()
	err     error
}

// wait has a message wait, and reports whether it gets its share at once.
func (m *message) wait(ctx context.Context, f *flight, size int64) bool {
	go func() {
		release, err := f.acquire(ctx, size)
		m.outcome.Store(&outcome{release, err})
	}()
	return m.has()
}

// has reports whether the message has its share.
func (m *message) has() bool {
	synctest.Wait()
	got := m.outcome.Load()
	return got != nil && got.err == nil
}

func (m *message) release() { m.outcome.Load().release() }

// Neither small messages nor large ones can take the whole capacity, whatever was first.
func TestNoKindTakesTheWholeCapacity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newFlight(16_000) // 4,000 not for large ones; up to 250 is small
		ctx := t.Context()
		large := make([]message, 4)
		for n := range large {
			if got, want := large[n].wait(ctx, q, 4_000), n < 3; got != want {
				t.Errorf("large message %d has a share: %t, want %t", n, got, want)
			}
		}
		small := make([]message, 17)
		for n := range small {
			if got, want := small[n].wait(ctx, q, 250), n < 16; got != want {
				t.Errorf("small message %d has a share: %t, want %t", n, got, want)
			}
		}
		large[0].release()
		if !large[3].has() || small[16].has() {
			t.Error("the large message that waits is not next")
		}
		small[0].release()
		if !small[16].has() {
			t.Error("the small message that waits is not next")
		}
		for n := 1; n < len(large); n++ {
			large[n].release()
		}
		for n := 1; n < len(small); n++ {
			small[n].release()
		}
		if q.small.used != 0 || q.large.used != 0 {
			t.Errorf("%d and %d bytes are in flight", q.small.used, q.large.used)
		}

		// Small ones may take it all until a large one waits.
		many := make([]message, 64)
		for n := range many {
			if !many[n].wait(ctx, q, 250) {
				t.Fatalf("small message %d waits for nobody", n)
			}
		}
		var last, late message
		if last.wait(ctx, q, 12_000) {
			t.Error("a large message has a share over the capacity")
		}
		for n := range 16 {
			many[n].release()
		}
		if late.wait(ctx, q, 250) {
			t.Error("small ones go on before a large one that waits")
		}
		for n := 16; n < 48; n++ {
			many[n].release()
		}
		if !last.has() {
			t.Error("the large message still waits")
		}
	})
}

// A message that gives up waiting unblocks those after it.
func TestSlotThatIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newFlight(16_000)
		var first, second, third message
		first.wait(t.Context(), q, 8_000)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		second.wait(ctx, q, 12_000)
		if third.wait(t.Context(), q, 4_000) {
			t.Error("it overtakes one that waits longer")
		}
		<-time.After(2 * time.Second)
		if !third.has() || second.has() {
			t.Errorf("the next one has a share: %t, the one that gave up: %t", third.has(), second.has())
		}
	})
}
