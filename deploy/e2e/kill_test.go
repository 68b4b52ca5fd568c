//go:build faults

package e2e

import (
	"context"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// number reads a setting of the suite from the environment.
func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// Intake, uploader and server are killed at any moment, again and again, while
// clients post. Whatever was answered CrashID= is in the bucket afterwards.
// E2E_SEED repeats a run as far as chance goes, E2E_KILLS makes it longer.
func TestKillsLoseNothingPromised(t *testing.T) {
	seed := number(t, "E2E_SEED", uint64(time.Now().UnixNano()))
	kills := number(t, "E2E_KILLS", 12)
	t.Logf("E2E_SEED=%d E2E_KILLS=%d", seed, kills)
	s := startSystem(t)
	book := newLedger()
	ctx, stopPosting := context.WithCancel(t.Context())
	defer stopPosting()
	var clients sync.WaitGroup
	for n := range 4 {
		c := newClient(s.url, seed, n)
		clients.Go(func() { postUntil(ctx, c, book) })
	}

	random := rand.New(rand.NewPCG(seed, 1<<32))
	victims := []*process{s.intake, s.uploader, s.nats}
	for k := range kills {
		rest(t.Context(), 200*time.Millisecond+time.Duration(random.Int64N(int64(time.Second))))
		before := book.size()
		victim := victims[int(k)%len(victims)]
		if k >= uint64(len(victims)) {
			victim = victims[random.IntN(len(victims))]
		}
		victim.kill()
		rest(t.Context(), time.Duration(random.Int64N(int64(300*time.Millisecond))))
		victim.start()
		// The next kill has to hit something at work.
		eventually(t, "waiting for the next promise after a kill of "+victim.name, 30*time.Second, func() error {
			if book.size() == before {
				return errIdle
			}
			return nil
		})
	}
	stopPosting()
	clients.Wait()
	t.Logf("%d reports promised, other answers: %v", book.size(), book.refused)
	book.audit(t, s.bucket, time.Minute)
}

// postUntil posts until ctx ends. Every request in hand then is let finish.
func postUntil(ctx context.Context, c *client, book *ledger) {
	for ctx.Err() == nil {
		dump := c.dump(600_000)
		id, err := c.post(context.WithoutCancel(ctx), dump)
		if err != nil {
			book.refuse(err)
			rest(ctx, 20*time.Millisecond) // the processors are for those under test
			continue
		}
		book.enter(id, dump)
	}
}

// The server says nothing for as long as an election takes: its process is
// stopped, its connections stay. No client is sent away.
func TestSilentServerFailsNoRequest(t *testing.T) {
	s := startSystem(t)
	book := newLedger()
	s.nats.signal(syscall.SIGSTOP)
	over := time.AfterFunc(8*time.Second, func() { s.nats.signal(syscall.SIGCONT) })
	defer over.Stop()
	start := time.Now()
	var clients sync.WaitGroup
	for n := range 16 {
		c := newClient(s.url, 1, n)
		clients.Go(func() {
			book.post(t, c, c.dump(800_000))
		})
	}
	clients.Wait()
	if took := time.Since(start); took < 8*time.Second {
		t.Errorf("answered after %s, within the silence", took)
	}
	book.audit(t, s.bucket, 30*time.Second)
}

// At SIGTERM both tiers end by themselves, with code 0, and what the uploader
// has not stored by then waits for the next one.
func TestTiersEndWellAtSIGTERM(t *testing.T) {
	s := startSystem(t)
	book := newLedger()
	c := newClient(s.url, 2, 0)
	for range 20 {
		dump := c.dump(100_000)
		id, err := c.post(t.Context(), dump)
		if err != nil {
			t.Fatal(err)
		}
		book.enter(id, dump)
	}
	for _, p := range []*process{s.intake, s.uploader} {
		p.signal(syscall.SIGTERM)
		select {
		case <-p.ended():
			if code := p.exitCode(); code != 0 {
				t.Errorf("%s ended with code %d", p.name, code)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%s still runs 10 s after SIGTERM", p.name)
		}
	}
	s.uploader.start()
	book.audit(t, s.bucket, 20*time.Second)
}
