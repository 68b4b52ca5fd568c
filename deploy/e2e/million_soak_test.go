//go:build faults && soak

package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/yagi-crash/yagi/deploy/internal/deadletters"
	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/queue"
)

const (
	// millionClients post at once: enough to keep both processors at work.
	millionClients = 16
	// millionPartitions and millionStream are the queue; three copies of it stay below
	// 16 GB of disk.
	millionPartitions = 2
	millionStream     = 5 << 29
	// fullShare of a stream is where clients pause until it was trimmed. Uploaders that
	// are killed before they have watched it for queue.ReadyDeadline trim it only above
	// four fifths.
	fullShare = 0.9
	// mostAhead is how many reports may be promised and not yet in the bucket.
	mostAhead = 50_000
	// drainStall is how long nothing may come into the bucket at the end before what is
	// missing counts as lost: longer than the retries of a held report, a minute apart,
	// take to make it a dead letter.
	drainStall = 4 * time.Minute
	// drainPosts is how many seconds lie between two posts meanwhile.
	drainPosts = 5
	// Dumps have from leastDump to mostDump bytes.
	leastDump = 2_000
	mostDump  = 20_000
)

// A million small reports are promised while intake, uploader and servers are killed,
// leaders are lost, servers freeze, and the bucket refuses some reports and is
// unavailable for a while. Each is in the bucket afterwards, byte for byte, or among
// the dead letters. E2E_REPORTS sets how many, E2E_SERVERS how many NATS servers (3 or
// 1), E2E_BUDGET the minutes after which no more are posted, E2E_QUIET the seconds between
// two faults, and E2E_SEED repeats the choices.
func TestMillion(t *testing.T) {
	m := newMillion(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(number(t, "E2E_BUDGET", 100))*time.Minute)
	defer cancel()
	begun := time.Now()
	auditing, stopAuditing := context.WithCancel(t.Context())
	defer stopAuditing()
	var auditor sync.WaitGroup
	auditor.Go(func() { m.audit(auditing) })

	m.postAll(ctx, t)
	posted := time.Since(begun)
	if missing := int(m.reports) - m.book.count().promised; missing > 0 {
		t.Errorf("%d of %d reports were not promised within E2E_BUDGET", missing, m.reports)
	}
	m.drain(t)
	took := time.Since(begun)
	stopAuditing()
	auditor.Wait()
	m.verdict(t, posted, took)
}

// million is the system under test and all that is done to it.
type million struct {
	*cluster

	reports, seed uint64
	quiet         time.Duration // between two faults, from a half to one and a half of it
	front         *front
	sidecar       bool // the gateway keeps metadata in files of their own
	book          *leanLedger
	js            jetstream.JetStream
	faults        map[string]int      // that were played, by name
	strange       map[crash.ID]string // dead letters that the bucket never refused, and their causes
	refusals      func() map[string]int
}

func newMillion(t *testing.T) *million {
	t.Helper()
	m := &million{
		reports: number(t, "E2E_REPORTS", 1_000_000), seed: number(t, "E2E_SEED", uint64(time.Now().UnixNano())),
		quiet: time.Duration(number(t, "E2E_QUIET", 20)) * time.Second,
		book:  newLeanLedger(), faults: map[string]int{}, strange: map[crash.ID]string{},
	}
	servers := number(t, "E2E_SERVERS", 3)
	t.Logf("E2E_SEED=%d E2E_REPORTS=%d E2E_SERVERS=%d", m.seed, m.reports, servers)
	s := newSystem(t, int(servers))
	s.partitions, s.streamSize = millionPartitions, millionStream
	m.front = newFront(t)
	if _, err := os.Stat(filepath.Join(suite.s3Dir, "meta")); err == nil {
		m.sidecar = true
	}
	m.cluster = newCluster(t, s)
	m.applyStreams(t)
	m.startTiers(t, fmt.Sprintf("NATS_PARTITIONS=%d", millionPartitions), "AWS_ENDPOINT_URL_S3="+m.front.url(),
		"UPLOADER_REPLAY_WINDOW=0s", "UPLOADER_RETRY_MAX=2s", "UPLOADER_PROBE_INTERVAL=1s")
	awaitHealthy(t, m.url)
	awaitHealthy(t, m.uploaderURL)
	m.js = m.jetStream(t)
	return m
}

// postAll posts until enough reports are promised, or ctx ends, and plays faults
// meanwhile.
func (m *million) postAll(ctx context.Context, t *testing.T) {
	t.Helper()
	ctx, done := context.WithCancel(ctx)
	defer done()
	var clients, others sync.WaitGroup
	refused := newLedger()
	gate := &gate{}
	for n := range millionClients {
		clients.Go(func() { m.post(ctx, newClient(m.url, m.seed, n), refused, gate) })
	}
	others.Go(func() { m.watch(ctx, t, gate) })
	others.Go(func() { m.playFaults(ctx, rand.New(rand.NewPCG(m.seed, 1<<32))) })
	clients.Wait()
	done()
	others.Wait()
	m.refusals = func() map[string]int { return refused.refused }
}

