package intake

import (
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/devstack/devnats"
	"github.com/yagi-crash/yagi/pkg/queue"
)

// offline is a queue whose server is not there.
func offline(t *testing.T) *jetStreamQueue {
	t.Helper()
	return connected(t, "nats://127.0.0.1:1")
}

func connected(t *testing.T, natsURL string) *jetStreamQueue {
	t.Helper()
	nc, err := queue.Connect(queue.Config{URL: natsURL}, "test", zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return &jetStreamQueue{
		nc: nc, js: js, partitions: 1, timeout: time.Minute, inflight: newFlight(1), chunks: newChunkBuffers(),
		metrics: newMetrics(prometheus.NewRegistry(), 1),
	}
}

// A machine that stands still stops every timer. A report whose chunks may have
// been trimmed meanwhile is not promised.
func TestLateReportIsGivenUp(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		began time.Time
		late  bool
	}{
		"at once":                      {now, false},
		"after the longest timeout":    {now.Add(-queue.ReadyDeadline / 5), false},
		"after an hour":                {now.Add(-time.Hour), true},
		"an hour that no timer saw":    {now.Round(0).Add(-time.Hour), true},
		"with the clock set back":      {now.Round(0).Add(time.Hour), false},
		"just below half the deadline": {now.Add(-queue.ReadyDeadline/2 + 10*time.Second), false},
	} {
		err := (&chunked{began: c.began}).inTime()
		if errors.Is(err, errGiveUp) != c.late {
			t.Errorf("%s: got %v, want late: %t", name, err, c.late)
		}
	}
}

// What the server says is told apart as its errors are meant: what passes is tried
// again, since a client would give its report up. A server that is about to end, for
// one, has closed its store.
func TestAnswers(t *testing.T) {
	for _, e := range []struct {
		want   answer
		status int
		code   jetstream.ErrorCode
		text   string // all of nats-server 2.15.2
	}{
		{isFull, 503, 10077, "maximum bytes exceeded"},
		{isFull, 503, 10077, "maximum messages exceeded"},
		{tooLarge, 503, 10077, "message too large"},
		{tooLarge, 400, 10054, "message size exceeds maximum allowed"},
		{tooLarge, 400, 10097, "header size exceeds maximum allowed of 64k"},
		{again, 503, 10077, "store is closed"},
		{again, 429, 10167, "too many requests"},
		{again, 409, 10158, "duplicate message id is in process"},
		{again, 503, 10023, "insufficient resources"},
		{refused, 400, 10109, "invalid operation on sealed stream"},
		{refused, 400, 10060, "expected stream does not match"},
		{refused, 400, 10002, "resource limits exceeded for account"},
	} {
		err := fmt.Errorf("publishing: %w", &jetstream.APIError{Code: e.status, ErrorCode: e.code, Description: e.text})
		if got := classify(err); got != e.want {
			t.Errorf("%v is %s, want %s", err, got, e.want)
		}
	}
}

