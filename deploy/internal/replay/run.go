package replay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/yagi-crash/yagi/pkg/queue"
)

const (
	// workers is how many reports are on their way at a time.
	workers = 8
	// keepFor is how long the server remembers how far a replay has come, and
	// keeps its window from being trimmed.
	keepFor = time.Hour
	// liveMost is how many reports may wait for the uploaders; while there are
	// more, the replay leaves the bucket to them.
	liveMost = 100
	// lookEvery is how often that is looked at.
	lookEvery = time.Second
	// touchEvery is well below keepFor.
	touchEvery = 10 * time.Minute
	// pullWait is how long a worker waits for the next report before it looks
	// whether that was the last.
	pullWait = 250 * time.Millisecond
	// askTimeout ends a question to the server.
	askTimeout = 10 * time.Second
)

// Store puts the report of a ready message into the bucket. It waits while the
// bucket takes nothing.
type Store func(ctx context.Context, stream string, header nats.Header, body []byte) error

// Progress is how far a replay has come. It may be read at any time.
type Progress struct {
	Stored, Others, Failed atomic.Uint64
	// Waiting says what is waited for at the moment; nil when nothing is.
	Waiting atomic.Pointer[string]
}

// Run is a plan that is carried out.
type Run struct {
	Plan *Plan
	// Name tells this run from others of the same plan.
	Name    string
	Extents []Extent // what Look found, of every stream
	// Rate is how many reports are stored a second at the most.
	Rate     float64
	Store    Store
	Progress *Progress
	// Failed is called with what could not be stored, and why; by several at once.
	Failed func(what string)

	js        jetstream.JetStream
	limit     *rate.Limiter
	consumers map[string]jetstream.Consumer // by stream
}

// Reports is how many reports there are to store.
func (r *Run) Reports() (n uint64) {
	for _, e := range r.Extents {
		n += e.Reports
	}
	return n
}

// ErrNoRun means that there is no run of that name and plan to go on with.
var ErrNoRun = errors.New("there is no such replay to go on with")

// Hold makes the consumers that keep how far the run has come, and that keep its
// window from being trimmed from now on. It comes before Look.
func (r *Run) Hold(ctx context.Context, js jetstream.JetStream, streams []string) error {
	return r.hold(js, streams, func(stream, name string) (jetstream.Consumer, error) {
		number, _ := queue.PartitionOf(stream)
		return js.CreateConsumer(ctx, stream, jetstream.ConsumerConfig{
			Durable:           name,
			Description:       "A replay by an operator",
			FilterSubject:     queue.ReadySubject(number),
			DeliverPolicy:     jetstream.DeliverByStartTimePolicy,
			OptStartTime:      &r.Plan.Since,
			AckPolicy:         jetstream.AckExplicitPolicy,
			AckWait:           queue.AckWait,
			MaxDeliver:        -1,
			MaxAckPending:     2 * workers,
			InactiveThreshold: keepFor,
		})
	})
}

// GoOn is Hold for a run that was interrupted. The error wraps ErrNoRun when that is
// over, or longer ago than keepFor, or was of another plan.
func (r *Run) GoOn(ctx context.Context, js jetstream.JetStream, streams []string) error {
	return r.hold(js, streams, func(stream, name string) (jetstream.Consumer, error) {
		c, err := js.Consumer(ctx, stream, name)
		if errors.Is(err, jetstream.ErrConsumerNotFound) {
			return nil, fmt.Errorf("%w: %s", ErrNoRun, r.Name)
		}
		return c, err
	})
}

func (r *Run) hold(js jetstream.JetStream, streams []string, get func(stream, name string) (jetstream.Consumer, error)) error {
	name, err := r.Plan.consumer(r.Name)
	if err != nil {
		return err
	}
	r.js, r.consumers = js, map[string]jetstream.Consumer{}
	for _, stream := range streams {
		if r.consumers[stream], err = get(stream, name); err != nil {
			return fmt.Errorf("consumer %s of %s: %w", name, stream, err)
		}
	}
	return nil
}

// Before returns the last message of a stream up to which the run had come when it
// was held.
func (r *Run) Before(stream string) uint64 {
	if c := r.consumers[stream]; c != nil {
		return c.CachedInfo().AckFloor.Stream
	}
	return 0
}

// letGo removes the consumers once all is done.
func (r *Run) letGo(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	for stream, c := range r.consumers {
		name := c.CachedInfo().Name
		if err := r.js.DeleteConsumer(ctx, stream, name); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			return fmt.Errorf("removing consumer %s of %s, which goes by itself after %s: %w", name, stream, keepFor, err)
		}
	}
	return nil
}

// touch keeps the server from removing a consumer that nobody has asked for a
// message for keepFor: one of a stream whose turn has not come, or while live
// traffic comes first.
func (r *Run) touch() {
	for _, c := range r.consumers {
		if batch, err := c.FetchNoWait(1); err == nil {
			for msg := range batch.Messages() {
				_ = msg.Nak() // it is for a worker
			}
		}
	}
}

// Do stores the plan's reports again, one stream after the other, and returns once
// all are stored or have failed. When ctx ends, it returns ctx's error, and the
// same plan goes on where it was left, within an hour (keepFor). Hold comes before
// it.
func (r *Run) Do(ctx context.Context) error {
	r.limit = rate.NewLimiter(rate.Limit(r.Rate), 1)
	r.look(ctx)
	watching, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		for touched := time.Now(); watching.Err() == nil; pause(watching, lookEvery) {
			r.look(watching)
			if time.Since(touched) > touchEvery {
				r.touch()
				touched = time.Now()
			}
		}
	})
	defer watch.Wait()
	defer stop()
	for _, e := range r.Extents {
		if e.Last == 0 {
			continue
		}
		if err := r.stream(ctx, e); err != nil {
			return err
		}
	}
	return r.letGo(ctx)
}

