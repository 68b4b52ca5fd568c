package queue

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// delivery is a message that a consumer has handed out. It implements jetstream.Msg,
// for which the client library makes its own alone, of those that it has pulled.
// DoubleAck has no timeout but its context's.
type delivery struct{ *nats.Msg }

func (d delivery) Headers() nats.Header { return d.Header }
func (d delivery) Data() []byte         { return d.Msg.Data }
func (d delivery) Subject() string      { return d.Msg.Subject }
func (d delivery) Reply() string        { return d.Msg.Reply }
func (d delivery) Ack() error           { return d.Msg.Ack() }
func (d delivery) Nak() error           { return d.Msg.Nak() }
func (d delivery) InProgress() error    { return d.Msg.InProgress() }
func (d delivery) Term() error          { return d.Msg.Term() }

func (d delivery) NakWithDelay(delay time.Duration) error { return d.Msg.NakWithDelay(delay) }

func (d delivery) DoubleAck(ctx context.Context) error { return d.AckSync(nats.Context(ctx)) }

func (d delivery) TermWithReason(reason string) error { return d.Respond([]byte("+TERM " + reason)) }

func (d delivery) Metadata() (*jetstream.MsgMetadata, error) {
	m, err := d.Msg.Metadata()
	if err != nil {
		return nil, err
	}
	return &jetstream.MsgMetadata{
		Sequence:     jetstream.SequencePair{Consumer: m.Sequence.Consumer, Stream: m.Sequence.Stream},
		NumDelivered: m.NumDelivered, NumPending: m.NumPending, Timestamp: m.Timestamp,
		Stream: m.Stream, Consumer: m.Consumer, Domain: m.Domain,
	}, nil
}
