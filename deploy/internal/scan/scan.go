// Package scan reads through a stream, from the first message to what was the
// last one when it began.
package scan

import (
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
	// Left is how many messages came after this one when it was read, also those
	// that are not within the window's Until.
	Left uint64
}

// headerSize is the server's header with the size of a body that it left out.
const headerSize = "Nats-Msg-Size"

// silence is how long the server may take for the next message.
const silence = 10 * time.Second

// Each calls visit with each message of the window, in order, and returns the
// first error that visit returns, or one about reaching the stream. Messages that
// are trimmed meanwhile are left out.
func Each(ctx context.Context, js jetstream.JetStream, stream string, w Window, visit func(*Message) error) error {
	cfg := jetstream.ConsumerConfig{
		FilterSubject:     w.Subject,
		DeliverPolicy:     jetstream.DeliverAllPolicy,
		AckPolicy:         jetstream.AckNonePolicy,
		HeadersOnly:       w.HeadersOnly,
		InactiveThreshold: time.Minute,
		MemoryStorage:     true,
	}
	if !w.Since.IsZero() {
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &w.Since
	}
	consumer, err := js.CreateConsumer(ctx, stream, cfg)
	if err != nil {
		return fmt.Errorf("reading %s: %w", stream, err)
	}
	info := consumer.CachedInfo()
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = js.DeleteConsumer(ctx, stream, info.Name) // the server does so after a minute
	}()
	r := reader{consumer: consumer, window: w, left: info.NumPending}
	for r.left > 0 {
		more, err := r.batch(ctx, visit)
		if err != nil || !more {
			return err
		}
	}
	return nil
}

const (
	// headersAtOnce and bodiesAtOnce are how many messages are asked for at a
	// time: bodies can be megabytes each.
	headersAtOnce = 500
	bodiesAtOnce  = 4
)

type reader struct {
	consumer jetstream.Consumer
	window   Window
	left     uint64
}

// batch reads some messages; more is false after the last one. Only when all are
// here are they visited, which may take its time.
func (r *reader) batch(ctx context.Context, visit func(*Message) error) (more bool, err error) {
	found, err := r.fetch(ctx)
	if err != nil {
		return false, err
	}
	for _, msg := range found {
		r.left--
		m, err := message(msg)
		if err != nil {
			return false, fmt.Errorf("reading a message: %w", err)
		}
		if !r.window.Until.IsZero() && !m.Time.Before(r.window.Until) {
			return false, nil
		}
		m.Left = r.left
		if err := visit(m); err != nil {
			return false, err
		}
	}
	return len(found) > 0, nil
}

func (r *reader) fetch(ctx context.Context) ([]jetstream.Msg, error) {
	size := bodiesAtOnce
	if r.window.HeadersOnly {
		size = headersAtOnce
	}
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	batch, err := r.consumer.Fetch(min(size, int(r.left)), jetstream.FetchContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("asking for messages: %w", err)
	}
	var found []jetstream.Msg
	for msg := range batch.Messages() {
		found = append(found, msg)
	}
	if len(found) > 0 {
		return found, nil
	}
	return nil, r.ended(ctx, batch.Error())
}

// ended returns nil when there is nothing more to read, since the rest was
// trimmed meanwhile, and otherwise why nothing came.
func (r *reader) ended(ctx context.Context, why error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), silence)
	defer cancel()
	info, err := r.consumer.Info(ctx)
	if err == nil && info.NumPending == 0 {
		return nil
	}
	return errors.Join(errors.New("no message came"), why, err)
}

func message(msg jetstream.Msg) (*Message, error) {
	meta, err := msg.Metadata()
	if err != nil {
		return nil, err
	}
	m := &Message{
		Sequence: meta.Sequence.Stream, Time: meta.Timestamp, Subject: msg.Subject(),
		Header: msg.Headers(), Data: msg.Data(), Size: int64(len(msg.Data())),
	}
	if size := m.Header.Get(headerSize); size != "" { // with HeadersOnly
		if _, err := fmt.Sscan(size, &m.Size); err != nil {
			return nil, fmt.Errorf("reading %s: %w", headerSize, err)
		}
		m.Data = nil
	}
	return m, nil
}
