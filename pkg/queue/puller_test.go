package queue_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/yagi-crash/yagi/pkg/devstack/devnats"
	"github.com/yagi-crash/yagi/pkg/queue"
)

// pulled is a stream with messages, and a puller whose line can be held up.
type pulled struct {
	*queue.Pullers

	js   jetstream.JetStream
	line *line
}

func newPulled(t *testing.T, messages ...string) *pulled {
	t.Helper()
	local, err := devnats.Start(t.Context(), devnats.Config{Addr: "127.0.0.1:0", Dir: t.TempDir(), Log: zerolog.Nop()})
	must(t, err)
	t.Cleanup(local.Stop)
	direct, err := nats.Connect(local.URL())
	must(t, err)
	t.Cleanup(direct.Close)
	p := &pulled{line: newLine(t, strings.TrimPrefix(local.URL(), "nats://"))}
	p.js, err = jetstream.New(direct)
	must(t, err)
	cfg := queue.Config{URL: "nats://" + p.line.address, Partitions: 1, Replicas: 1, StreamMaxBytes: 64 << 20, MaxAckPending: 100}
	_, err = p.js.CreateStream(t.Context(), queue.StreamConfig(0, cfg))
	must(t, err)
	_, err = p.js.CreateConsumer(t.Context(), queue.StreamName(0), queue.ConsumerConfig(0, cfg))
	must(t, err)
	for _, m := range messages {
		_, err = p.js.Publish(t.Context(), queue.ReadySubject(0), []byte(m))
		must(t, err)
	}
	nc, err := queue.Connect(cfg, "test", zerolog.Nop())
	must(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	must(t, err)
	p.Pullers, err = queue.NewPullers(js)
	must(t, err)
	return p
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (p *pulled) next(t *testing.T, consumer string, wait time.Duration) (jetstream.Msg, error) {
	t.Helper()
	return p.Take(t.Context(), func(one *queue.Puller) (jetstream.Msg, error) {
		return one.Next(queue.StreamName(0), consumer, wait)
	})
}

// What the consumer has is handed out until it is settled, and may be told what became
// of it. In which order a message comes again is the server's affair.
func TestPuller(t *testing.T) {
	t.Parallel()
	p := newPulled(t, "one", "two", "three")
	tell := map[string]func(jetstream.Msg) error{
		"one 1":   func(m jetstream.Msg) error { return m.DoubleAck(t.Context()) },
		"two 1":   jetstream.Msg.Nak,
		"two 2":   func(m jetstream.Msg) error { return errors.Join(m.InProgress(), m.Ack()) },
		"three 1": func(m jetstream.Msg) error { return m.NakWithDelay(time.Millisecond) },
		"three 2": func(m jetstream.Msg) error { return m.TermWithReason("enough") },
	}
	for len(tell) > 0 {
		msg, err := p.next(t, queue.Consumer, 5*time.Second)
		if err != nil || msg == nil || msg.Subject() != queue.ReadySubject(0) {
			t.Fatalf("got %+v, %v while %d answers are to be given", msg, err, len(tell))
		}
		meta, err := msg.Metadata()
		if err != nil || meta.Stream != queue.StreamName(0) || time.Since(meta.Timestamp) > time.Minute {
			t.Fatalf("%s: %+v, %v", msg.Data(), meta, err)
		}
		delivered := fmt.Sprintf("%s %d", msg.Data(), meta.NumDelivered)
		if tell[delivered] == nil {
			t.Fatalf("%s came once more, or out of turn", delivered)
		}
		must(t, tell[delivered](msg))
		delete(tell, delivered)
	}
	p.awaitSettled(t)
	for _, wait := range []time.Duration{0, 100 * time.Millisecond} {
		begun := time.Now()
		if msg, err := p.next(t, queue.Consumer, wait); msg != nil || err != nil || time.Since(begun) > wait+time.Second {
			t.Errorf("of nothing came %v, %v after %v", msg, err, time.Since(begun))
		}
	}
	if _, err := p.next(t, "nobody", 5*time.Second); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("a consumer that is missing: %v", err)
	}
}

// awaitSettled waits until the server has taken all answers: it does so beside the pulls.
func (p *pulled) awaitSettled(t *testing.T) {
	t.Helper()
	for limit := time.Now().Add(10 * time.Second); ; <-time.After(10 * time.Millisecond) {
		consumer, err := p.js.Consumer(t.Context(), queue.StreamName(0), queue.Consumer)
		must(t, err)
		info := consumer.CachedInfo()
		if info.NumAckPending+int(info.NumPending) == 0 {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("not settled: %+v", info)
		}
	}
}

// A message that takes longer over the line than the server waits is not lost.
func TestPullerOverASlowLine(t *testing.T) {
	t.Parallel()
	p := newPulled(t, "one", "two")
	p.line.holdFor(4 * time.Second)
	for _, data := range []string{"one", "two"} {
		msg, err := p.next(t, queue.Consumer, 0)
		if err != nil || msg == nil || string(msg.Data()) != data {
			t.Fatalf("got %v, %v; want %s", msg, err, data)
		}
		if meta, err := msg.Metadata(); err != nil || meta.NumDelivered != 1 {
			t.Errorf("%s: %+v, %v", data, meta, err)
		}
		must(t, msg.DoubleAck(t.Context()))
	}
	must(t, p.Close())
}

// A consumer that has handed out all that it may does not keep the pulls that it does
// not answer: once it may again, it sends nobody what nobody waits for.
func TestPullerAtABusyConsumer(t *testing.T) {
	t.Parallel()
	p := newPulled(t, "one", "two", "three", "four")
	consumer, err := p.js.Consumer(t.Context(), queue.StreamName(0), queue.Consumer)
	must(t, err)
	cfg := consumer.CachedInfo().Config
	cfg.MaxAckPending = 1
	_, err = p.js.UpdateConsumer(t.Context(), queue.StreamName(0), cfg)
	must(t, err)
	first, err := p.next(t, queue.Consumer, 0)
	must(t, err)
	for i := range 5 {
		began := time.Now()
		if msg, err := p.next(t, queue.Consumer, 0); msg != nil || err != nil {
			t.Fatalf("got %v, %v beside the one in hand", msg, err)
		}
		if took := time.Since(began); i > 0 && took > 500*time.Millisecond {
			t.Errorf("pull %d took %v, though the one before it told what to expect", i+1, took)
		}
	}
	cfg.MaxAckPending = 100
	consumer, err = p.js.UpdateConsumer(t.Context(), queue.StreamName(0), cfg)
	must(t, err)
	must(t, first.DoubleAck(t.Context()))
	second, err := p.next(t, queue.Consumer, 0)
	if err != nil || second == nil || string(second.Data()) != "two" {
		t.Fatalf("got %v, %v; want two", second, err)
	}
	info, err := consumer.Info(t.Context())
	must(t, err)
	if info.NumAckPending != 1 || info.NumWaiting != 0 {
		t.Errorf("%d messages are in hand and %d pulls wait, want 1 and 0", info.NumAckPending, info.NumWaiting)
	}
}

// Pulls that nobody answers are an error from the second on, which costs little time and
// ends with the first answer.
func TestPullsWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	const next = "$JS.API.CONSUMER.MSG.NEXT."
	denied := &server.SubjectPermission{Deny: []string{next + "CRASHES_0.>"}}
	user := &server.User{Username: "test", Password: "test", Permissions: &server.Permissions{Publish: denied}}
	opts := &server.Options{JetStream: true, Users: []*server.User{user}}
	s := startServer(t, opts)
	cfg := queue.Config{URL: "nats://test:test@" + s.Addr().String(), Partitions: 2, Replicas: 1, StreamMaxBytes: 64 << 20, MaxAckPending: 100}
	nc, err := queue.Connect(cfg, "test", zerolog.Nop())
	must(t, err)
	t.Cleanup(nc.Close)
	p := &pulled{}
	p.js, err = jetstream.New(nc)
	must(t, err)
	apply(t, p.js, cfg)
	p.Pullers, err = queue.NewPullers(p.js)
	must(t, err)
	if msg, err := p.next(t, queue.Consumer, 0); msg != nil || err != nil {
		t.Errorf("the first pull: %v, %v, want nothing", msg, err)
	}
	for i := range 10 {
		began := time.Now()
		if msg, err := p.next(t, queue.Consumer, 0); msg != nil || !errors.Is(err, queue.ErrUnanswered) || !strings.Contains(err.Error(), queue.StreamName(0)) {
			t.Fatalf("pull %d: %v, %v, want that there is no answer", i+2, msg, err)
		}
		if took := time.Since(began); i > 0 && took > 500*time.Millisecond {
			t.Errorf("pull %d took %v", i+2, took)
		}
	}
	msg, err := p.Take(t.Context(), func(one *queue.Puller) (jetstream.Msg, error) {
		return one.Next(queue.StreamName(1), queue.Consumer, 0)
	})
	if msg != nil || err != nil {
		t.Errorf("at another stream: %v, %v", msg, err)
	}
	granted := *opts
	granted.Users = []*server.User{{Username: "test", Password: "test"}}
	must(t, s.ReloadOptions(&granted))
	for limit := time.Now().Add(20 * time.Second); ; <-time.After(50 * time.Millisecond) {
		if _, err := p.next(t, queue.Consumer, 0); err == nil {
			break
		}
		if time.Now().After(limit) {
			t.Fatal("the error stays though there is an answer")
		}
	}
}

