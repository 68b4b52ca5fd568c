// Package scan reads through a stream, from the first message to what was the
// last one when it began.
package scan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Window says which messages of a stream are read.
type Window struct {
	Subject string // may have wildcards
	// Since and Until bound when they were stored, on the server's clock: Since
	// itself is within, Until is not. A zero time bounds nothing.
	Since, Until time.Time
	// After is the sequence behind which it begins, whatever Since says; 0 bounds
	// nothing.
	After uint64
	// HeadersOnly leaves the bodies out; Message.Size still counts them.
	HeadersOnly bool
}

// Message is a message of a stream.
type Message struct {
	Sequence uint64
	Time     time.Time // when it was stored, on the server's clock
	Subject  string
	Header   nats.Header
	Data     []byte // nil with HeadersOnly
	Size     int64  // of the body, bytes
	// Left is how many messages came after this one when it was sent, also those
	// that are not within the window's Until.
	Left uint64
}

// headerSize is the server's header with the size of a body that it left out.
const headerSize = "Nats-Msg-Size"

const (
	// headersAtOnce and bodiesAtOnce are how many messages are asked for at a
	// time: bodies can be megabytes each, and lines slow.
	headersAtOnce = 500
	bodiesAtOnce  = 1
	// silence is how long the server may take for them.
	silence = 30 * time.Second
	// tries is how often it is asked again from where it got to, without getting
	// any further.
	tries = 3
)

// Each calls visit with each message of the window, in order, and returns the
// first error that visit returns, or one about reaching the stream. Messages that
// are trimmed meanwhile are left out, and no other. It leaves nothing on the
// server: its consumers are gone within minutes if it cannot say so.
func Each(ctx context.Context, js jetstream.JetStream, stream string, w Window, visit func(*Message) error) error {
	s, err := js.Stream(ctx, stream)
	if err != nil {
		return fmt.Errorf("reading %s: %w", stream, err)
	}
	r := &reader{js: js, stream: stream, window: w, visit: visit, last: s.CachedInfo().State.LastSeq, at: w.After}
	for failures := 0; failures < tries; failures++ {
		before := r.at
		var done bool
		if done, err = r.pass(ctx); done || ctx.Err() != nil || errors.As(err, new(*visitError)) {
			break
		}
		if r.at > before {
			failures = -1
		}
	}
	if v := (*visitError)(nil); errors.As(err, &v) {
		return v.error
	}
	if err != nil {
		return fmt.Errorf("reading %s: %w", stream, cmp.Or(ctx.Err(), err))
	}
	return nil
}

// visitError is what visit returned.
type visitError struct{ error }

type reader struct {
	js     jetstream.JetStream
	stream string
	window Window
	visit  func(*Message) error
	last   uint64 // sequence of the stream's last message when it began
	at     uint64 // sequence of the last message that was visited, or Window.After
}

// errShort means that messages were lost on the way, for example with a connection.
var errShort = errors.New("messages did not arrive")

// pass reads on with a consumer of its own; done is false when it did not get to the
// end.
func (r *reader) pass(ctx context.Context) (done bool, err error) {
	cfg := jetstream.ConsumerConfig{
		FilterSubject:     r.window.Subject,
		DeliverPolicy:     jetstream.DeliverAllPolicy,
		AckPolicy:         jetstream.AckNonePolicy,
		HeadersOnly:       r.window.HeadersOnly,
		InactiveThreshold: 5 * time.Minute,
		MemoryStorage:     true,
	}
	switch {
	case r.at > 0:
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, r.at+1
	case !r.window.Since.IsZero():
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &r.window.Since
	}
	consumer, err := r.js.CreateConsumer(ctx, r.stream, cfg)
	if err != nil {
		return false, err
	}
	info := consumer.CachedInfo()
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = r.js.DeleteConsumer(ctx, r.stream, info.Name) // the server does so by itself
	}()
	if info.NumPending == 0 {
		return true, nil
	}
	for delivered := uint64(0); ; {
		batch, err := r.fetch(ctx, consumer)
		if err != nil {
			return false, err
		}
		for _, msg := range batch {
			meta, err := msg.Metadata()
			if err != nil {
				return false, err
			}
			if delivered++; meta.Sequence.Consumer != delivered { // nobody sends again what was lost
				return false, errShort
			}
			if done, err := r.see(msg, meta); done || err != nil {
				return done, err
			}
		}
	}
}

// see visits a message; done is whether it was the last.
func (r *reader) see(msg jetstream.Msg, meta *jetstream.MsgMetadata) (done bool, err error) {
	m, err := message(msg, meta)
	if err != nil {
		return false, err
	}
	if m.Sequence > r.last || !r.window.Until.IsZero() && !m.Time.Before(r.window.Until) {
		return true, nil
	}
	if err := r.visit(m); err != nil {
		return true, &visitError{err}
	}
	r.at = m.Sequence
	return m.Left == 0, nil
}

// fetch returns some messages: only when all are here are they visited, which may
// take its time.
func (r *reader) fetch(ctx context.Context, c jetstream.Consumer) ([]jetstream.Msg, error) {
	size := bodiesAtOnce
	if r.window.HeadersOnly {
		size = headersAtOnce
	}
	asking, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	batch, err := c.FetchNoWait(size)
	if err != nil {
		return nil, fmt.Errorf("asking for messages: %w", err)
	}
	var found []jetstream.Msg
	for {
		select {
		case msg, ok := <-batch.Messages():
			if ok {
				found = append(found, msg)
				continue
			}
			if len(found) == 0 {
				return nil, errors.Join(errShort, batch.Error())
			}
			return found, nil
		case <-asking.Done():
			return found, errors.Join(errShort, ctx.Err())
		}
	}
}

func message(msg jetstream.Msg, meta *jetstream.MsgMetadata) (*Message, error) {
	m := &Message{
		Sequence: meta.Sequence.Stream, Time: meta.Timestamp, Subject: msg.Subject(),
		Header: msg.Headers(), Data: msg.Data(), Size: int64(len(msg.Data())), Left: meta.NumPending,
	}
	if size := m.Header.Get(headerSize); size != "" { // with HeadersOnly
		if _, err := fmt.Sscan(size, &m.Size); err != nil {
			return nil, fmt.Errorf("reading %s: %w", headerSize, err)
		}
		m.Data = nil
	}
	return m, nil
}
