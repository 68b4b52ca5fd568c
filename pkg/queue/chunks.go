package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ErrServerChanged means that the stream was re-created or purged, or that its server
// restarted, while a report was copied in chunks: what it had acknowledged may be gone, and
// its sequences may be those of other messages. The copy can be begun again.
var ErrServerChanged = errors.New("the stream was re-created or purged, or its server restarted")

// chunks are those of a report that is being copied into a stream, from before the first
// of them to after its ready message.
type chunks struct {
	began   time.Time
	server  string                // ConnectedServerId at that time
	stream  *jetstream.StreamInfo // as it was then
	lowest  uint64                // sequence; 0 before the first
	streams jetstream.JetStream
}

// begin is called before the first chunk is published.
func (c *Copier) begin(ctx context.Context, stream string) (*chunks, error) {
	began, server := time.Now(), c.js.Conn().ConnectedServerId()
	s, err := c.js.Stream(ctx, stream)
	if err != nil {
		return nil, fmt.Errorf("looking at stream %s: %w", stream, err)
	}
	return &chunks{began: began, server: server, stream: s.CachedInfo(), streams: c.js}, nil
}

// see takes the sequence of a chunk.
func (c *chunks) see(seq uint64) {
	if c.lowest == 0 || seq < c.lowest {
		c.lowest = seq
	}
}

// intact returns nil when the chunks must still be in the stream, and its ready message
// comes, or came, in time.
func (c *chunks) intact(ctx context.Context) error {
	if c.streams.Conn().ConnectedServerId() != c.server {
		return ErrServerChanged
	}
	s, err := c.streams.Stream(ctx, c.stream.Config.Name)
	if err != nil {
		return fmt.Errorf("looking at stream %s: %w", c.stream.Config.Name, err)
	}
	now := s.CachedInfo()
	if !now.Created.Equal(c.stream.Created) || c.lowest != 0 && now.State.FirstSeq > c.lowest || now.State.NumDeleted > c.stream.State.NumDeleted {
		return ErrServerChanged
	}
	return InTime(c.began)
}

// commit publishes the ready message of a copy, whose chunks, if it has any, must be there
// before and after. After an error it may be there without some of them.
func (c *Copier) commit(ctx context.Context, msg *nats.Msg, stream string, chunks *chunks, opts ...jetstream.PublishOpt) error {
	if chunks != nil {
		if err := chunks.intact(ctx); err != nil {
			return err
		}
	}
	if _, err := c.publish(ctx, msg, stream, opts...); err != nil || chunks == nil {
		return err
	}
	return chunks.intact(ctx)
}
