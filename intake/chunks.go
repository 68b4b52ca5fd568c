package intake

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/yagi-crash/yagi/intake/internal/breakpad"
	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/queue"
)

const (
	// chunksOfOne is how many chunks of one report are in flight at a time, at most.
	chunksOfOne = 4
	// chunksAtOnce is the same of all reports. The server writes one message after the
	// other, so more would cost memory here and there, and save no time.
	chunksAtOnce = 8
	// chunksOfYield is how many chunks a compressed report reads before others may have its
	// decoder. Reading on costs decompressing it from its beginning.
	chunksOfYield = 16
)

var (
	// errGiveUp means that another attempt would come to the same.
	errGiveUp = errors.New("giving up")
	// errAnew means that the stream was made anew, or somebody removed messages from
	// it, or its server was restarted and may have, and that chunks which it had
	// acknowledged went with that.
	errAnew = errors.New("the stream was made anew or purged, or its server restarted")
	// errNotSeen means that it is not known at the moment which stream there is.
	errNotSeen = errors.New("the stream cannot be looked at")
)

// chunked is a report on its way in chunks.
type chunked struct {
	q      *jetStreamQueue
	report *crash.Sealed
	size   int // of a chunk, bytes
	// inFlight has one entry for each chunk that waits for its ack.
	inFlight chan struct{}
	patience *patience
	read     int // chunks since the last yield

	partition int                   // where acked lie
	began     time.Time             // before the first of acked
	server    string                // ConnectedServerId of the connection that acked came over
	stream    *jetstream.StreamInfo // that acked lie in, as it was before the first of them
	// acked are the stream sequences of the chunks, 0 where there is none yet.
	acked []uint64
}

// publishChunked publishes a report that does not fit one message. All chunks
// lie in one partition, the ready message behind them.
func (q *jetStreamQueue) publishChunked(ctx context.Context, s *crash.Sealed) error {
	ctx, patience := newPatience(ctx, q.timeout)
	defer patience.close()
	release := func() {}
	err := patience.during(ctx, func(ctx context.Context) (err error) {
		release, err = breakpad.Hold(ctx, s, false)
		return err
	})
	if err != nil {
		return crash.Unavailable(err)
	}
	defer release()
	defer q.metrics.publishing(time.Now())
	c := chunked{q: q, report: s, size: q.chunkLimit(), inFlight: make(chan struct{}, chunksOfOne), patience: patience, partition: -1}
	return q.offer(ctx, queue.Partition(s.ID, q.partitions), c.send)
}

// send publishes what partition p has not acknowledged yet: first the chunks,
// then, once it has them all, the ready message.
func (c *chunked) send(ctx context.Context, p int) (heard bool, err error) {
	if p != c.partition || c.moved() {
		if err := c.begin(ctx, p); err != nil {
			return false, err
		}
	}
	before := slices.Clone(c.acked)
	err = c.sendChunks(ctx)
	heard = !slices.Equal(before, c.acked)
	if err == nil {
		err = c.sendReady(ctx)
	}
	if errors.Is(err, errAnew) {
		c.partition = -1 // the next attempt begins with the first chunk
	}
	return heard, err
}

// begin turns to partition p, which has nothing yet.
func (c *chunked) begin(ctx context.Context, p int) error {
	server := c.q.nc.ConnectedServerId()
	stream, err := c.q.info(ctx, p)
	if err != nil {
		return err
	}
	chunks := (c.report.Size() + int64(c.size) - 1) / int64(c.size)
	c.partition, c.began, c.acked = p, time.Now(), make([]uint64, chunks)
	c.server, c.stream = server, stream
	return nil
}

// info returns what the leader of a partition's stream says of it.
func (q *jetStreamQueue) info(ctx context.Context, p int) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	stream, err := q.js.Stream(ctx, queue.StreamName(p))
	if err != nil {
		return nil, fmt.Errorf("%w: asking for %s: %w", errNotSeen, queue.StreamName(p), err)
	}
	return stream.CachedInfo(), nil
}

// holds tells whether the chunks must still be in the stream: it is the same one,
// and not one whose sequences mean other messages; and nothing went from it but
// what lay before them. The trimmer takes nothing so young.
func (c *chunked) holds(now *jetstream.StreamInfo) bool {
	return !c.moved() && now.Created.Equal(c.stream.Created) && now.State.FirstSeq <= slices.Min(c.acked) &&
		now.State.NumDeleted <= c.stream.State.NumDeleted
}

