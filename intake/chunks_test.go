package intake_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/devstack/devnats"
	"github.com/yagi-crash/yagi/pkg/queue"
)

// largeReport is a report of about 20 MB that no other has the dump of.
func largeReport(n int) (body, minidump string) {
	minidump = fmt.Sprintf("%08d", n) + noise(20_000_000)
	return field("ProductName", "Firefox") + dump(crash.MinidumpName, minidump) + dump("browser", "small") + end, minidump
}

// messages returns the subjects of partition p's messages, and checks that each
// is what the contract of the queue says.
func (q *testQueue) messages(t *testing.T, p int) (chunks, ready int) {
	t.Helper()
	stream, err := q.js.Stream(t.Context(), queue.StreamName(p))
	if err != nil {
		t.Fatal(err)
	}
	state := stream.CachedInfo().State
	for seq := state.FirstSeq; seq <= state.LastSeq; seq++ {
		msg, err := stream.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		if msg.Subject == queue.ReadySubject(p) {
			ready++
			continue
		}
		chunks++
		if msg.Header.Get(queue.HeaderMsgID) != "" {
			t.Errorf("chunk %d has a Msg-Id: %v", seq, msg.Header)
		}
		if len(msg.Data) > queue.ChunkSize {
			t.Errorf("chunk %d has %d bytes", seq, len(msg.Data))
		}
	}
	return chunks, ready
}

// checkLarge fails the test unless the one report of that id has the dump.
func (q *testQueue) checkLarge(t *testing.T, id crash.ID, minidump string) {
	t.Helper()
	found := 0
	for _, s := range q.stored(t) {
		if s.ID != id {
			continue
		}
		found++
		if len(s.Dumps) != 2 || text(t, s.Dumps[0]) != minidump || text(t, s.Dumps[1]) != "small" {
			t.Errorf("the dumps of %s are not what was posted", id)
		}
	}
	if found != 1 {
		t.Errorf("%s is in the queue %d times", id, found)
	}
}

func TestLargeReportGoesInChunks(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	i := startIntake(t, q.url)
	plain, minidump := largeReport(1)
	id := crashID(t, i.post(t, plain))
	q.checkLarge(t, id, minidump)
	if chunks, ready := q.messages(t, 0); chunks != 21 || ready != 1 {
		t.Errorf("%d chunks and %d ready messages, want 21 and 1", chunks, ready)
	}

	compressed := i.post(t, gzipped(t, plain), "Content-Encoding: gzip")
	q.checkLarge(t, crashID(t, compressed), minidump)
}