// post posts one report after another. Requests in flight when ctx ends are let
// finish.
func (m *million) post(ctx context.Context, c *client, refused *ledger, gate *gate) {
	for ctx.Err() == nil && m.book.count().promised < int(m.reports) {
		if gate.isShut() {
			rest(ctx, 100*time.Millisecond)
			continue
		}
		dump := c.words(leastDump + c.random.IntN(mostDump-leastDump+1))
		id, err := c.post(context.WithoutCancel(ctx), dump)
		if err != nil {
			refused.refuse(err)
			rest(ctx, 50*time.Millisecond) // the processors are for those under test
			continue
		}
		m.book.promise(id, dump)
	}
}

// gate keeps clients from filling the queue and the disk.
type gate struct {
	mu   sync.Mutex
	shut bool
}

func (g *gate) isShut() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.shut
}

func (g *gate) set(shut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = shut
}

// watch sets the gate and tells how far it is.
func (m *million) watch(ctx context.Context, t *testing.T, gate *gate) {
	t.Helper()
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for begun, n := time.Now(), 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		fill := m.fill(ctx)
		c := m.book.count()
		gate.set(fill > fullShare || c.promised-c.kept > mostAhead)
		if n%30 == 29 {
			t.Logf("%4.0f s: %d promised, %d in the bucket, streams %.0f%% full, faults %v", time.Since(begun).Seconds(), c.promised, c.kept, 100*fill, m.played())
		}
	}
}

// fill is how full the fullest stream is; 0 when nobody answers.
func (m *million) fill(ctx context.Context) (fill float64) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for p := range millionPartitions {
		if s, err := m.js.Stream(ctx, queue.StreamName(p)); err == nil {
			fill = max(fill, float64(s.CachedInfo().State.Bytes)/millionStream)
		}
	}
	return fill
}

// drain waits until all that was promised is in the bucket or dead, or until no more
// has come for a while. Now and then it posts a report: a refused one becomes a dead
// letter only when the bucket takes others.
func (m *million) drain(t *testing.T) {
	t.Helper()
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	c := newClient(m.url, m.seed, millionClients)
	fewest, since := m.book.count().lost, time.Now()
	for n := 0; time.Since(since) < drainStall; n++ {
		if err := m.enterDead(t.Context()); err != nil {
			t.Logf("reading the dead letters: %v", err) // the verdict tries again
		}
		lost := m.book.count().lost
		if lost == 0 {
			return
		}
		if lost < fewest {
			fewest, since = lost, time.Now()
		}
		if n%drainPosts == 0 {
			dump := c.words(leastDump)
			if id, err := c.post(t.Context(), dump); err == nil {
				m.book.promise(id, dump)
			}
		}
		<-ticker.C
	}
}

// enterDead enters the dead letters. An error is left to the next try.
func (m *million) enterDead(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cfg := m.config()
	nc, err := queue.Connect(cfg, "ops", zerolog.Nop())
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	letters, err := deadletters.Open(ctx, js)
	if err != nil {
		return err
	}
	all, err := letters.List(ctx)
	for _, letter := range all {
		m.book.bury(letter.ID)
		if !m.front.hasRefused(letter.ID) {
			m.strange[letter.ID] = letter.Cause
		}
	}
	return err
}

// verdict prints the figures, and fails the test for what is lost.
func (m *million) verdict(t *testing.T, posted, took time.Duration) {
	t.Helper()
	if err := m.enterDead(t.Context()); err != nil {
		t.Errorf("reading the dead letters: %v", err)
	}
	c := m.book.count()
	t.Logf("promised       %d, in %v: %.0f/s", c.promised, posted.Round(time.Second), float64(c.promised)/posted.Seconds())
	t.Logf("stored         %d of them, %d more that nobody was promised, %d stored again", c.stored, c.unpromised, c.again)
	t.Logf("dead-lettered  %d of them; the bucket refused %d reports", c.dead, m.front.refusedReports())
	t.Logf("lost           %d", c.lost)
	t.Logf("damaged        %d", c.damaged)
	t.Logf("faults         %v", m.played())
	t.Logf("other answers  %v", m.refusals())
	t.Logf("duration       %v, draining included: %.0f/s", took.Round(time.Second), float64(c.stored)/took.Seconds())
	if c.lost > 0 || c.damaged > 0 {
		t.Errorf("%d reports are lost, such as %v; %d are damaged: %v", c.lost, m.book.someLost(10), c.damaged, m.book.firstDamage())
	}
	if len(m.strange) > 0 {
		t.Errorf("the bucket never refused %d of the dead letters: %v", len(m.strange), m.strange)
	}
	if m.reports >= refusedOne*20 && c.dead == 0 {
		t.Error("no report became a dead letter: the faults did not happen")
	}
}
