package queue_test

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/queue"
)

// chunkedQueue is a stream that holds one report in chunks.
type chunkedQueue struct {
	js     jetstream.JetStream
	cfg    queue.Config
	report *crash.Sealed
	chunks []uint64
}

// publishChunked stores a report in chunks of 1,000 bytes, and between them
// messages of others.
func publishChunked(t *testing.T) *chunkedQueue {
	t.Helper()
	js, cfg := connect(t)
	apply(t, js, cfg)
	q := &chunkedQueue{js: js, cfg: cfg, report: sealed()}
	q.report.Dumps[1] = part("memory_report", strings.Repeat("0123456789abcdef", 1000))
	for at := int64(0); at < q.report.Size(); at += 1000 {
		chunk := make([]byte, min(1000, q.report.Size()-at))
		if _, err := q.report.ReadAt(chunk, at); err != nil {
			t.Fatal(err)
		}
		q.publish(t, []byte("of another report"))
		q.chunks = append(q.chunks, q.publish(t, chunk))
	}
	return q
}

func (q *chunkedQueue) publish(t *testing.T, chunk []byte) uint64 {
	t.Helper()
	ack, err := q.js.Publish(t.Context(), queue.ChunkSubject(0), chunk)
	if err != nil {
		t.Fatal(err)
	}
	return ack.Sequence
}

// read reads the report as an uploader does that has its ready message.
func (q *chunkedQueue) read(t *testing.T) (*crash.Sealed, error) {
	t.Helper()
	return q.readBy(t, queue.NewReader(q.js))
}

func (q *chunkedQueue) readBy(t *testing.T, reader *queue.Reader) (*crash.Sealed, error) {
	t.Helper()
	msg, err := queue.EncodeChunked(q.report, q.chunks)
	if err != nil {
		return nil, err
	}
	m, err := queue.ReadManifest(msg.Header)
	if err != nil {
		return nil, err
	}
	return reader.Read(t.Context(), queue.StreamName(0), m, msg.Data)
}

func (q *chunkedQueue) checkWhole(t *testing.T) {
	t.Helper()
	got, err := q.read(t)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(q.report, got, sameParts); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	want, have := make([]byte, q.report.Size()), make([]byte, q.report.Size())
	_, _ = q.report.ReadAt(want, 0)
	if _, err := got.ReadAt(have, 0); err != nil || string(have) != string(want) {
		t.Errorf("other bytes were read, %v", err)
	}
}

func TestReaderGathersChunks(t *testing.T) {
	publishChunked(t).checkWhole(t)
}

// liar takes the place of the stream's replicas: it answers Direct Gets.
func (q *chunkedQueue) liar(t *testing.T, answer func(*nats.Msg)) {
	t.Helper()
	cfg := queue.StreamConfig(0, q.cfg)
	cfg.AllowDirect = false
	if _, err := q.js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	sub, err := q.js.Conn().Subscribe("$JS.API.DIRECT.GET."+queue.StreamName(0), answer)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Unsubscribe() })
}

// A replica that lags or has lost messages says 404, one with another history
// says something else, and a server on its way down says nothing. The leader has
// the report.
func TestReaderAsksTheLeaderWhenAReplicaFails(t *testing.T) {
	for name, answer := range map[string]func(*nats.Msg){
		"lags": func(m *nats.Msg) {
			_ = m.RespondMsg(&nats.Msg{Header: nats.Header{"Status": {"404"}, "Description": {"Message Not Found"}}})
		},
		"has other bytes":      func(m *nats.Msg) { _ = m.Respond([]byte(strings.Repeat("x", 1000))) },
		"has fewer bytes":      func(m *nats.Msg) { _ = m.Respond(nil) },
		"has far more of them": func(m *nats.Msg) { _ = m.Respond(make([]byte, 1<<20)) },
	} {
		t.Run(name, func(t *testing.T) {
			q := publishChunked(t)
			asked := make(chan struct{}, 1000)
			q.liar(t, func(m *nats.Msg) { asked <- struct{}{}; answer(m) })
			q.checkWhole(t)
			if len(asked) == 0 {
				t.Error("no replica was asked, so none was passed over")
			}
		})
	}
	t.Run("is not there", func(t *testing.T) {
		q := publishChunked(t)
		cfg := queue.StreamConfig(0, q.cfg)
		cfg.AllowDirect = false
		if _, err := q.js.UpdateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		q.checkWhole(t)
	})
}

// However many reports are read at a time, the server has no more than eight chunks
// on their way to a reader.
func TestReaderBoundsWhatIsOnItsWay(t *testing.T) {
	q := publishChunked(t)
	var now, most atomic.Int32
	q.liar(t, func(m *nats.Msg) {
		n := now.Add(1)
		most.Store(max(most.Load(), n)) // these come one by one
		time.AfterFunc(20*time.Millisecond, func() {
			now.Add(-1)
			_ = m.Respond(nil) // a lie, for which the leader is asked
		})
	})
	reader := queue.NewReader(q.js)
	var reads sync.WaitGroup
	for range 8 {
		reads.Go(func() {
			if _, err := q.readBy(t, reader); err != nil {
				t.Error(err)
			}
		})
	}
	reads.Wait()
	if n := most.Load(); n != 8 {
		t.Errorf("%d were on their way, want 8", n)
	}
}