// look has the replay wait while too much waits for the uploaders, or while that
// is not known.
func (r *Run) look(ctx context.Context) {
	if why := r.reason(ctx); why != "" {
		r.Progress.Waiting.Store(&why)
	} else {
		r.Progress.Waiting.Store(nil)
	}
}

// reason says why to wait; it is empty when there is no reason.
func (r *Run) reason(ctx context.Context) string {
	if !r.js.Conn().IsConnected() {
		return "NATS is away"
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var waiting uint64
	paused := false
	for _, e := range r.Extents {
		c, err := r.js.Consumer(ctx, e.Stream, queue.Consumer)
		if err != nil {
			return fmt.Sprintf("how many wait for uploaders in %s is not known: %v", e.Stream, err)
		}
		waiting += c.CachedInfo().NumPending
		paused = paused || c.CachedInfo().Paused
	}
	switch {
	case waiting <= liveMost:
		return ""
	case paused:
		return fmt.Sprintf("uploads are paused, and %d reports come first", waiting)
	}
	return fmt.Sprintf("uploaders come first, for whom %d reports wait", waiting)
}

// stream replays the extent of one stream.
func (r *Run) stream(ctx context.Context, e Extent) error {
	pullers, err := queue.NewPullers(r.js)
	if err != nil {
		return err
	}
	s := &replaying{Run: r, extent: e, reader: queue.NewReader(r.js), consumer: r.consumers[e.Stream], pullers: pullers}
	group, working := errgroup.WithContext(ctx)
	for range workers {
		group.Go(func() error { return s.work(working) })
	}
	return errors.Join(group.Wait(), pullers.Close())
}

// replaying is a stream that is being replayed.
type replaying struct {
	*Run

	extent   Extent
	reader   *queue.Reader
	consumer jetstream.Consumer
	pullers  *queue.Pullers
	past     atomic.Bool // a message behind the window was seen
}

// work takes one report after another until all are acknowledged.
func (r *replaying) work(ctx context.Context) error {
	for ctx.Err() == nil {
		if r.Progress.Waiting.Load() != nil || r.past.Load() {
			pause(ctx, lookEvery)
		}
		if r.Progress.Waiting.Load() != nil {
			continue
		}
		msg, err := r.next(ctx)
		if msg != nil {
			r.handle(ctx, msg)
			if !r.past.Load() {
				continue
			}
		}
		if done, err := r.done(ctx); done || gone(err) {
			return err
		}
		if err != nil { // the queue is away, and comes back
			pause(ctx, lookEvery)
		}
	}
	return context.Cause(ctx)
}

// next returns a message, or nil when there is none at the moment.
func (r *replaying) next(ctx context.Context) (jetstream.Msg, error) {
	if !r.js.Conn().IsConnected() {
		return nil, nats.ErrDisconnected
	}
	msg, err := r.pullers.Take(ctx, func(p *queue.Puller) (jetstream.Msg, error) {
		return p.Next(r.extent.Stream, r.consumer.CachedInfo().Name, pullWait)
	})
	if msg != nil && ctx.Err() != nil {
		_ = msg.Nak()
		return nil, ctx.Err()
	}
	return msg, err
}

// gone tells whether the consumer is no more, and with it how far the replay had
// come.
func gone(err error) bool {
	return errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound)
}

// done tells whether everything up to the window's last message is acknowledged.
func (r *replaying) done(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	info, err := r.consumer.Info(ctx)
	if err != nil {
		return false, fmt.Errorf("asking consumer %s of %s: %w", r.consumer.CachedInfo().Name, r.extent.Stream, err)
	}
	return info.AckFloor.Stream >= r.extent.Last || info.NumPending == 0 && info.NumAckPending == 0, nil
}

// handle stores a report if it is one of the plan's, and acknowledges it.
func (r *replaying) handle(ctx context.Context, msg jetstream.Msg) {
	letGo := queue.Keep(msg, queue.InProgressEvery)
	defer letGo()
	meta, err := msg.Metadata()
	if err == nil && meta.Sequence.Stream <= r.extent.Last {
		err = r.replay(ctx, msg, meta.Sequence.Stream)
	} else {
		r.past.Store(true)
	}
	if err != nil { // the end, or the queue is away
		_ = msg.NakWithDelay(lookEvery)
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTimeout)
	defer cancel()
	_ = msg.DoubleAck(ctx) // it comes again, and is stored again
}

func (r *replaying) replay(ctx context.Context, msg jetstream.Msg, seq uint64) error {
	ok, err := r.Plan.chosen(ctx, r.reader, r.extent.Stream, msg.Headers(), msg.Data())
	if err == nil && !ok {
		r.Progress.Others.Add(1)
		return nil
	}
	if err == nil {
		if err = r.limit.Wait(ctx); err == nil {
			err = r.Store(ctx, r.extent.Stream, msg.Headers(), msg.Data())
		}
	}
	switch {
	case err == nil:
		r.Progress.Stored.Add(1)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case !ok && !errors.Is(err, queue.ErrDamaged) && !errors.Is(err, queue.ErrIncomplete):
		return err // it could not be read to see whether it fits
	default:
		r.Progress.Failed.Add(1)
		r.Failed(fmt.Sprintf("message %d of %s: %v", seq, r.extent.Stream, err))
	}
	return nil
}

// pause returns after d, or when ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
