package intake

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/yagi-crash/yagi/intake/internal/breakpad"
	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/queue"
)

const (
	// attemptBase and attemptPerMB are how long one attempt waits for its ack:
	// the server writes and syncs before it answers.
	attemptBase  = 2 * time.Second
	attemptPerMB = time.Second
	// partitionPatience is how long a silent partition is tried before the next
	// one: about as long as its leader election takes.
	partitionPatience = 8 * time.Second
	// pause is the mean time between two attempts.
	pause = 200 * time.Millisecond
)

// Codes of the server's answers (its errors.json).
const (
	codeStoreFailed   jetstream.ErrorCode = 10077 // 503, for several errors; only the text tells them apart
	codeMessageTooBig jetstream.ErrorCode = 10054
	codeHeaderTooBig  jetstream.ErrorCode = 10097
	codeTooMany       jetstream.ErrorCode = 10167
	codeDuplicateNow  jetstream.ErrorCode = 10158 // the same report is being stored at this moment

	textFull     = "maximum" // "maximum bytes exceeded", "maximum messages exceeded"
	textTooLarge = "message too large"
)

// jetStreamQueue promises reports to the stream.
type jetStreamQueue struct {
	nc         *nats.Conn
	js         jetstream.JetStream
	partitions int
	timeout    time.Duration // of one report, over all attempts
	inflight   *flight
	bodies     sync.Pool   // of *[]byte: memory of messages, as much as inflight allows at a time
	chunks     chan []byte // chunksAtOnce buffers of chunks, each nil until its first use
	metrics    *metrics
	log        zerolog.Logger
	promises   promises
	tails      tails
	looks      looks
}

// Publish returns nil once the stream has the report on disk. An error is a
// *crash.Refusal, or else a fault of ours; a report that was refused may still
// turn out to be stored, since a lost ack is an unknown outcome.
func (q *jetStreamQueue) Publish(ctx context.Context, s *crash.Sealed) error {
	began := time.Now()
	q.promises.begin()
	err := q.publish(ctx, s)
	q.promises.ended(began, err)
	return err
}

// publish sends a report in one message if it fits, and otherwise in chunks. It goes in
// chunks after all where a limit of the queue became lower meanwhile.
func (q *jetStreamQueue) publish(ctx context.Context, s *crash.Sealed) error {
	if s.Size() > int64(q.inlineLimit()) {
		return q.publishChunked(ctx, s)
	}
	err := q.publishWhole(ctx, s)
	if errors.Is(err, errLimit) {
		return q.publishChunked(ctx, s)
	}
	return err
}

// publishWhole publishes a report in one message, once that may be in flight.
func (q *jetStreamQueue) publishWhole(ctx context.Context, s *crash.Sealed) error {
	waiting, done := context.WithTimeout(ctx, q.timeout)
	defer done()
	release, err := q.acquire(waiting, s.Size())
	if err != nil {
		return crash.Unavailable(err)
	}
	defer release()
	return q.publishInline(ctx, s)
}

// publishInline publishes a report that fits one message.
func (q *jetStreamQueue) publishInline(ctx context.Context, s *crash.Sealed) error {
	defer q.metrics.publishing(time.Now())
	ctx, cancel := context.WithTimeout(ctx, q.timeout)
	defer cancel()
	buf, _ := q.bodies.Get().(*[]byte)
	if buf == nil {
		buf = new([]byte)
	}
	msg, err := q.encode(ctx, *buf, s)
	switch {
	case errors.Is(err, nats.ErrMaxPayload):
		return fmt.Errorf("%w: %w", errLimit, err)
	case err != nil: // of the spool, for example
		return crash.Unavailable(err)
	}
	*buf = msg.Data
	defer q.bodies.Put(buf) // nats.go has its own copy of what it sends
	return q.offer(ctx, queue.Partition(s.ID, q.partitions), func(ctx context.Context, p int) (bool, error) {
		msg.Subject = queue.ReadySubject(p)
		_, err := q.attempt(ctx, msg, p)
		return false, err
	})
}

// encode copies the report, so it needs the slot first. It keeps no decoder, since the
// message may wait long for its ack.
func (q *jetStreamQueue) encode(ctx context.Context, buf []byte, s *crash.Sealed) (*nats.Msg, error) {
	release, err := breakpad.Hold(ctx, s, true)
	if err != nil {
		return nil, err
	}
	defer release()
	return queue.Encode(buf, s, q.inlineLimit())
}

// inlineLimit is the largest body of a message, in bytes, that every partition takes.
func (q *jetStreamQueue) inlineLimit() int {
	return queue.InlineLimit(q.maxMessage(q.looks.maxMsgSize()))
}

// maxMessage is the largest message, in bytes, that a stream with that limit takes.
// Before the first connection the server's limit is unknown, and ours is taken for it.
func (q *jetStreamQueue) maxMessage(maxMsgSize int64) int64 {
	return lower(lower(queue.MaxPayload, q.nc.MaxPayload()), maxMsgSize)
}

