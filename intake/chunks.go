package intake

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
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
	// readyRoom is what a ready message may have beside its manifest, in bytes: the
	// server counts the header that names its stream, and its longer Msg-Id.
	readyRoom = 1 << 10
)

var (
	// errGiveUp means that another attempt would come to the same.
	errGiveUp = errors.New("giving up")
	// errAnew means that the stream was made anew, or somebody removed messages from
	// it, or its server was restarted and may have, and that chunks which it had
	// acknowledged went with that.
	errAnew = errors.New("the stream was made anew or purged, or its server restarted")
	// errNotSeen means that it is unknown at the moment which stream there is.
	errNotSeen = errors.New("the stream cannot be looked at")
	// errLimit means that a limit of the queue is too low for a message. It is never the
	// fault of the client, whose own limits are others.
	errLimit = errors.New("a limit of the queue is too low for the report")
)

// chunked is a report on its way in chunks.
type chunked struct {
	q      *jetStreamQueue
	report *crash.Sealed
	size   int // of a chunk, bytes
	// refused is where the server said of a message that it is too large: with chunks of
	// that size.
	refused struct{ partition, size int }
	// inFlight has one entry for each chunk that waits for its ack.
	inFlight chan struct{}
	patience *patience
	read     int // chunks since the last yield

	partition int               // where acked lie
	began     time.Time         // before the first of acked
	server    string            // ConnectedServerId of the connection that acked came over
	stream    *queue.StreamInfo // that acked lie in, as it was before the first of them
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
	c := chunked{q: q, report: s, inFlight: make(chan struct{}, chunksOfOne), patience: patience, partition: -1}
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
	if classify(err) == tooLarge { // a limit became lower; begin asks for it
		c.refused.partition, c.refused.size = p, c.size
		err = fmt.Errorf("%w: %w", errAnew, err)
	}
	if errors.Is(err, errAnew) {
		c.partition = -1 // the next attempt begins with the first chunk
	}
	return heard, err
}

// begin turns to partition p, which has nothing yet, with chunks as large as its limits
// allow now. The error wraps errLimit when they are too low for the ready message, which
// lists the chunks.
func (c *chunked) begin(ctx context.Context, p int) error {
	server := c.q.nc.ConnectedServerId()
	stream, err := c.q.info(ctx, p)
	if err != nil {
		return err
	}
	limits, err := stream.Limits()
	if err != nil {
		return err
	}
	most := c.q.maxMessage(limits.MaxMsgSize)
	c.size = queue.ChunkLimit(most)
	if r := c.refused; c.size == 0 || r.size > 0 && r.partition == p && c.size >= r.size {
		return fmt.Errorf("%w: %s takes messages of %d bytes at most", errLimit, queue.StreamName(p), most)
	}
	chunks := (c.report.Size() + int64(c.size) - 1) / int64(c.size)
	if err := c.fits(chunks, most); err != nil {
		return fmt.Errorf("%w: %s takes messages of %d bytes at most: %w", errLimit, queue.StreamName(p), most, err)
	}
	c.partition, c.began, c.acked = p, time.Now(), make([]uint64, chunks)
	c.server, c.stream = server, stream
	return nil
}

// fits returns an error unless the ready message for that many chunks fits a message of
// most bytes.
func (c *chunked) fits(chunks, most int64) error {
	if chunks > queue.MaxChunks {
		return fmt.Errorf("%d chunks are more than %d", chunks, queue.MaxChunks)
	}
	msg, err := queue.EncodeChunked(c.report, slices.Repeat([]uint64{queue.LongSequence}, int(chunks)))
	if err != nil {
		return err
	}
	if size := int64(msg.Size()) + readyRoom; size > min(most, queue.MaxHeader) {
		return fmt.Errorf("the ready message of %d chunks has %d bytes", chunks, size)
	}
	return nil
}

// info returns the answer of the leader of a partition's stream.
func (q *jetStreamQueue) info(ctx context.Context, p int) (*queue.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	info, err := queue.AskStream(ctx, q.js, queue.StreamName(p))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotSeen, err)
	}
	return info, nil
}

// holds tells whether the chunks must still be in the stream: it is the same one,
// and not one whose sequences mean other messages; and nothing went from it but
// what lay before them. The trimmer takes nothing so young.
func (c *chunked) holds(now *queue.StreamInfo) bool {
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
