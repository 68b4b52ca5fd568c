package uploader

import (
	"context"
	"errors"
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

// fastStream is a stream for whose trimmer five minutes pass each second. The
// server's clock, which tells how old messages are, is left alone.
type fastStream struct {
	trim.Stream

	start time.Time
	past  *atomic.Int64 // minutes since start at the last look
}

const faster = 300

func (s *fastStream) View(ctx context.Context) (trim.View, error) {
	v, err := s.Stream.View(ctx)
	v.Asked = s.start.Add(faster * v.Asked.Sub(s.start))
	v.Answered = s.start.Add(faster * v.Answered.Sub(s.start))
	s.past.Store(int64(v.Answered.Sub(s.start).Minutes()))
	return v, err
}

// hasty makes an uploader trim as if time flew, and keeps how many minutes have
// passed so.
func hasty(past *atomic.Int64) func(u *Uploader) {
	return func(u *Uploader) {
		u.trimEvery = 20 * time.Millisecond
		u.streamOf = func(p int) trim.Stream {
			return &fastStream{Stream: u.jetStreamOf(p), start: time.Now(), past: past}
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

// publishChunked publishes a report to partition 0 in chunks of 1,000 bytes, and then its ready
// message.
func (w *world) publishChunked() (s *crash.Sealed, chunks []uint64) {
	w.tb.Helper()
	s = newReport(w.tb, strings.Repeat("0123456789abcdef", 200))
	for at := int64(0); at < s.Size(); at += 1000 {
		chunk := make([]byte, min(1000, s.Size()-at))
		_, err := s.ReadAt(chunk, at)
		must(w.tb, err)
		chunks = append(chunks, w.stray(0, chunk))
	}
	msg, err := queue.EncodeChunked(s, chunks)
	must(w.tb, err)
	w.send(0, msg)
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
	var past atomic.Int64
	r := w.run(hasty(&past))
	second := w.run(hasty(new(atomic.Int64)))
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
	held, chunks := w.publishChunked()
	hold = layout.DumpNames(held.ID)
	mu.Unlock()
	stored = append(stored, w.publish(0, 5)...)
	begun := past.Load()
	await(t, "half an hour passes", func() bool { return past.Load() > begun+30 })
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
	must(t, w.js.DeleteStream(t.Context(), queue.StreamName(1)))
	await(t, "the gauges of a stream that is gone are gone", func() bool { return testutil.CollectAndCount(r.metrics.oldest) == 1 })
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
	live, err := w.js.Stream(t.Context(), queue.StreamName(0))
	must(t, err)
	cfg := live.CachedInfo().Config
	cfg.MaxBytes = limit
	_, err = w.js.UpdateStream(t.Context(), cfg)
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
	var past atomic.Int64
	w.run(hasty(&past))
	w.publish(0, 10)
	await(t, "the reports are acknowledged", func() bool { return w.drained(0) })
	begun := past.Load()
	await(t, "half an hour passes", func() bool { return past.Load() > begun+30 })
	if s := w.state(0); s.Msgs != 10 {
		t.Errorf("%d messages are left, want all 10, which the replay has not read", s.Msgs)
	}
	must(t, w.js.DeleteConsumer(t.Context(), queue.StreamName(0), replay.Durable))
	await(t, "all is gone", func() bool { return w.state(0).Msgs == 0 })
}

// A stream looks as it is, whatever is on it.
func TestViewOfAStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	js, name := w.js, queue.StreamName(0)
	s := trim.NewJetStream(js, queue.NewReader(w.js), 0, w.cfg.NATS)
	view := func() trim.View {
		t.Helper()
		v, err := s.View(t.Context())
		must(t, err)
		return v
	}
	if v := view(); !v.Idle || v.FloorOf != queue.Consumer || v.Pending != nil || v.Messages != 0 {
		t.Errorf("a stream that never had a message looks like %+v", v)
	}
	w.publish(0, 2)
	v := view()
	if v.Idle || v.Pending == nil || v.Pending.Sequence != 1 || !slices.Equal([]uint64{v.First, v.Last, v.Messages}, []uint64{1, 2, 2}) {
		t.Errorf("two reports look like %+v", v)
	}
	if v.LastAt.Before(v.FirstAt) || v.Server.Before(v.LastAt) || v.Answered.Before(v.Asked) {
		t.Errorf("the times of two reports are %+v", v)
	}

	// Somebody else listens: without a name, or pushed to, for good.
	other := queue.ConsumerConfig(0, w.cfg.NATS)
	other.Durable, other.MaxWaiting, other.InactiveThreshold = "", 0, time.Minute
	_, err := js.CreateConsumer(t.Context(), name, other)
	must(t, err)
	pushed := jetstream.ConsumerConfig{Durable: "a-pushed-one", DeliverSubject: w.nc.NewInbox(), AckPolicy: jetstream.AckExplicitPolicy}
	_, err = js.CreatePushConsumer(t.Context(), name, pushed)
	must(t, err)
	if v := view(); v.FloorOf != queue.Consumer {
		t.Errorf("with the same floor as the uploaders %s is said to hold it", v.FloorOf)
	}
	c, err := js.Consumer(t.Context(), name, queue.Consumer)
	must(t, err)
	batch, err := c.Fetch(2)
	must(t, err)
	for msg := range batch.Messages() {
		must(t, msg.DoubleAck(t.Context()))
	}
	if v := view(); v.Floor != 0 || v.FloorOf != pushed.Durable || v.Idle || v.Pending != nil {
		t.Errorf("with a consumer that has acknowledged nothing the stream looks like %+v", v)
	}

	// Without the uploaders' consumer nobody knows what is stored.
	must(t, js.DeleteConsumer(t.Context(), name, queue.Consumer))
	if _, err := s.View(t.Context()); !errors.Is(err, jetstream.ErrConsumerNotFound) {
		t.Errorf("without consumer %s the view has error %v", queue.Consumer, err)
	}

	// What was seen of a stream says nothing about the next one of its name.
	w.apply(1)
	view()
	must(t, js.DeleteStream(t.Context(), name))
	w.apply(1)
	w.publish(0, 2)
	if err := s.Purge(t.Context(), 2); err == nil || w.state(0).Msgs != 2 {
		t.Errorf("a stream that was made anew is purged: %d messages are left, error %v", w.state(0).Msgs, err)
	}
}
