package intake

import (
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"golang.org/x/sync/semaphore"

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
		nc: nc, js: js, partitions: 1, timeout: time.Minute, inflight: semaphore.NewWeighted(1), capacity: 1, large: make(chan struct{}, largeAtOnce),
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
	for want, all := range map[answer][]*server.ApiError{
		isFull: {server.NewJSStreamStoreFailedError(server.ErrMaxBytes), server.NewJSStreamStoreFailedError(server.ErrMaxMsgs)},
		tooLarge: {
			server.NewJSStreamStoreFailedError(server.ErrMsgTooLarge), server.NewJSStreamMessageExceedsMaximumError(),
			server.NewJSStreamHeaderExceedsMaximumError(),
		},
		again: {
			server.NewJSStreamStoreFailedError(server.ErrStoreClosed), server.NewJSStreamTooManyRequestsError(),
			server.NewJSStreamDuplicateMessageConflictError(), server.NewJSInsufficientResourcesError(),
		},
		refused: {server.NewJSStreamSealedError(), server.NewJSStreamNotMatchError(), server.NewJSAccountResourcesExceededError()},
	} {
		for _, e := range all {
			err := fmt.Errorf("publishing: %w", &jetstream.APIError{Code: e.Code, ErrorCode: jetstream.ErrorCode(e.ErrCode), Description: e.Description})
			if got := classify(err); got != want {
				t.Errorf("%v is %s, want %s", err, got, want)
			}
		}
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