// acquire waits until a message of size bytes may be in flight.
func (q *jetStreamQueue) acquire(ctx context.Context, size int64) (release func(), err error) {
	size = min(size, q.inflight.largest())
	done, err := q.inflight.acquire(ctx, size)
	if err != nil {
		return nil, err
	}
	q.metrics.inflight.Add(float64(size))
	return func() {
		done()
		q.metrics.inflight.Sub(float64(size))
	}, nil
}

// offer sends a report until a partition takes it, the time is over, or it is
// clear that none will. A partition that is full, unsafe, or silent for too long, is left
// for the next. The error wraps errLimit when the report must go in smaller messages.
// send makes one attempt at partition p, and reports whether that has
// acknowledged anything.
func (q *jetStreamQueue) offer(ctx context.Context, partition int, send func(ctx context.Context, p int) (heard bool, err error)) error {
	full := 0
	for since := time.Now(); ; {
		heard, err := false, q.mayPromise(partition)
		if err == nil {
			heard, err = send(ctx, partition)
		}
		if err == nil { // the connection may be another one by now
			err = q.mayPromise(partition)
		}
		if heard {
			since = time.Now()
		}
		switch answer := classify(err); {
		case answer == stored:
			return nil
		case answer == tooLarge:
			return fmt.Errorf("%w: %w", errLimit, err)
		case answer == refused:
			return crash.Unavailable(err)
		case answer == isFull:
			if full++; full >= q.partitions {
				return crash.Unavailable(err)
			}
			partition, since = (partition+1)%q.partitions, time.Now()
			continue
		case time.Since(since) > partitionPatience:
			partition, since, full = (partition+1)%q.partitions, time.Now(), 0
		}
		if !sleep(ctx, pause/2+rand.N(pause)) {
			return crash.Unavailable(fmt.Errorf("publishing for %s: %w", q.timeout, err))
		}
	}
}

// attempt sends a message to partition p once and waits for the ack.
func (q *jetStreamQueue) attempt(ctx context.Context, msg *nats.Msg, p int) (ack *jetstream.PubAck, err error) {
	wait := attemptBase + attemptPerMB*time.Duration(len(msg.Data))/1_000_000
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	err = nats.ErrDisconnected
	before := q.tails.now(p)
	if q.nc.IsConnected() { // nats.go keeps some memory of every request that it cannot send
		ack, err = q.js.PublishMsg(ctx, msg,
			jetstream.WithExpectStream(queue.StreamName(p)), // never into a stream that is not ours
			jetstream.WithRetryAttempts(0))
	}
	q.metrics.attempts.WithLabelValues(string(classify(err))).Inc()
	if err == nil {
		q.seen(p, before, ack)
	}
	return ack, err
}

// seen tells people when an ack shows that partition p has lost what it had acknowledged.
func (q *jetStreamQueue) seen(p int, before tail, ack *jetstream.PubAck) {
	lost := q.tails.acknowledged(p, before, ack)
	if lost == 0 {
		return
	}
	q.metrics.lost.Add(float64(lost))
	q.log.Error().Str("stream", queue.StreamName(p)).Uint64("had_acknowledged", before.sequence).
		Uint64("acknowledges_now", ack.Sequence).Uint64("lost_at_least", lost).
		Msg("the queue has lost reports that it had acknowledged, or its stream was made anew")
}

// answer is what an attempt came to.
type answer string

const (
	stored   answer = "stored"    // on disk, now or by an earlier attempt
	again    answer = "again"     // unknown or passing
	isFull   answer = "full"      // the stream takes nothing until it is drained, or mended
	tooLarge answer = "too_large" // not in a message of this size
	refused  answer = "refused"   // not before someone has changed something
)

func answers() []answer { return []answer{stored, again, isFull, tooLarge, refused} }

// classify reads the error of an attempt. What the server does not answer at
// all (an election, a lost ack, a frozen stream, a missing permission) is a
// timeout, and so passing.
func classify(err error) answer {
	var api *jetstream.APIError
	switch {
	case err == nil:
		return stored
	case errors.Is(err, errUnsafe), errors.Is(err, errLimit):
		return isFull
	case errors.Is(err, errNotSeen), errors.Is(err, errAnew):
		return again
	case errors.Is(err, nats.ErrMaxPayload):
		return tooLarge
	case errors.Is(err, errGiveUp):
		return refused
	case !errors.As(err, &api):
		return again
	}
	switch code := api.ErrorCode; {
	case code == codeStoreFailed && strings.Contains(api.Description, textFull):
		return isFull
	case code == codeStoreFailed && strings.Contains(api.Description, textTooLarge),
		code == codeMessageTooBig, code == codeHeaderTooBig:
		return tooLarge
	case code == codeTooMany, code == codeDuplicateNow, api.Code == http.StatusServiceUnavailable:
		return again
	}
	return refused
}

// sleep waits, and tells whether the context lasted.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
