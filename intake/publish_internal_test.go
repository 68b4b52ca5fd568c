package intake

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"golang.org/x/sync/semaphore"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/queue"
)

// A report that no message has room for is refused at once, and takes nobody's
// turn.
func TestTooLargeTakesNoTurn(t *testing.T) {
	nc, err := queue.Connect(queue.Config{URL: "nats://127.0.0.1:1"}, "test", zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	q := &jetStreamQueue{
		nc: nc, js: js, partitions: 1, timeout: time.Minute, inflight: semaphore.NewWeighted(1), capacity: 1,
		metrics: newMetrics(prometheus.NewRegistry(), 1),
	}
	if !q.inflight.TryAcquire(1) {
		t.Fatal("somebody has the turn")
	}
	large := &crash.Sealed{RawCrash: crash.Part{Size: 9 << 20, Data: bytes.NewReader(nil)}}
	start := time.Now()
	err = q.Publish(t.Context(), large)
	if refusal, ok := errors.AsType[*crash.Refusal](err); !ok || refusal.Reason != crash.ReasonTooLarge || time.Since(start) > 10*time.Second {
		t.Errorf("got %v after %s, want too_large at once", err, time.Since(start))
	}
}