// line passes connections on, and can hold up what comes from the server.
type line struct {
	address string
	mu      sync.Mutex
	until   time.Time
}

func newLine(t *testing.T, server string) *line {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	l := &line{address: listener.Addr().String()}
	var pumps sync.WaitGroup
	ctx, end := context.WithCancel(t.Context())
	pumps.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			upstream, err := (&net.Dialer{}).DialContext(ctx, "tcp", server)
			if err != nil {
				_ = client.Close()
				return
			}
			context.AfterFunc(ctx, func() { _, _ = client.Close(), upstream.Close() })
			pumps.Go(func() { _, _ = io.Copy(upstream, client); _ = upstream.Close() })
			pumps.Go(func() { _, _ = io.Copy(held{client, l}, upstream); _ = client.Close() })
		}
	})
	t.Cleanup(func() { end(); _ = listener.Close(); pumps.Wait() })
	return l
}

func (l *line) holdFor(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.until = time.Now().Add(d)
}

// held is the client's end of a line.
type held struct {
	net.Conn

	line *line
}

// Write implements io.Writer.
func (h held) Write(p []byte) (int, error) {
	h.line.mu.Lock()
	wait := time.Until(h.line.until)
	h.line.mu.Unlock()
	if wait > 0 {
		<-time.After(wait)
	}
	return h.Conn.Write(p)
}
