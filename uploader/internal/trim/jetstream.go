package trim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/yagi-crash/yagi/pkg/queue"
)

// JetStream is a partition's stream on the server.
type JetStream struct {
	js        jetstream.JetStream
	reader    *queue.Reader
	partition int
	cfg       queue.Config

	stream jetstream.Stream // that was last viewed,
	viewed time.Time        // and when it was created
	// What the last look at the first pending report was about, and found.
	created time.Time
	floor   uint64
	pending *queue.Stored
}

// NewJetStream returns partition p's stream, which cfg says how it must be. It must not
// be used by two goroutines at once.
func NewJetStream(js jetstream.JetStream, reader *queue.Reader, p int, cfg queue.Config) *JetStream {
	return &JetStream{js: js, reader: reader, partition: p, cfg: cfg}
}

// View implements Stream. It is an error when a consumer cannot be asked.
func (s *JetStream) View(ctx context.Context) (View, error) {
	name := queue.StreamName(s.partition)
	stream, err := s.js.Stream(ctx, name)
	if err != nil {
		return View{}, fmt.Errorf("looking at stream %s: %w", name, err)
	}
	asked := time.Now()
	found, err := queue.Inspect(ctx, s.js, s.partition, s.cfg)
	if err != nil {
		return View{}, err
	}
	info := found.Stream
	limits, err := info.Limits()
	if err != nil {
		return View{}, err
	}
	s.stream, s.viewed = stream, info.Created
	v := View{
		Asked: asked, Answered: time.Now(), Server: info.Server, Created: info.Created,
		First: info.State.FirstSeq, Last: info.State.LastSeq, FirstAt: info.State.FirstTime, LastAt: info.State.LastTime,
		Messages: info.State.Msgs, Bytes: info.State.Bytes, MaxBytes: limits.MaxBytes,
		Unsafe: queue.Unsafe(found.Differences),
	}
	uploaders, err := v.ask(ctx, stream)
	if err != nil {
		return View{}, fmt.Errorf("looking at the consumers of %s: %w", name, err)
	}
	if err := s.askHeld(ctx, &v, info.Config); err != nil {
		return View{}, err
	}
	if v.Pending, err = s.firstPending(ctx, info.Created, uploaders); err != nil {
		return View{}, fmt.Errorf("looking for the oldest report in %s: %w", name, err)
	}
	return v, nil
}

// ask asks every durable consumer how far it is, and returns how far the
// uploaders are. Consumers are asked one by one, since a list of them all leaves
// those out that do not answer.
func (v *View) ask(ctx context.Context, stream jetstream.Stream) (uploaders uint64, err error) {
	v.Idle = true
	found := false
	names := stream.ConsumerNames(ctx)
	for name := range names.Name() {
		info, err := infoOf(ctx, stream, name)
		if errors.Is(err, jetstream.ErrConsumerNotFound) {
			continue // it has gone since; the uploaders' is missed below
		}
		if err != nil {
			return 0, fmt.Errorf("consumer %s: %w", name, err)
		}
		if info.Config.Durable == "" {
			continue
		}
		floor := info.AckFloor.Stream
		if v.FloorOf == "" || floor < v.Floor || floor == v.Floor && name == queue.Consumer {
			v.Floor, v.FloorOf = floor, name
		}
		if name == queue.Consumer {
			found, uploaders = true, floor
		}
		v.Idle = v.Idle && info.NumPending == 0 && info.NumAckPending == 0
	}
	if err := names.Err(); err != nil {
		return 0, err
	}
	if !found {
		return 0, fmt.Errorf("consumer %s: %w", queue.Consumer, jetstream.ErrConsumerNotFound)
	}
	return uploaders, nil
}

// askHeld lowers the floor below the first report that is held. Where references may be
// lost, what is acknowledged is no evidence. It comes after the consumers were asked: what
// is acknowledged to one because it is held was held before. config is the live one of the
// stream.
func (s *JetStream) askHeld(ctx context.Context, v *View, config json.RawMessage) error {
	found, err := queue.InspectHeldOf(ctx, s.js, s.cfg, s.partition)
	if errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrConsumerNotFound) {
		v.Unsafe = append(v.Unsafe, queue.Difference{
			On: "stream " + queue.HeldStream, Field: "state", Live: "missing, or without its consumer", Want: "present", Unsafe: true,
		})
		return nil
	}
	if err != nil {
		return err
	}
	v.Unsafe = append(v.Unsafe, queue.Unsafe(found.Differences)...)
	v.Unsafe = append(v.Unsafe, queue.CheckGeneration(queue.StreamName(s.partition), config, found.Stream)...)
	for _, h := range found.Held {
		if h.Sequence < v.First || h.Stored.Before(v.Created) { // of another stream of that name, or lost
			continue
		}
		v.Held = h.Stored
		if floor := h.Sequence - 1; floor < v.Floor {
			v.Floor, v.FloorOf = floor, queue.HeldStream
		}
		return nil // the others come after it
	}
	return nil
}

// infoOf asks a consumer of any kind; the client library tells pull from push
// consumers, and gives either only when asked for it.
func infoOf(ctx context.Context, stream jetstream.Stream, name string) (*jetstream.ConsumerInfo, error) {
	c, err := stream.Consumer(ctx, name)
	if err == nil {
		return c.CachedInfo(), nil
	}
	if !errors.Is(err, jetstream.ErrNotPullConsumer) {
		return nil, err
	}
	push, err := stream.PushConsumer(ctx, name)
	if err != nil {
		return nil, err
	}
	return push.CachedInfo(), nil
}

// firstPending looks for the first ready message above the uploaders' floor. As
// long as that does not move, what was found before is still right, and a whole
// message need not come over the wire again.
func (s *JetStream) firstPending(ctx context.Context, created time.Time, floor uint64) (*queue.Stored, error) {
	if s.pending != nil && s.floor == floor && s.created.Equal(created) {
		return s.pending, nil
	}
	pending, err := s.reader.NextReady(ctx, s.partition, floor+1)
	if err != nil {
		return nil, err
	}
	s.created, s.floor, s.pending = created, floor, pending
	return pending, nil
}

// Since implements Stream.
func (s *JetStream) Since(ctx context.Context, t time.Time) (*queue.Stored, error) {
	return s.reader.Since(ctx, queue.StreamName(s.partition), t)
}

// Purge implements Stream, after a View, and refuses when the stream has been made
// anew since. It removes whole ranges and names no subject: only so the server
// drops its files instead of rewriting them (measured on nats-server 2.15.2).
func (s *JetStream) Purge(ctx context.Context, upTo uint64) error {
	now, err := s.stream.Info(ctx)
	if err != nil {
		return err
	}
	if !now.Created.Equal(s.viewed) {
		return errors.New("the stream has been made anew")
	}
	return s.stream.Purge(ctx, jetstream.WithPurgeSequence(upTo+1))
}
