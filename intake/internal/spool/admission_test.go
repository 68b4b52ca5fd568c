package spool

import (
	"bytes"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// An announcement takes no room, however many there are and however large.
func TestAnnouncementsTakeNoRoom(t *testing.T) {
	s := open(t, Config{Memory: 4 << 20, File: 64 << 20, Dir: t.TempDir()})
	var all []*Body
	for range 200 {
		all = append(all, admit(t, s, 25<<20))
	}
	honest := admit(t, s, 3<<20)
	if _, err := honest.ReadFrom(bytes.NewReader(bytesOf(3 << 20))); err != nil {
		t.Error(err)
	}
	honest.Release()
	for _, b := range all {
		b.Release()
	}
	checkEmpty(t, s)
}

// Large bodies that come fast do not keep out small newcomers.
func TestPledgesLeaveRoomToSmallOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, Config{Memory: 32 << 20})
		var large []*Body
		for range 10 {
			large = append(large, admit(t, s, 25<<20))
		}
		for _, b := range large {
			if _, err := b.Write(bytesOf(5 << 19)); err != nil {
				t.Fatal(err)
			}
		}
		start := time.Now()
		small := admit(t, s, 400_000)
		if time.Since(start) > 0 || s.Reclaimed() > 0 {
			t.Errorf("a small newcomer waited %s, %d were evicted", time.Since(start), s.Reclaimed())
		}
		for _, b := range append(large, small) {
			b.Release()
		}
		checkEmpty(t, s)
	})
}

// stream is a client that sends some bytes at once, and then one every so often, if at
// all. It can be interrupted, and gives back its body then.
type stream struct {
	interrupted chan struct{}
	left        int
	every       time.Duration
}

var errInterrupted = errors.New("interrupted")

func (c *stream) Read(p []byte) (int, error) {
	if c.left > 0 {
		n := min(len(p), c.left)
		c.left -= n
		return n, nil
	}
	var next <-chan time.Time
	if c.every > 0 {
		next = time.After(c.every)
	}
	select {
	case <-c.interrupted:
		return 0, errInterrupted
	case <-next:
		return 1, nil
	}
}

// crowd is n clients that announce a size, send a part of it, and go on slowly.
type crowd struct {
	n, announced, sent int
	every              time.Duration
}

// come has the clients begin. The returned function ends them, and returns what each
// came to.
func (c crowd) come(t *testing.T, s *Store) (end func() []error) {
	t.Helper()
	var all sync.WaitGroup
	quit, errs := make(chan struct{}), make([]error, c.n)
	for i := range c.n {
		client := &stream{interrupted: make(chan struct{}), left: c.sent, every: c.every}
		stop := sync.OnceFunc(func() { close(client.interrupted) })
		body, err := s.Admit(t.Context(), int64(c.announced), stop)
		if err != nil {
			errs[i] = err
			continue
		}
		all.Go(func() {
			defer body.Release()
			_, errs[i] = body.ReadFrom(client)
		})
		all.Go(func() {
			select {
			case <-quit:
				stop()
			case <-client.interrupted:
			}
		})
		synctest.Wait()
	}
	return func() []error {
		close(quit)
		all.Wait()
		return errs
	}
}

// Room is reclaimed from those who sent nearly all and then send nothing, or next to
// nothing, when others need it; their read is interrupted for that. Who comes in at a
// usual rate keeps it.
func TestRoomIsReclaimedFromWhoIsSlow(t *testing.T) {
	for name, every := range map[string]time.Duration{"nothing more": 0, "next to nothing": 200 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := open(t, Config{Memory: 8 << 20, File: 56 << 20, Dir: t.TempDir()})
				end := crowd{40, 4 << 20, 3 << 20, every}.come(t, s)
				<-time.After(10 * time.Second)
				usual := admit(t, s, 400_000) // comes over 60 s
				if _, err := usual.Write(bytesOf(200_000)); err != nil {
					t.Error(err)
				}
				for i := range 30 {
					if _, err := usual.Write(bytesOf(6600)); err != nil {
						t.Errorf("a usual body got %v", err)
					}
					size := []int64{2_000, 400_000, 3 << 20}[i%3]
					start := time.Now()
					body, err := s.Admit(t.Context(), size, func() {})
					if err != nil {
						t.Errorf("newcomer %d of %d bytes got %v after %s", i, size, err, time.Since(start))
						continue
					}
					if _, err := body.ReadFrom(bytes.NewReader(bytesOf(int(size)))); err != nil {
						t.Errorf("newcomer %d of %d bytes got %v after %s", i, size, err, time.Since(start))
					}
					defer body.Release() // they wait for the queue
					<-time.After(time.Second)
				}
				usual.Release()
				told := 0
				for _, err := range end() {
					if errors.Is(err, ErrFull) {
						told++
					}
				}
				if told < 5 || s.Reclaimed() == 0 {
					t.Errorf("%d of 40 slow ones were evicted, %d reclaimed", told, s.Reclaimed())
				}
			})
		})
	}
}

// Clients that announce a report and send nothing take the windows, which are
// reclaimed.
func TestWindowsAreReclaimed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, Config{Memory: 100 * Window, File: 100 << 20, Dir: t.TempDir()})
		end := crowd{100, 1000, 0, 0}.come(t, s)
		<-time.After(idle + time.Second)
		body := admit(t, s, 400_000)
		if _, err := body.ReadFrom(bytes.NewReader(bytesOf(400_000))); err != nil {
			t.Error(err)
		}
		body.Release()
		end()
		checkEmpty(t, s)
	})
}