// A stock server has room for 1 MiB in a message; what is larger goes in chunks.
// One that has room for very little takes reports all the same.
func TestServersWithSmallMessagesTakeLargeReports(t *testing.T) {
	t.Parallel()
	for _, room := range []int32{1 << 20, 64 << 10} {
		server, err := devnats.Start(t.Context(), devnats.Config{Addr: "127.0.0.1:0", Dir: t.TempDir(), MaxPayload: room, Log: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(server.Stop)
		q := connectQueue(t, server.URL())
		q.apply(t)
		i := startIntake(t, server.URL())
		awaitHealthy(t, i) // the server's limit is known
		crashID(t, i.post(t, report()))
		minidump := noise(1_500_000)
		id := crashID(t, i.post(t, field("ProductName", "Firefox")+dump(crash.MinidumpName, minidump)+dump("browser", "small")+end))
		q.checkLarge(t, id, minidump)
	}
}

// What a lost ack leaves behind is seen by nobody, and the report is whole.
func TestChunksWhoseAcksAreLostArePublishedAgain(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	proxy, proxyURL := proxied(t, q.url)
	i := startIntake(t, proxyURL)
	crashID(t, i.post(t, report()))
	third := q.chunk(t, 3)
	body, minidump := largeReport(2)
	c := i.dial(t)
	c.send(request(len(body)) + body)
	<-third
	undo := cutAcks(t, proxy)
	for lost := false; !lost; { // the acks of those that are on their way
		_, page := get(t, "http://"+i.admin+"/metrics")
		lost = !strings.Contains(page, `intake_publish_attempts_total{answer="again"} 0`)
	}
	undo()
	q.checkLarge(t, crashID(t, c.answer()), minidump)
	if chunks, ready := q.messages(t, 0); chunks <= 21 || ready != 2 {
		t.Errorf("%d chunks and %d ready messages, want more than 21, and 2", chunks, ready)
	}
}

// The stream fills up within a report: no id is given, what was stored of it is
// no report, and the next partition is asked if there is one.
func TestStreamThatFillsUpWithinAReport(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	q.cfg.StreamMaxBytes = 10 << 20
	q.apply(t)
	i := startIntake(t, q.url)
	body, _ := largeReport(3)
	start := time.Now()
	a := i.post(t, body)
	if a.status != http.StatusServiceUnavailable || a.head.Get("Retry-After") == "" {
		t.Errorf("answered %d %q, Retry-After %q", a.status, a.body, a.head.Get("Retry-After"))
	}
	if took := time.Since(start); took > 15*time.Second { // INTAKE_PUBLISH_TIMEOUT is 20s
		t.Errorf("it took %s to say that the stream is full", took)
	}
	if chunks, ready := q.messages(t, 0); chunks == 0 || ready != 0 {
		t.Errorf("%d chunks and %d ready messages, want some and 0", chunks, ready)
	}
}

func TestFullPartitionIsLeftWithinAReport(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	q.cfg.Partitions = 2
	q.apply(t)
	small := queue.StreamConfig(0, q.cfg)
	small.MaxBytes = 10 << 20
	if _, err := q.js.UpdateStream(t.Context(), small); err != nil {
		t.Fatal(err)
	}
	i := startIntake(t, q.url, "NATS_PARTITIONS=2")
	for n := range 4 { // any of them belongs to partition 0 with a chance of a half
		body, minidump := largeReport(n)
		q.checkLarge(t, crashID(t, i.post(t, body)), minidump)
	}
	if _, ready := q.messages(t, 1); ready != 4 {
		t.Errorf("partition 1 has %d reports, want 4", ready)
	}
}

// A stream that is deleted and made anew, or purged, while a large report goes into it
// loses what it had of that, and so the report goes into it again from its beginning,
// whatever the sequences are then.
func TestStreamMadeAnewWithinAReport(t *testing.T) {
	t.Parallel()
	deleted := func(t *testing.T, q *testQueue) {
		t.Helper()
		if err := q.js.DeleteStream(t.Context(), queue.StreamName(0)); err != nil {
			t.Fatal(err)
		}
		q.apply(t)
	}
	for name, c := range map[string]struct {
		before, after int
		lose          func(t *testing.T, q *testQueue)
	}{
		"lower":  {100, 0, deleted},
		"higher": {0, 100, deleted},
		"purged": {100, 0, func(t *testing.T, q *testQueue) { t.Helper(); q.purge(t) }},
		"chunks purged": {100, 0, func(t *testing.T, q *testQueue) {
			t.Helper()
			q.purge(t, jetstream.WithPurgeSubject(queue.ChunkSubject(0)))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q := startQueue(t)
			q.fill(t, c.before)
			i := startIntake(t, q.url)
			crashID(t, i.post(t, report()))
			tenth := q.chunk(t, 10)
			body, minidump := largeReport(1)
			answered := make(chan answer, 1)
			go func() { answered <- i.post(t, body) }()
			<-tenth
			c.lose(t, q)
			q.fill(t, c.after)
			id := crashID(t, <-answered)
			whole := 0
			all, _ := q.read(t) // one of chunks that are gone may be there too: nobody was promised that
			for _, s := range all {
				if s.ID == id && text(t, s.Dumps[0]) == minidump {
					whole++
				}
			}
			if whole != 1 {
				t.Errorf("%s is whole in the stream %d times, want once", id, whole)
			}
		})
	}
}

// chunk tells when the nth chunk from now on is on its way.
func (q *testQueue) chunk(t *testing.T, n int) <-chan struct{} {
	t.Helper()
	comes := make(chan struct{})
	seen := 0
	sub, err := q.js.Conn().Subscribe(queue.ChunkSubject(0), func(*nats.Msg) {
		if seen++; seen == n {
			close(comes)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Unsubscribe() })
	return comes
}

// purge is what an operator may do by mistake.
func (q *testQueue) purge(t *testing.T, what ...jetstream.StreamPurgeOpt) {
	t.Helper()
	stream, err := q.js.Stream(t.Context(), queue.StreamName(0))
	if err == nil {
		err = stream.Purge(t.Context(), what...)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// fill publishes n chunks that are nobody's.
func (q *testQueue) fill(t *testing.T, n int) {
	t.Helper()
	for range n {
		if _, err := q.js.Publish(t.Context(), queue.ChunkSubject(0), nil); err != nil {
			t.Fatal(err)
		}
	}
}

// Many at once are promised, and no more of them is on its way than is allowed.
func TestLargeReportsAtOnce(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	i := startIntake(t, q.url, "INTAKE_PUBLISH_INFLIGHT_BYTES=8MB", "INTAKE_PUBLISH_TIMEOUT=60s")
	var clients sync.WaitGroup
	for n := range 6 {
		clients.Go(func() {
			body, minidump := largeReport(n)
			q.checkLarge(t, crashID(t, i.post(t, body)), minidump)
		})
	}
	clients.Wait()
}

// Two reports under one id that a client chose are both kept, and one that is
// posted twice at once is kept once, whole.
func TestLargeReportsWithAGivenID(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	i := startIntake(t, q.url, "INTAKE_SUBMITTER_TOKEN=secret")
	id := crash.NewID(time.Now(), crash.Accept)
	body, minidump := largeReport(5)
	body = field("uuid", string(id)) + body
	var clients sync.WaitGroup
	for range 2 {
		clients.Go(func() {
			if got := crashID(t, i.post(t, body, "Authorization: Bearer secret")); got != id {
				t.Errorf("got %s, want %s", got, id)
			}
		})
	}
	clients.Wait()
	// Once more, as by a client that had no answer.
	if got := crashID(t, i.post(t, body, "Authorization: Bearer secret")); got != id {
		t.Errorf("again: got %s, want %s", got, id)
	}
	for _, s := range q.stored(t) {
		if s.ID != id || text(t, s.Dumps[0]) != minidump {
			t.Errorf("%s is not what was posted", s.ID)
		}
	}
}
