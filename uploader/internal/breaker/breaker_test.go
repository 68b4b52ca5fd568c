package breaker

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var (
	errAway    = errors.New("away")
	errRefused = errors.New("refused")
)

// shop is a store that can be away, behind a breaker.
type shop struct {
	*Breaker

	mu     sync.Mutex
	err    error
	slow   time.Duration
	probes int
	judged error

	verdict Verdict
	last    Entry
}

// pass lets time pass in a bubble, where that takes none.
func pass(d time.Duration) { <-time.After(d) }

func open(t *testing.T, most int) *shop {
	t.Helper()
	s := &shop{}
	s.Breaker = New(Config{
		Probe: s.probe, Every: 5 * time.Second, Most: most,
		Refused: func(err error) bool { return errors.Is(err, errRefused) },
		Judged: func(v Verdict, err error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.verdict, s.judged = v, err
		},
	})
	ctx, end := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	t.Cleanup(func() { end(); running.Wait() })
	return s
}

func (s *shop) probe(context.Context) error {
	s.mu.Lock()
	slow := s.slow
	s.mu.Unlock()
	pass(slow)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.probes++
	return s.err
}

func (s *shop) set(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// count returns how many probes there were.
func (s *shop) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.probes
}

// entered tells whether somebody who comes now is inside at once.
func (s *shop) entered(t *testing.T) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	room, err := s.Enter(ctx)
	if err == nil {
		s.last = room
	}
	return err == nil
}

func TestOpensAndClosesByTheProbeAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, 4)
		for range 100 {
			s.Failed()
			pass(9 * time.Millisecond)
		}
		synctest.Wait()
		if s.Err() != nil || s.count() != 1 {
			t.Errorf("after 100 failures in a second the breaker has %v, and %d probes went well, want no error and 1", s.Err(), s.count())
		}

		s.set(errAway)
		s.Failed()
		pass(calm)
		synctest.Wait()
		if !errors.Is(s.Err(), errAway) || s.Limit() != 0 || s.entered(t) {
			t.Errorf("the store is away, and the breaker has %v and lets %d inside", s.Err(), s.Limit())
		}
		before := s.count()
		pass(time.Hour)
		synctest.Wait()
		if n := s.count() - before; n != 720 {
			t.Errorf("%d probes in an hour, want one every five seconds", n)
		}
		s.set(nil)
		waiting := make(chan error)
		go func() {
			_, err := s.Enter(t.Context())
			waiting <- err
		}()
		if err := <-waiting; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if s.Err() != nil || s.judged != nil {
			t.Errorf("the store is back, and the breaker has %v", s.Err())
		}
	})
}

// Nobody begins anything while it is unknown how the store is.
func TestNobodyEntersDuringAProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, 4)
		s.slow = time.Second
		s.Failed()
		synctest.Wait()
		if s.entered(t) {
			t.Error("somebody is inside while the probe runs")
		}
		pass(time.Second)
		synctest.Wait()
		if !s.entered(t) {
			t.Error("nobody is inside after the probe went well")
		}
	})
}

func TestRamp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, 8)
		if s.Limit() != 8 {
			t.Errorf("at first %d may be inside, want all 8", s.Limit())
		}
		s.set(errAway)
		s.Failed()
		synctest.Wait()
		s.set(nil)
		pass(5 * time.Second)
		synctest.Wait()
		for _, want := range []int{1, 2, 4, 8, 8} { // a round each
			if s.Limit() != want {
				t.Errorf("%d may be inside, want %d", s.Limit(), want)
			}
			for range want {
				s.Succeeded()
			}
		}
	})
}

func TestLessWhenTheStoreAsksForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, 16)
		pass(cutEvery)
		for range 16 {
			s.TooMuch() // all of one round
		}
		if s.Limit() != 8 {
			t.Errorf("%d may be inside, want half of 16", s.Limit())
		}
		for range 8 {
			if !s.entered(t) {
				t.Fatal("fewer than 8 are let inside")
			}
		}
		if s.entered(t) {
			t.Error("more than 8 are let inside")
		}
		s.last.Leave()
		if !s.entered(t) {
			t.Error("one left, and none may enter")
		}
		for range 9 { // a round, and what rounding takes
			s.Succeeded()
		}
		if s.Limit() != 9 {
			t.Errorf("after a round that went well %d may be inside, want one more than 8", s.Limit())
		}
		for range 10 {
			pass(cutEvery)
			s.TooMuch()
		}
		if s.Limit() != 1 {
			t.Errorf("%d may be inside, want one, however often the store complains", s.Limit())
		}
		for range 1000 {
			s.Succeeded()
		}
		if s.Limit() != 16 {
			t.Errorf("after 1000 that went well %d may be inside, want 16", s.Limit())
		}
	})
}

func TestEnterEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, 1)
		if !s.entered(t) {
			t.Fatal("there is no room")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Enter(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Enter returned %v", err)
		}
	})
}

// Cleared waits for a probe that began after the failure, and for no longer than the
// breaker runs.
func TestClearedAwaitsTheVerdict(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{"well": nil, "away": errAway, "refused": errRefused} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := open(t, 4)
				if !s.Cleared(t.Context()) {
					t.Error("not cleared before anything failed")
				}
				s.slow = 3 * time.Second
				s.Failed()
				pass(time.Second)
				s.mu.Lock()
				s.err = err
				s.mu.Unlock()
				s.Failed() // during a probe that began before
				start := time.Now()
				if got := s.Cleared(t.Context()); got != (err == nil) {
					t.Errorf("cleared is %v", got)
				}
				if took := time.Since(start); err == nil && took < 5*time.Second {
					t.Errorf("it took %v, less than two probes", took)
				}
			})
		})
	}
}

// Neither a failure within an outage, nor the end of ctx or of Run, keeps Cleared waiting.
func TestClearedEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, 4)
		s.mu.Lock()
		s.err = errAway
		s.mu.Unlock()
		s.Failed()
		pass(time.Second)
		s.mu.Lock()
		s.err, s.slow = nil, 3*time.Second
		s.mu.Unlock()
		pass(5 * time.Second) // within the probe that finds it well
		s.Failed()
		pass(10 * time.Second)
		if !s.Cleared(t.Context()) {
			t.Error("not cleared after the outage")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s.mu.Lock()
		s.slow = time.Hour
		s.mu.Unlock()
		s.Failed()
		if s.Cleared(ctx) {
			t.Error("cleared without a verdict")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		b := New(Config{Probe: func(context.Context) error { return nil }, Most: 1, Judged: func(Verdict, error) {}})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		b.Failed()
		b.Run(ctx)
		b.Cleared(t.Context())
	})
}
