package scan

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/yagi-crash/yagi/pkg/devstack/devnats"
)

const stream = "TEST"

// fill makes a stream with so many messages.
func fill(t *testing.T, messages int) jetstream.JetStream {
	t.Helper()
	server, err := devnats.Start(t.Context(), devnats.Config{Addr: "127.0.0.1:0", Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	nc, err := nats.Connect(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: stream, Subjects: []string{"a", "b"}, MaxBytes: 10 << 20}); err != nil {
		t.Fatal(err)
	}
	for range messages {
		publish(t, js, "a")
	}
	return js
}

func publish(t *testing.T, js jetstream.JetStream, subject string) {
	t.Helper()
	if _, err := js.Publish(t.Context(), subject, []byte("body")); err != nil {
		t.Fatal(err)
	}
}

// consumer is the one that a scan reads through.
func consumer(t *testing.T, js jetstream.JetStream) jetstream.Consumer {
	t.Helper()
	s, err := js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	name := <-s.ConsumerNames(t.Context()).Name()
	c, err := js.Consumer(t.Context(), stream, name)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Each message is visited once and in order, whatever is lost on the way: messages
// that were sent and did not arrive, or the consumer itself.
func TestEachMissesNothing(t *testing.T) {
	js := fill(t, headersAtOnce+200)
	var next uint64
	err := Each(t.Context(), js, stream, Window{Subject: "a", HeadersOnly: true}, func(m *Message) error {
		next++
		if m.Sequence != next || m.Data != nil || m.Size != 4 {
			t.Errorf("message %d came with %d bytes of %d, want %d", m.Sequence, len(m.Data), m.Size, next)
		}
		switch next {
		case 10: // some of the next ones go elsewhere
			batch, err := consumer(t, js).Fetch(3)
			if err != nil {
				return err
			}
			for range batch.Messages() {
			}
		case headersAtOnce + 10:
			return js.DeleteConsumer(t.Context(), stream, consumer(t, js).CachedInfo().Name)
		}
		return nil
	})
	if err != nil || next != headersAtOnce+200 {
		t.Errorf("%d messages, %v", next, err)
	}
}

// It ends with what was the last message when it began, and at the window's end.
func TestEachEnds(t *testing.T) {
	js := fill(t, 5)
	seen := 0
	visit := func(*Message) error {
		seen++
		publish(t, js, "a")
		return nil
	}
	if err := Each(t.Context(), js, stream, Window{Subject: "a"}, visit); err != nil || seen != 5 {
		t.Errorf("%d messages, %v, want the 5 that there were", seen, err)
	}
	seen = 0
	if err := Each(t.Context(), js, stream, Window{Subject: "a", Until: time.Now().Add(-time.Hour)}, visit); err != nil || seen != 0 {
		t.Errorf("%d messages of another time, %v", seen, err)
	}
	if err := Each(t.Context(), js, stream, Window{Subject: "b"}, visit); err != nil || seen != 0 {
		t.Errorf("%d messages of another subject, %v", seen, err)
	}
	mine := errors.New("mine")
	if err := Each(t.Context(), js, stream, Window{Subject: "a"}, func(*Message) error { return mine }); !errors.Is(err, mine) {
		t.Errorf("it ends with %v", err)
	}
	if err := Each(t.Context(), js, "OTHER", Window{Subject: "a"}, visit); err == nil {
		t.Error("a stream that is not there was read")
	}
}