// A body for which there can never be room costs nobody anything.
func TestTooLargeANewcomerReclaimsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, Config{Memory: 4 << 20})
		end := crowd{4, 800 << 10, 700 << 10, 0}.come(t, s)
		<-time.After(idle * 2)
		if _, err := s.Admit(t.Context(), 25<<20, func() {}); !errors.Is(err, ErrFull) {
			t.Errorf("got %v", err)
		}
		if n := s.Reclaimed(); n != 0 {
			t.Errorf("%d bodies were evicted", n)
		}
		end()
	})
}

// A body that waited long for room is not idle for that.
func TestWaitingIsNotIdling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, Config{Memory: 32 * Window}) // 30 for bodies
		other := admit(t, s, 20*Window)
		if _, err := other.ReadFrom(bytes.NewReader(bytesOf(20 * Window))); err != nil {
			t.Fatal(err)
		}
		waits := admit(t, s, 8*Window)
		release := time.AfterFunc(2*idle, other.Release)
		defer release.Stop()
		if _, err := waits.Write(bytesOf(11 * Window)); err != nil {
			t.Fatal(err)
		}
		if now := time.Now(); waits.isIdle(now) || now.Sub(waits.marks[0].at) > idle {
			t.Error("it is taken for idle")
		}
		waits.Release()
		checkEmpty(t, s)
	})
}

// A body that comes in although it was evicted is taken.
func TestReclaimedTooLate(t *testing.T) {
	s := open(t, Config{Memory: 1 << 20})
	b := admit(t, s, 100)
	s.mu.Lock()
	s.evict(b)
	s.mu.Unlock()
	if _, err := b.ReadFrom(bytes.NewReader(bytesOf(100))); err != nil {
		t.Error(err)
	}
	b.Release()
	checkEmpty(t, s)
}

// Large bodies leave a part of the room to small ones.
func TestLargeBodiesLeaveRoomToSmallOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, Config{Memory: 32 << 20})
		var large []*Body
		for {
			b, err := s.Admit(t.Context(), 3<<20, func() {})
			if err == nil {
				_, err = b.ReadFrom(bytes.NewReader(bytesOf(3 << 20)))
			}
			if err != nil {
				break
			}
			large = append(large, b)
		}
		for range 5 {
			b := admit(t, s, 400_000)
			if _, err := b.ReadFrom(bytes.NewReader(bytesOf(400_000))); err != nil {
				t.Error(err)
			}
			defer b.Release()
		}
		if len(large) < 7 {
			t.Errorf("only %d large bodies were let in", len(large))
		}
		for _, b := range large {
			b.Release()
		}
	})
}

// A body that grows waits for room, and is refused only when there is none for long;
// what it did not need is given back at its end.
func TestGrowingBodyWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		s := open(t, Config{Memory: 128 * Window}) // 120 for bodies
		other := admit(t, s, 80*Window)
		if _, err := other.ReadFrom(bytes.NewReader(bytesOf(80 * Window))); err != nil {
			t.Fatal(err)
		}
		growing := admit(t, s, -1)
		var grown sync.WaitGroup
		grown.Go(func() {
			if _, err := growing.Write(bytesOf(60 * Window)); err != nil {
				t.Errorf("a growing body got %v", err)
			}
		})
		synctest.Wait() // it has to wait
		if _, err := s.Admit(ctx, Window, func() {}); !errors.Is(err, ErrFull) {
			t.Errorf("a newcomer got %v while others wait, want ErrFull", err)
		}
		other.Release()
		grown.Wait()
		start := time.Now()
		if _, err := growing.Write(bytesOf(128 * Window)); !errors.Is(err, ErrFull) || time.Since(start) != bodyPatience {
			t.Errorf("got %v after %s, want ErrFull after %s", err, time.Since(start), bodyPatience)
		}
		growing.Release()
		checkEmpty(t, s)
	})
}

// Bodies that all need more room than there is do not wait for each other: some are
// refused, so that the others come in, those first that have nearly arrived.
func TestCrowdOfGrowingBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, Config{Memory: 16 * expected}) // 15 of them for bodies
		var bodies []*Body
		for i := range 15 {
			bodies = append(bodies, admit(t, s, int64(expected+(i+1)*8*Window)))
		}
		for _, b := range bodies {
			if _, err := b.Write(bytesOf(expected)); err != nil {
				t.Fatal(err)
			}
		}
		var all sync.WaitGroup
		var in atomic.Int64
		start := time.Now()
		for i, b := range bodies {
			all.Go(func() {
				defer b.Release()
				if _, err := b.ReadFrom(bytes.NewReader(bytesOf((i + 1) * 8 * Window))); err == nil {
					in.Add(1)
				} else if i < 3 {
					t.Errorf("a body that had nearly arrived got %v", err)
				}
			})
		}
		all.Wait()
		if n := in.Load(); n < 7 || time.Since(start) > bodyPatience/2 {
			t.Errorf("%d of 15 bodies came in after %s", n, time.Since(start))
		}
		checkEmpty(t, s)
	})
}
