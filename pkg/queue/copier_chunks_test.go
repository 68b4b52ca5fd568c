package queue_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/yagi-crash/yagi/pkg/devstack/devnats"
	"github.com/yagi-crash/yagi/pkg/queue"
)

// meddling has something happen before or after the ready message of a dead letter is
// published.
type meddling struct {
	jetstream.JetStream

	before, after func()
}

func (m *meddling) PublishMsg(ctx context.Context, msg *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	ready := strings.Contains(msg.Subject, ".ready.")
	if ready && m.before != nil {
		m.before()
	}
	ack, err := m.JetStream.PublishMsg(ctx, msg, opts...)
	if ready && m.after != nil {
		m.after()
	}
	return ack, err
}

// checkBuried fails the test unless the last dead letter is the whole report.
func (q *chunkedQueue) checkBuried(t *testing.T) {
	t.Helper()
	dead, n := last(t, q.js, queue.DeadLetterStream, queue.DeadReadySubjects)
	if n == 0 {
		t.Fatal("there is no dead letter")
	}
	m, err := queue.ReadManifest(dead.Header)
	if err != nil {
		t.Fatal(err)
	}
	got, err := queue.NewReader(q.js).Read(t.Context(), queue.DeadLetterStream, m, dead.Data)
	if err != nil {
		t.Fatal(err)
	}
	if err := got.Verify(); err != nil || got.ID != q.report.ID {
		t.Errorf("the dead letter is %s: %v", got.ID, err)
	}
}

// A dead letter whose chunks went while it was made is not taken for made, and is made
// whole by the next attempt.
func TestBuriedWhileChunksGo(t *testing.T) {
	for name, after := range map[string]bool{"before its ready message": false, "after it": true} {
		t.Run(name, func(t *testing.T) {
			q := publishChunked(t)
			ready, err := queue.EncodeChunked(q.report, q.chunks)
			if err != nil {
				t.Fatal(err)
			}
			purge := func() {
				s, err := q.js.Stream(t.Context(), queue.DeadLetterStream)
				if err == nil {
					err = s.Purge(t.Context(), jetstream.WithPurgeSubject(queue.DeadChunkSubject(0)))
				}
				if err != nil {
					t.Error(err)
				}
			}
			js := &meddling{JetStream: q.js, before: purge}
			if after {
				js.before, js.after = nil, purge
			}
			if err := queue.NewCopier(js).Bury(t.Context(), ready.Header, nil, death()); !errors.Is(err, queue.ErrServerChanged) {
				t.Errorf("buried with error %v, want %v", err, queue.ErrServerChanged)
			}
			if err := queue.NewCopier(q.js).Bury(t.Context(), ready.Header, nil, death()); err != nil {
				t.Fatal(err)
			}
			q.checkBuried(t)
		})
	}
}

// A server that was restarted may be without the last of what it had acknowledged.
func TestBuriedWhileTheServerRestarts(t *testing.T) {
	cfg := devnats.Config{Addr: "127.0.0.1:0", Dir: t.TempDir(), Log: zerolog.Nop()}
	server, err := devnats.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { server.Stop() }()
	cfg.Addr = strings.TrimPrefix(server.URL(), "nats://")
	back := make(chan struct{}, 1)
	settings := queue.Config{URL: server.URL(), Partitions: 1, Replicas: 1, StreamMaxBytes: 64 << 20, MaxAckPending: 10}
	nc, err := queue.Connect(settings, "test", zerolog.Nop(), nats.ReconnectHandler(func(*nats.Conn) { back <- struct{}{} }))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, js, settings)
	q := &chunkedQueue{js: js, cfg: settings, report: sealed()}
	for at := int64(0); at < q.report.Size(); at += 100 {
		chunk := make([]byte, min(100, q.report.Size()-at))
		if _, err := q.report.ReadAt(chunk, at); err != nil {
			t.Fatal(err)
		}
		q.chunks = append(q.chunks, q.publish(t, chunk))
	}
	ready, err := queue.EncodeChunked(q.report, q.chunks)
	if err != nil {
		t.Fatal(err)
	}
	restart := func() {
		server.Stop()
		if server, err = devnats.Start(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		<-back
	}
	if err := queue.NewCopier(&meddling{JetStream: js, after: restart}).Bury(t.Context(), ready.Header, nil, death()); !errors.Is(err, queue.ErrServerChanged) {
		t.Errorf("buried with error %v, want %v", err, queue.ErrServerChanged)
	}
	if err := queue.NewCopier(js).Bury(t.Context(), ready.Header, nil, death()); err != nil {
		t.Fatal(err)
	}
	q.checkBuried(t)
}
