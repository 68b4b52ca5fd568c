package uploader

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/layout"
	"github.com/yagi-crash/yagi/pkg/queue"
	"github.com/yagi-crash/yagi/uploader/internal/trim"
)

// fastStream is a stream for whose trimmer a quarter of an hour passes each
// second. The server's clock, which tells how old messages are, is left alone.
type fastStream struct {
	trim.Stream

	start time.Time
	views *atomic.Int64
}

func (s *fastStream) View(ctx context.Context) (trim.View, error) {
	v, err := s.Stream.View(ctx)
	s.views.Add(1)
	v.Asked = s.start.Add(900 * v.Asked.Sub(s.start))
	v.Answered = s.start.Add(900 * v.Answered.Sub(s.start))
	return v, err
}

// hasty makes an uploader trim as if time flew; it returns how often the uploader
// has looked at its streams.
func hasty(views *atomic.Int64) func(u *Uploader) {
	return func(u *Uploader) {
		u.trimEvery = 20 * time.Millisecond
		u.streamOf = func(p int) trim.Stream {
			return &fastStream{Stream: u.jetStreamOf(p), start: time.Now(), views: views}
		}
	}
}

// state tells how partition p's stream is.
func (w *world) state(p int) jetstream.StreamState {
	w.tb.Helper()
	s, err := w.js.Stream(w.tb.Context(), queue.StreamName(p))
	must(w.tb, err)
	return s.CachedInfo().State
}

// publishChunked publishes a report in chunks of 1,000 bytes, and then its ready
// message.
func (w *world) publishChunked(p int) (s *crash.Sealed, chunks []uint64) {
	w.tb.Helper()
	s = newReport(w.tb, strings.Repeat("0123456789abcdef", 200))
	for at := int64(0); at < s.Size(); at += 1000 {
		chunk := make([]byte, min(1000, s.Size()-at))
		_, err := s.ReadAt(chunk, at)
		must(w.tb, err)
		chunks = append(chunks, w.stray(p, chunk))
	}
	msg, err := queue.EncodeChunked(s, chunks)
	must(w.tb, err)
	w.send(p, msg)
	return s, chunks
}

// stray publishes a chunk.
func (w *world) stray(p int, chunk []byte) uint64 {
	w.tb.Helper()
	ack, err := w.js.Publish(w.tb.Context(), queue.ChunkSubject(p), chunk)
	must(w.tb, err)
	return ack.Sequence
}

// What is stored goes, and so do chunks of reports that were never finished; what
// is not stored stays, with all its chunks, however old.
func TestTrim(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.cfg.ReplayWindow = 0
	f := w.newFront()
	var views atomic.Int64
	r := w.run(hasty(&views))
	second := w.run(hasty(&views))
	stored := append(w.publish(0, 5), w.publish(1, 3)...)
	w.stray(0, []byte("of a report that was cut"))
	w.stray(1, []byte("of another one"))
	for p := range 2 {
		await(t, "all is gone", func() bool { return w.state(p).LastSeq > 0 && w.state(p).Msgs == 0 })
	}

	hold := "none"
	var mu sync.Mutex
	f.onPut(func(r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if strings.HasSuffix(r.URL.Path, hold) {
			panic(http.ErrAbortHandler)
		}
	})
	mu.Lock()
	held, chunks := w.publishChunked(0)
	hold = layout.DumpNames(held.ID)
	mu.Unlock()
	stored = append(stored, w.publish(0, 5)...)
	begun := views.Load()
	await(t, "hours pass", func() bool { return views.Load() > begun+200 }) // 50 a stream and uploader, 5 simulated hours
	if s := w.state(0); s.FirstSeq != chunks[0] {
		t.Errorf("the stream begins at %d, want the first chunk of the report that is not stored, %d", s.FirstSeq, chunks[0])
	}
	if n := testutil.ToFloat64(r.metrics.oldest.WithLabelValues("CRASHES_0")); n <= 0 || n > patience.Seconds() {
		t.Errorf("the oldest report has waited for %v s", n)
	}
	f.onPut(nil)
	await(t, "all is gone", func() bool { return w.state(0).Msgs == 0 })
	w.checkStored(append(stored, held))
	await(t, "no report is old", func() bool { return testutil.ToFloat64(r.metrics.oldest.WithLabelValues("CRASHES_0")) == 0 })
	r.stop()
	second.stop()
	want := float64(5 + 3 + 2 + len(chunks) + 1 + 5)
	if n := testutil.ToFloat64(r.metrics.trimmed) + testutil.ToFloat64(second.metrics.trimmed); n < want {
		t.Errorf("%v messages are counted as trimmed, want %v or more", n, want)
	}
}