// moved tells whether the connection is to another run of a server. That one may be
// without the last of what the other had acknowledged, if its disk kept less than it
// said, and have given their sequences to other messages.
func (c *chunked) moved() bool {
	now := c.q.nc.ConnectedServerId() // empty while there is no connection
	return now != "" && now != c.server
}

// sendReady publishes the ready message, which lists the chunks, and makes sure that
// they are in its own stream. The stream and the first chunk are part of its Msg-Id, so
// that the server does not take it for one that was published before with other chunks.
func (c *chunked) sendReady(ctx context.Context) error {
	if c.moved() {
		return errAnew
	}
	if err := c.inTime(); err != nil {
		return err
	}
	msg, err := queue.EncodeChunked(c.report, c.acked)
	if err != nil {
		return fmt.Errorf("%w: %w", errGiveUp, err)
	}
	msg.Subject = queue.ReadySubject(c.partition)
	id := fmt.Sprintf("%s-%x-%x", msg.Header.Get(queue.HeaderMsgID), c.stream.Created.UnixNano(), c.acked[0])
	msg.Header.Set(queue.HeaderMsgID, id)
	if _, err := c.q.attempt(ctx, msg, c.partition); err != nil {
		return err
	}
	now, err := c.q.info(ctx, c.partition)
	switch {
	case err != nil:
		return err
	case !c.holds(now):
		return errAnew
	}
	return c.inTime()
}

// sendChunks publishes the chunks that have no ack. A chunk whose ack was lost is
// published again; nobody reads the first one.
func (c *chunked) sendChunks(ctx context.Context) error {
	var group errgroup.Group
	var failed atomic.Bool
	for i, seq := range c.acked {
		if seq != 0 {
			continue
		}
		c.inFlight <- struct{}{}
		if failed.Load() {
			<-c.inFlight
			break
		}
		chunk, release, err := c.next(ctx, i)
		if err != nil {
			<-c.inFlight
			return errors.Join(err, group.Wait())
		}
		group.Go(func() error {
			defer func() { <-c.inFlight }()
			defer release()
			ack, err := c.q.attempt(ctx, &nats.Msg{Subject: queue.ChunkSubject(c.partition), Data: chunk}, c.partition)
			if err != nil {
				failed.Store(true)
				return err
			}
			c.acked[i] = ack.Sequence
			return nil
		})
	}
	return group.Wait()
}

// next waits for a buffer and a slot for chunk i, and reads it.
func (c *chunked) next(ctx context.Context, i int) (chunk []byte, release func(), err error) {
	at := int64(i) * int64(c.size)
	size := min(int64(c.size), c.report.Size()-at)
	err = c.patience.during(ctx, func(ctx context.Context) (err error) {
		if c.read++; c.read > chunksOfYield {
			c.read = 1
			if err := breakpad.Yield(ctx, c.report); err != nil {
				return err
			}
		}
		chunk, release, err = c.q.acquireChunk(ctx, size)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	chunk = chunk[:size]
	if _, err := c.report.ReadAt(chunk, at); err != nil {
		release()
		return nil, nil, fmt.Errorf("%w: %w", errGiveUp, err)
	}
	return chunk, release, nil
}

// acquireChunk waits for a buffer, and until a chunk of size bytes may be in flight.
// Buffers go to reports in order of arrival, one chunk at a time, so that all reports
// progress at the same pace however large they are.
func (q *jetStreamQueue) acquireChunk(ctx context.Context, size int64) (buf []byte, release func(), err error) {
	select {
	case buf = <-q.chunks:
	case <-ctx.Done():
		return nil, nil, fmt.Errorf("waiting to publish a chunk: %w", ctx.Err())
	}
	done, err := q.acquire(ctx, size)
	if err != nil {
		q.chunks <- buf
		return nil, nil, err
	}
	if buf == nil {
		buf = make([]byte, queue.ChunkSize)
	}
	return buf, func() {
		done()
		q.chunks <- buf
	}, nil
}

// newChunkBuffers returns chunksAtOnce buffers, each nil until its first use.
func newChunkBuffers() chan []byte {
	buffers := make(chan []byte, chunksAtOnce)
	for range chunksAtOnce {
		buffers <- nil
	}
	return buffers
}

// inTime returns an error when the first chunk is so old that it may be trimmed.
func (c *chunked) inTime() error {
	if err := queue.InTime(c.began); err != nil {
		return fmt.Errorf("%w: %w", errGiveUp, err)
	}
	return nil
}

// chunkLimit is the size of a chunk, in bytes.
func (q *jetStreamQueue) chunkLimit() int {
	if limit := q.nc.MaxPayload(); limit > 0 {
		return queue.ChunkLimit(limit)
	}
	return queue.ChunkSize
}
