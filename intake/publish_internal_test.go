package intake

import (
	"bytes"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"golang.org/x/sync/semaphore"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/queue"
)

// offline is a queue whose server is not there.
func offline(t *testing.T) *jetStreamQueue {
	t.Helper()
	nc, err := queue.Connect(queue.Config{URL: "nats://127.0.0.1:1"}, "test", zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return &jetStreamQueue{
		nc: nc, js: js, partitions: 1, timeout: time.Minute, inflight: semaphore.NewWeighted(1), capacity: 1,
		metrics: newMetrics(prometheus.NewRegistry(), 1),
	}
}

// A report that no message has room for is refused at once, and takes nobody's
// turn.
func TestTooLargeTakesNoTurn(t *testing.T) {
	q := offline(t)
	if !q.inflight.TryAcquire(1) {
		t.Fatal("somebody has the turn")
	}
	large := &crash.Sealed{RawCrash: crash.Part{Size: 9 << 20, Data: bytes.NewReader(nil)}}
	start := time.Now()
	err := q.Publish(t.Context(), large)
	if refusal, ok := errors.AsType[*crash.Refusal](err); !ok || refusal.Reason != crash.ReasonTooLarge || time.Since(start) > 10*time.Second {
		t.Errorf("got %v after %s, want too_large at once", err, time.Since(start))
	}
}

// An outage costs no memory that is not given back: nats.go keeps some of every
// request that it cannot send.
func TestAttemptsWithoutAConnectionLeaveNothing(t *testing.T) {
	q := offline(t)
	before := heap()
	const attempts = 20_000
	for range attempts {
		if err := q.attempt(t.Context(), &nats.Msg{Header: nats.Header{}}, 0); classify(err) != again {
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
