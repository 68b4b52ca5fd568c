package breaker

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// refuse has the store refuse probes from now on, and somebody fail.
func (s *shop) refuse() {
	s.set(errRefused)
	s.Failed()
	synctest.Wait()
}

// tried lets somebody in for a trial, which goes so.
func (s *shop) tried(t *testing.T, well bool) {
	t.Helper()
	if !s.entered(t) {
		t.Fatal("nobody is let in for a trial")
	}
	if trial, why := s.Begin(); !trial || why != nil {
		t.Fatalf("Begin returned %t, %v, want a trial", trial, why)
	}
	if well {
		s.Succeeded()
	} else {
		s.Failed()
	}
	s.Tried(well)
	s.last.Leave()
}

// A store that refuses the probe lets one at a time try, once for each probe.
func TestTrialsOfARefusedProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, 4)
		s.refuse()
		if s.verdict != HalfOpen || !errors.Is(s.Err(), errRefused) || s.Limit() != 0 {
			t.Fatalf("the breaker has %v and lets %d inside", s.Err(), s.Limit())
		}
		for range 3 {
			s.tried(t, false)
			if s.entered(t) {
				t.Fatal("a second trial is let in before the next probe")
			}
			if trial, why := s.Begin(); trial || !errors.Is(why, errRefused) {
				t.Fatalf("Begin returned %t, %v", trial, why)
			}
			pass(5 * time.Second)
			synctest.Wait()
		}
		if n := s.count(); n != 4 {
			t.Errorf("%d probes, want one every five seconds, and no other", n)
		}
		s.tried(t, true)
		if s.Err() != nil || s.verdict != Trial || s.Limit() != 1 {
			t.Errorf("a trial went well, and the breaker has %v and lets %d inside, want 1", s.Err(), s.Limit())
		}
		for _, want := range []int{1, 2, 4, 4} {
			if s.Limit() != want {
				t.Errorf("%d may be inside, want %d", s.Limit(), want)
			}
			for range want {
				s.Succeeded()
			}
		}
	})
}

// Who is let in and finds nothing to try leaves the trial to the next one, and so does
// who does not come to the store with what it found.
func TestTrialThatIsNotMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, 4)
		s.refuse()
		for range 3 {
			if !s.entered(t) {
				t.Fatal("nobody is let in")
			}
			if s.entered(t) {
				t.Fatal("two are let in at a time")
			}
			s.last.Leave()
		}
		if trial, _ := s.Begin(); !trial {
			t.Fatal("there is no trial")
		}
		s.Untried()
		s.tried(t, true)
		if s.Err() != nil {
			t.Errorf("the breaker has %v", s.Err())
		}
	})
}

// A trial that takes long is the only one, and closes nothing when the store has gone
// meanwhile.
func TestSlowTrial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, 4)
		s.refuse()
		if trial, _ := s.Begin(); !trial {
			t.Fatal("there is no trial")
		}
		pass(12 * time.Second)
		synctest.Wait()
		if s.entered(t) {
			t.Error("another trial is let in")
		}
		s.set(errAway)
		pass(5 * time.Second)
		synctest.Wait()
		s.Tried(true)
		if !errors.Is(s.Err(), errAway) || s.entered(t) {
			t.Errorf("the breaker has %v", s.Err())
		}
	})
}

// Once a trial went well, refused probes say nothing, as long as others succeed.
func TestRefusedProbesAreExcused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, 4)
		s.refuse()
		s.tried(t, true)
		for range 10 {
			pass(calm)
			s.Succeeded()
			s.Failed()
			synctest.Wait()
			if s.Err() != nil || s.verdict != Excused {
				t.Fatalf("others succeed, and the breaker has %v", s.Err())
			}
		}
		if n := s.count(); n != 11 {
			t.Errorf("%d probes, want one each time", n)
		}
		pass(calm)
		s.Failed()
		synctest.Wait()
		if !errors.Is(s.Err(), errRefused) {
			t.Error("nobody succeeded since the last probe, and the breaker is closed")
		}
		s.set(errAway)
		pass(5 * time.Second)
		synctest.Wait()
		if s.verdict != Unwell || s.entered(t) {
			t.Error("the store is away, and somebody is let in")
		}
	})
}

// A report that fails again and again does not have the store probed all the time.
func TestProbesAfterTrialsAreFarBetween(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, 4)
		s.refuse()
		for range 100 {
			if trial, _ := s.Begin(); trial {
				s.Tried(true)
			}
			s.Failed()
			pass(10 * time.Millisecond)
		}
		synctest.Wait()
		if n := s.count(); n > 3 {
			t.Errorf("%d probes in a second", n)
		}
	})
}