// A ready message that came into another stream than its chunks promises nothing.
func TestReadyMessageInAnotherStream(t *testing.T) {
	server, err := devnats.Start(t.Context(), devnats.Config{Addr: "127.0.0.1:0", Dir: t.TempDir(), Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	q := connected(t, server.URL())
	cfg := queue.Config{URL: server.URL(), Partitions: 1, Replicas: 1, StreamMaxBytes: 1 << 20, MaxAckPending: 1}
	if _, err := q.js.CreateStream(t.Context(), queue.StreamConfig(0, cfg)); err != nil {
		t.Fatal(err)
	}
	report := crash.Report{ID: crash.NewID(time.Now(), crash.Accept), Received: time.Now(), Annotations: crash.Annotations{"ProductName": crash.Text("A")}}
	sealed, err := report.Seal()
	if err != nil {
		t.Fatal(err)
	}
	info, err := q.info(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	created := info.Created
	for made, want := range map[time.Time]error{created: nil, created.Add(-time.Nanosecond): errAnew} {
		info.Created = made
		c := &chunked{q: q, report: sealed, began: time.Now(), server: q.nc.ConnectedServerId(), stream: info, acked: []uint64{100}}
		for range 2 { // the second is a repetition to the server
			if err := c.sendReady(t.Context()); !errors.Is(err, want) {
				t.Errorf("got %v, want %v", err, want)
			}
		}
	}
	stream, err := q.js.Stream(t.Context(), queue.StreamName(0))
	if err != nil || stream.CachedInfo().State.Msgs != 2 {
		t.Errorf("%v, the stream has %+v, want one message of each", err, stream.CachedInfo().State)
	}
}

// A chunk waits for a buffer and a slot, and for both no longer than one publish timeout.
func TestWaitsHaveOneDeadline(t *testing.T) {
	server, err := devnats.Start(t.Context(), devnats.Config{Addr: "127.0.0.1:0", Dir: t.TempDir(), Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	q := connected(t, server.URL())
	cfg := queue.Config{URL: server.URL(), Partitions: 1, Replicas: 1, StreamMaxBytes: 1 << 20, MaxAckPending: 1}
	if _, err := q.js.CreateStream(t.Context(), queue.StreamConfig(0, cfg)); err != nil {
		t.Fatal(err)
	}
	q.lookAtAll(t.Context(), cfg)
	q.timeout = 2 * time.Second
	dump := make([]byte, queue.MaxPayload+1)
	report := crash.Report{
		ID: crash.NewID(time.Now(), crash.Accept), Received: time.Now(), Annotations: crash.Annotations{"ProductName": crash.Text("A")},
		Dumps: []crash.Part{crash.NewPart(crash.MinidumpName, dump, crash.Sum(dump))},
	}
	sealed, err := report.Seal()
	if err != nil {
		t.Fatal(err)
	}
	for range chunksAtOnce {
		<-q.chunks
	}
	if _, err := q.inflight.acquire(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	first := time.AfterFunc(q.timeout*2/3, func() { q.chunks <- nil })
	defer first.Stop()
	start := time.Now()
	if err := q.Publish(t.Context(), sealed); err == nil || !errors.Is(err, errNoSlot) {
		t.Errorf("published without a slot: %v", err)
	}
	if took := time.Since(start); took < q.timeout || took > q.timeout*3/2 {
		t.Errorf("gave up after %s, want %s", took, q.timeout)
	}
}

// An outage costs no memory that is not given back: nats.go keeps some of every
// request that it cannot send.
func TestAttemptsWithoutAConnectionLeaveNothing(t *testing.T) {
	q := offline(t)
	before := heap()
	const attempts = 20_000
	for range attempts {
		if _, err := q.attempt(t.Context(), &nats.Msg{Header: nats.Header{}}, 0); classify(err) != again {
			t.Fatalf("got %v, want an error that is worth another attempt", err)
		}
	}
	if grown := heap() - before; grown > attempts*50 {
		t.Errorf("%d attempts left %d bytes behind", attempts, grown)
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A report that comes before the first look at its stream waits for it.
func TestNothingIsPromisedBeforeTheFirstLook(t *testing.T) {
	server, err := devnats.Start(t.Context(), devnats.Config{Addr: "127.0.0.1:0", Dir: t.TempDir(), Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	q := connected(t, server.URL())
	q.timeout = time.Second
	cfg := queue.Config{URL: server.URL(), Partitions: 1, Replicas: 1, StreamMaxBytes: 1 << 20, MaxAckPending: 1}
	stream, err := q.js.CreateStream(t.Context(), queue.StreamConfig(0, cfg))
	if err != nil {
		t.Fatal(err)
	}
	report := crash.Report{ID: crash.NewID(time.Now(), crash.Accept), Received: time.Now(), Annotations: crash.Annotations{"ProductName": crash.Text("A")}}
	sealed, err := report.Seal()
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Publish(t.Context(), sealed); err == nil {
		t.Error("promised before the stream was looked at")
	}
	if info, err := stream.Info(t.Context()); err != nil || info.State.Msgs != 0 {
		t.Errorf("%v, the stream has %+v, want nothing in it", err, info.State)
	}
	q.timeout = time.Minute
	promised := make(chan error, 1)
	go func() { promised <- q.Publish(t.Context(), sealed) }()
	defer q.watchStreams(t.Context(), cfg)()
	if err := <-promised; err != nil {
		t.Error(err)
	}
}
