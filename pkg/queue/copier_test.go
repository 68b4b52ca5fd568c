package queue_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/yagi-crash/yagi/pkg/queue"
)

func death() queue.Death {
	return queue.Death{
		Class: "refused", Cause: "the store said:\r\n\tno" + strings.Repeat(" ü", 1000), Stream: "CRASHES_0", Sequence: 7,
		Stored: time.Unix(5, 0), Delivered: 5, At: time.Unix(1_700_000_000, 12).UTC(),
	}
}

// last returns the last message on a subject, and how many there are.
func last(t *testing.T, js jetstream.JetStream, stream, subject string) (*jetstream.RawStreamMsg, int) {
	t.Helper()
	s, err := js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	info, err := s.Info(t.Context(), jetstream.WithSubjectFilter(subject))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, of := range info.State.Subjects {
		n += int(of)
	}
	if n == 0 {
		return nil, 0
	}
	msg, err := s.GetLastMsgForSubject(t.Context(), subject)
	if err != nil {
		t.Fatal(err)
	}
	return msg, n
}

// A report becomes a dead letter and is put back, with its every byte, and with
// what a newer release has put into its manifest.
func TestBuriedAndRequeued(t *testing.T) {
	for name, chunks := range map[string]bool{"in its message": false, "in chunks": true} {
		t.Run(name, func(t *testing.T) {
			q := publishChunked(t)
			ready, err := queue.EncodeChunked(q.report, q.chunks)
			if !chunks {
				ready, err = queue.Encode(nil, q.report, 1<<20)
			}
			if err != nil {
				t.Fatal(err)
			}
			manifest := ready.Header.Get(queue.HeaderManifest)
			ready.Header.Set(queue.HeaderManifest, `{"newer":{"a":[1]},`+manifest[1:])
			ready.Header.Set("Nats-Expected-Stream", "CRASHES_0")
			c := queue.NewCopier(q.js)
			for range 2 { // as when the uploader is killed before it can tell
				if err := c.Bury(t.Context(), ready.Header, ready.Data, death()); err != nil {
					t.Fatal(err)
				}
			}
			dead, n := last(t, q.js, queue.DeadLetterStream, queue.DeadReadySubjects)
			if n != 1 {
				t.Fatalf("there are %d dead letters, want 1", n)
			}
			checkDeath(t, dead.Header)

			if err := c.Requeue(t.Context(), dead.Header, dead.Data, 0, "again"); err != nil {
				t.Fatal(err)
			}
			back, n := last(t, q.js, queue.StreamName(0), queue.ReadySubject(0))
			if n != 1 {
				t.Fatalf("%d reports are in the queue, want 1", n)
			}
			if back.Header.Get(queue.HeaderDeadClass) != "" || back.Header.Get(queue.HeaderMsgID) != "again" ||
				!strings.Contains(back.Header.Get(queue.HeaderManifest), `"newer":{"a":[1]}`) {
				t.Errorf("it is back with the headers %v", back.Header)
			}
			m, err := queue.ReadManifest(back.Header)
			if err != nil {
				t.Fatal(err)
			}
			got, err := queue.NewReader(q.js).Read(t.Context(), queue.StreamName(0), m, back.Data)
			if err != nil {
				t.Fatal(err)
			}
			if err := got.Verify(); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(q.report, got, sameParts); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func checkDeath(t *testing.T, header nats.Header) {
	t.Helper()
	got, err := queue.ReadDeath(header)
	if err != nil {
		t.Fatal(err)
	}
	want := death()
	want.Stored = time.Time{}
	if !strings.HasPrefix(got.Cause, "the store said: no ü ü") || len(got.Cause) > 1024 {
		t.Errorf("the cause is %q", got.Cause)
	}
	got.Cause = want.Cause
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What can be had of a report is kept; it does not come back as if it were whole.
func TestBuriedWithoutSomeChunks(t *testing.T) {
	q := publishChunked(t)
	q.chunks[3] = 1_000_000
	ready, err := queue.EncodeChunked(q.report, q.chunks)
	if err != nil {
		t.Fatal(err)
	}
	c := queue.NewCopier(q.js)
	d := death()
	if err := c.Bury(t.Context(), ready.Header, nil, d); !errors.Is(err, queue.ErrIncomplete) {
		t.Errorf("one that should be whole is buried with error %v", err)
	}
	dropAll(t, q.js)
	d.Partial = true
	if err := c.Bury(t.Context(), ready.Header, nil, d); err != nil {
		t.Fatal(err)
	}
	dead, _ := last(t, q.js, queue.DeadLetterStream, queue.DeadReadySubjects)
	m, err := queue.ReadManifest(dead.Header)
	if err != nil {
		t.Fatal(err)
	}
	_, copied := last(t, q.js, queue.DeadLetterStream, queue.DeadChunkSubject(0))
	if len(m.Chunks) != len(q.chunks) || m.Chunks[3] != 0 || copied != len(q.chunks)-1 {
		t.Errorf("%d chunks were copied, the manifest lists %v", copied, m.Chunks)
	}
	if err := c.Requeue(t.Context(), dead.Header, nil, 0, "again"); !errors.Is(err, queue.ErrIncomplete) {
		t.Errorf("requeued with error %v", err)
	}
	if _, n := last(t, q.js, queue.StreamName(0), queue.ReadySubject(0)); n != 0 {
		t.Errorf("%d reports are in the queue, want none", n)
	}
}

func dropAll(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	s, err := js.Stream(t.Context(), queue.DeadLetterStream)
	if err == nil {
		err = s.Purge(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A chunk that the leader has lost, another server may have.
func TestBuriedWithTheHelpOfAReplica(t *testing.T) {
	q := publishChunked(t)
	q.liar(t, func(m *nats.Msg) { _ = m.Respond([]byte("from a replica")) })
	q.chunks[3] = 1_000_000
	ready, err := queue.EncodeChunked(q.report, q.chunks)
	if err != nil {
		t.Fatal(err)
	}
	if err := queue.NewCopier(q.js).Bury(t.Context(), ready.Header, nil, death()); err != nil {
		t.Fatal(err)
	}
	dead, _ := last(t, q.js, queue.DeadLetterStream, queue.DeadReadySubjects)
	m, err := queue.ReadManifest(dead.Header)
	if err != nil {
		t.Fatal(err)
	}
	s, err := q.js.Stream(t.Context(), queue.DeadLetterStream)
	if err != nil {
		t.Fatal(err)
	}
	if chunk, err := s.GetMsg(t.Context(), m.Chunks[3]); err != nil || string(chunk.Data) != "from a replica" {
		t.Errorf("the chunk is %v, %v", chunk, err)
	}
}

// Where there is no room for all of a report, it takes none.
func TestBurialWithoutRoom(t *testing.T) {
	q := publishChunked(t)
	cfg := queue.DeadLetterConfig(q.cfg)
	cfg.MaxBytes = 10_000
	if _, err := q.js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	ready, err := queue.EncodeChunked(q.report, q.chunks)
	if err != nil {
		t.Fatal(err)
	}
	if err := queue.NewCopier(q.js).Bury(t.Context(), ready.Header, nil, death()); err == nil || !strings.Contains(err.Error(), "10000 bytes are free") {
		t.Errorf("buried with error %v", err)
	}
	if _, n := last(t, q.js, queue.DeadLetterStream, queue.DeadChunkSubject(0)); n != 0 {
		t.Errorf("%d chunks were copied", n)
	}
}

// A manifest that lists the same chunk again and again costs no more than the
// report's size.
func TestBurialIsBounded(t *testing.T) {
	q := publishChunked(t)
	for i := range q.chunks {
		q.chunks[i] = q.chunks[0]
	}
	for range 2000 {
		q.chunks = append(q.chunks, q.chunks[0])
	}
	ready, err := queue.EncodeChunked(q.report, q.chunks)
	if err != nil {
		t.Fatal(err)
	}
	if err := queue.NewCopier(q.js).Bury(t.Context(), ready.Header, nil, death()); err != nil {
		t.Fatal(err)
	}
	if _, n := last(t, q.js, queue.DeadLetterStream, queue.DeadChunkSubject(0)); int64(n) > q.report.Size()/1000+1 {
		t.Errorf("%d chunks of 1,000 bytes were copied of a report of %d", n, q.report.Size())
	}
}

// What says nothing of itself is kept as it is.
func TestBuriedUnread(t *testing.T) {
	js, cfg := connect(t)
	apply(t, js, cfg)
	c := queue.NewCopier(js)
	header := nats.Header{"Whatever": {"x"}}
	if err := c.Bury(t.Context(), header, []byte("body"), death()); err != nil {
		t.Fatal(err)
	}
	dead, _ := last(t, js, queue.DeadLetterStream, queue.DeadReadySubjects)
	if string(dead.Data) != "body" || dead.Header.Get("Whatever") != "x" {
		t.Errorf("the dead letter has %q and %v", dead.Data, dead.Header)
	}
	if err := c.Requeue(t.Context(), dead.Header, dead.Data, 0, "again"); !errors.Is(err, queue.ErrDamaged) {
		t.Errorf("requeued with error %v", err)
	}
	d := death()
	d.Stream = "OTHER"
	if err := c.Bury(t.Context(), header, nil, d); err == nil {
		t.Error("a message of a stream that is not ours became a dead letter")
	}
	if err := js.DeleteStream(t.Context(), queue.DeadLetterStream); err != nil {
		t.Fatal(err)
	}
	if err := c.Bury(t.Context(), header, nil, death()); err == nil {
		t.Error("without a stream of dead letters, one was made")
	}
}

func TestInTime(t *testing.T) {
	now := time.Now()
	for began, ok := range map[time.Time]bool{
		now:                       true,
		now.Add(-4 * time.Minute): true,
		now.Add(-6 * time.Minute): false,
		// The machine slept: only the wall clock tells.
		now.Round(0).Add(-6 * time.Minute): false,
	} {
		if err := queue.InTime(began); (err == nil) != ok {
			t.Errorf("begun %s ago: %v", now.Sub(began), err)
		}
	}
}