// Within the replay window stored reports stay, but for the oldest when room is
// short.
func TestTrimWhenRoomIsShort(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	const limit = 100_000
	cfg := queue.StreamConfig(0, w.cfg.NATS)
	cfg.MaxBytes = limit
	_, err := w.js.UpdateStream(t.Context(), cfg)
	must(t, err)
	r := w.run(hasty(new(atomic.Int64)))
	w.publish(0, 60) // about 1 kB each
	await(t, "the reports are acknowledged", func() bool { return w.drained(0) })
	await(t, "the trimmer has looked", func() bool {
		return testutil.ToFloat64(r.metrics.streamBytes.WithLabelValues("CRASHES_0")) == float64(w.state(0).Bytes)
	})
	before := w.state(0)
	if before.FirstSeq != 1 || before.Bytes > 80*limit/100 {
		t.Fatalf("the stream has %d bytes from message %d on, too many to begin with", before.Bytes, before.FirstSeq)
	}
	for w.state(0).Bytes <= 80*limit/100 {
		w.publish(0, 5)
	}
	await(t, "the stream has room again", func() bool { return w.state(0).Bytes <= 80*limit/100 })
	if s := w.state(0); s.Bytes < 60*limit/100 {
		t.Errorf("%d bytes are left of more than %d, want only little to be trimmed", s.Bytes, 80*limit/100)
	}
	await(t, "it is known how long that lasts", func() bool {
		return testutil.ToFloat64(r.metrics.bufferLeft.WithLabelValues("CRASHES_0")) > 0
	})
}

// A consumer of an operator, such as a replay, keeps what it has not read.
func TestTrimWaitsForEveryConsumer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.cfg.ReplayWindow = 0
	replay := queue.ConsumerConfig(0, w.cfg.NATS)
	replay.Durable = "replay-test"
	_, err := w.js.CreateConsumer(t.Context(), queue.StreamName(0), replay)
	must(t, err)
	var views atomic.Int64
	w.run(hasty(&views))
	w.publish(0, 10)
	await(t, "the reports are acknowledged", func() bool { return w.drained(0) })
	begun := views.Load()
	await(t, "hours pass", func() bool { return views.Load() > begun+50 })
	if s := w.state(0); s.Msgs != 10 {
		t.Errorf("%d messages are left, want all 10, which the replay has not read", s.Msgs)
	}
	must(t, w.js.DeleteConsumer(t.Context(), queue.StreamName(0), replay.Durable))
	await(t, "all is gone", func() bool { return w.state(0).Msgs == 0 })
}

// Without the uploaders' consumer nobody knows what is stored.
func TestNoTrimWithoutTheConsumer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	nc, js := w.nc, w.js
	s := trim.NewJetStream(js, queue.NewReader(nc), 0)
	must(t, js.DeleteConsumer(t.Context(), queue.StreamName(0), queue.Consumer))
	other := queue.ConsumerConfig(0, w.cfg.NATS)
	other.Durable = "other"
	_, err := js.CreateConsumer(t.Context(), queue.StreamName(0), other)
	must(t, err)
	if _, err := s.View(t.Context()); err == nil || !strings.Contains(err.Error(), queue.Consumer) {
		t.Errorf("the view has error %v, want one about consumer %s", err, queue.Consumer)
	}
	w.apply(1)
	v, err := s.View(t.Context())
	must(t, err)
	if !v.Idle || v.FloorOf != queue.Consumer || v.Pending != nil {
		t.Errorf("an empty stream looks like %+v", v)
	}
	w.publish(0, 2)
	v, err = s.View(t.Context())
	must(t, err)
	if v.Idle || v.Pending == nil || v.Pending.Sequence != 1 || !slices.Equal([]uint64{v.First, v.Last, v.Messages}, []uint64{1, 2, 2}) {
		t.Errorf("two reports look like %+v", v)
	}
}