// Chunks that hold more than their manifest says are not kept in memory.
func TestReaderKeepsNoMoreThanTheManifestSays(t *testing.T) {
	q := publishChunked(t)
	for i := range q.chunks {
		q.chunks[i] = q.publish(t, make([]byte, 100_000))
	}
	_, err := q.read(t)
	if !errors.Is(err, queue.ErrDamaged) || !strings.Contains(err.Error(), "hold more than") {
		t.Errorf("got %v", err)
	}
}

// A report of which something is missing or wrong is never handed out.
func TestReaderTellsDamageFromAbsence(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*testing.T, *chunkedQueue)
		want   error
	}{
		"a chunk that was purged": {func(t *testing.T, q *chunkedQueue) {
			t.Helper()
			stream, err := q.js.Stream(t.Context(), queue.StreamName(0))
			if err != nil {
				t.Fatal(err)
			}
			if err := stream.Purge(t.Context(), jetstream.WithPurgeSequence(q.chunks[0]+1)); err != nil {
				t.Fatal(err)
			}
		}, queue.ErrIncomplete},
		"a chunk that never was": {func(_ *testing.T, q *chunkedQueue) { q.chunks[3] = 1 << 60 }, queue.ErrIncomplete},
		"another's chunk":        {func(_ *testing.T, q *chunkedQueue) { q.chunks[3]-- }, queue.ErrDamaged},
		"a chunk too few":        {func(_ *testing.T, q *chunkedQueue) { q.chunks = q.chunks[1:] }, queue.ErrDamaged},
		"two chunks in the other order": {func(_ *testing.T, q *chunkedQueue) {
			q.chunks[0], q.chunks[1] = q.chunks[1], q.chunks[0]
		}, queue.ErrDamaged},
		"a bit of the last dump": {func(t *testing.T, q *chunkedQueue) {
			t.Helper()
			last := len(q.chunks) - 1
			chunk := make([]byte, q.report.Size()-int64(last)*1000)
			_, _ = q.report.ReadAt(chunk, int64(last)*1000)
			chunk[len(chunk)-1] ^= 1
			q.chunks[last] = q.publish(t, chunk)
		}, queue.ErrDamaged},
	} {
		t.Run(name, func(t *testing.T) {
			q := publishChunked(t)
			c.change(t, q)
			if got, err := q.read(t); !errors.Is(err, c.want) {
				t.Errorf("got %v, %v, want %v", got, err, c.want)
			}
		})
	}
}

// A queue that does not answer is no damage: the report is asked for again.
func TestReaderWithoutAStream(t *testing.T) {
	q := publishChunked(t)
	if err := q.js.DeleteStream(t.Context(), queue.StreamName(0)); err != nil {
		t.Fatal(err)
	}
	if got, err := q.read(t); err == nil || errors.Is(err, queue.ErrDamaged) || errors.Is(err, queue.ErrIncomplete) {
		t.Errorf("got %v, %v, want an error about the stream", got, err)
	}
}

// What is asked of the leader is found by sequence and subject, or by time.
func TestReaderLocates(t *testing.T) {
	q := publishChunked(t)
	reader := queue.NewReader(q.js)
	if got, err := reader.NextReady(t.Context(), 0, 1); got != nil || err != nil {
		t.Errorf("among chunks alone a ready message is found at %+v, error %v", got, err)
	}
	if _, err := q.read(t); err != nil {
		t.Fatal(err)
	}
	msg, err := queue.EncodeChunked(q.report, q.chunks)
	if err != nil {
		t.Fatal(err)
	}
	msg.Subject = queue.ReadySubject(0)
	ack, err := q.js.PublishMsg(t.Context(), msg)
	if err != nil {
		t.Fatal(err)
	}
	ready, err := reader.NextReady(t.Context(), 0, 1)
	if err != nil || ready == nil || ready.Sequence != ack.Sequence {
		t.Fatalf("the ready message is found at %+v, error %v, want sequence %d", ready, err, ack.Sequence)
	}
	if got, err := reader.NextReady(t.Context(), 0, ack.Sequence+1); got != nil || err != nil {
		t.Errorf("beyond the last ready message one is found at %+v, error %v", got, err)
	}

	stream := queue.StreamName(0)
	if got, err := reader.Since(t.Context(), stream, ready.Time); err != nil || got == nil || *got != *ready {
		t.Errorf("since %v there is %+v, error %v, want %+v", ready.Time, got, err, ready)
	}
	if got, err := reader.Since(t.Context(), stream, ready.Time.Add(-time.Hour)); err != nil || got == nil || got.Sequence != 1 {
		t.Errorf("since an hour before there is %+v, error %v, want sequence 1", got, err)
	}
	if got, err := reader.Since(t.Context(), stream, ready.Time.Add(time.Nanosecond)); got != nil || err != nil {
		t.Errorf("since after the last message there is %+v, error %v", got, err)
	}
	if _, err := reader.Since(t.Context(), queue.StreamName(7), ready.Time); err == nil {
		t.Error("a stream that is not there has no error")
	}
}
