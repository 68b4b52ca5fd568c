package intake

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/yagi-crash/yagi/pkg/queue"
)

const (
	// streamsEvery is how often the streams are looked at: for about so long
	// reports are promised to one that became unsafe.
	streamsEvery = 5 * time.Second
	// lookTimeout ends one look at one stream.
	lookTimeout = 2 * time.Second
)

// errUnsafe means that a stream is so different from what it should be that it could
// lose what it has acknowledged.
var errUnsafe = errors.New("the stream could lose reports")

// look returns an error that wraps errUnsafe, or says why it is not known whether
// partition p has a stream that reports may be promised to.
func (q *jetStreamQueue) look(ctx context.Context, p int, cfg queue.Config) error {
	if !q.nc.IsConnected() {
		return errors.New("not connected to NATS") // nats.go would speak of its buffer
	}
	stream, err := q.js.Stream(ctx, queue.StreamName(p))
	if err != nil {
		return fmt.Errorf("looking at stream %s: %w", queue.StreamName(p), err)
	}
	for _, d := range queue.Unsafe(queue.CheckStream(queue.StreamConfig(p, cfg), stream.CachedInfo().Config)) {
		return fmt.Errorf("%w: %s", errUnsafe, d)
	}
	return nil
}

// checkStreams tells whether every partition has such a stream.
func (q *jetStreamQueue) checkStreams(ctx context.Context, cfg queue.Config) error {
	for p := range q.partitions {
		if err := q.look(ctx, p, cfg); err != nil {
			return err
		}
	}
	return nil
}

// watchStreams keeps knowing which partitions are unsafe, until it is stopped. What
// cannot be asked stays as it was.
func (q *jetStreamQueue) watchStreams(ctx context.Context, cfg queue.Config) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) // what is in hand at the end is published too
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			unsafe := map[int]error{}
			for p := range q.partitions {
				look, end := context.WithTimeout(ctx, lookTimeout)
				err := q.look(look, p, cfg)
				end()
				switch {
				case errors.Is(err, errUnsafe):
					unsafe[p] = err
				case err != nil && q.unsafeOf(p) != nil:
					unsafe[p] = q.unsafeOf(p)
				}
			}
			q.unsafe.Store(&unsafe)
			if !sleep(ctx, streamsEvery) {
				return
			}
		}
	}()
	return func() { cancel(); <-done }
}

// unsafeOf says why nothing may be promised to partition p, as far as is known.
func (q *jetStreamQueue) unsafeOf(p int) error {
	if unsafe := q.unsafe.Load(); unsafe != nil {
		return (*unsafe)[p]
	}
	return nil
}
