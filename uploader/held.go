package uploader

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/yagi-crash/yagi/pkg/queue"
	"github.com/yagi-crash/yagi/uploader/internal/objstore"
)

const (
	// heldFor is how long a held report waits for its next attempt. Long enough to
	// leave the workers to the others, short enough that an upgraded uploader, or a
	// store that accepts it now, soon gets it. What will be a dead letter is soon one,
	// too: nothing behind a held report can be trimmed.
	heldFor = time.Minute
	// heldRest and heldRestMax bound the time between two held reports of which the
	// first failed: heldShare times as long as it took, so that they take a third of
	// one worker and no more. After one that was stored the next follows at once.
	heldShare   = 2
	heldRest    = 10 * time.Millisecond
	heldRestMax = time.Second
	// heldAlarm is the number of held reports from which on that is unhealthy.
	heldAlarm = 100
)

// setAside reports whether a report that was not stored is better held than handed
// back: when this process cannot do anything for it, or when so many reports have
// failed that those handed back would keep the server from delivering others. While
// the store is unavailable, or the queue is, it is neither's fault.
func (u *Uploader) setAside(ctx context.Context, d *delivery, v *verdict) bool {
	if d.held || ctx.Err() != nil || u.breaker.Err() != nil {
		return false
	}
	switch {
	case v.result == resultHeld:
		return true
	case v.result != resultRetried || v.class == classQueue || v.class == objstore.ClassSlowDown:
		return false
	}
	return u.quotas.of(d.meta.Stream).pressed(ctx, func(ctx context.Context) (*queue.ConsumerInfo, error) {
		ctx, cancel := context.WithTimeout(ctx, inspectTimeout)
		defer cancel()
		return queue.AskConsumer(ctx, u.js, d.meta.Stream, queue.Consumer)
	})
}

// hold makes the reference by which a report is retried. If that fails, or the reference
// could be lost, the report is handed back.
func (u *Uploader) hold(ctx context.Context, d *delivery, v verdict) verdict {
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	err := u.references.check()
	if err == nil {
		err = queue.Hold(ctx, u.js, queue.Held{
			Stream: d.meta.Stream, Sequence: d.meta.Sequence.Stream, Stored: d.meta.Timestamp, Class: v.class, Cause: v.err.Error(),
		})
	}
	u.conditions.set("holding reports", err)
	if err == nil {
		v.result, v.aside, v.after = resultHeld, true, u.heldFor
	}
	return v
}

// drainHeld retries held reports, one at a time, until ctx ends. The one in flight runs
// under work. It acquires no slot of the breaker, for which it would compete with every
// worker.
func (u *Uploader) drainHeld(ctx, work context.Context) {
	for ctx.Err() == nil {
		if u.held.Load() == 0 || u.breaker.Err() != nil {
			pause(ctx, heldRestMax)
			continue
		}
		start := time.Now()
		rest, err := u.nextHeld(ctx, work)
		u.conditions.set("taking held reports", err)
		switch rest {
		case restNone:
		case restShort:
			pause(ctx, min(max(heldShare*time.Since(start), heldRest), heldRestMax))
		case restLong:
			pause(ctx, heldRestMax)
		}
	}
}

// rest is how long to leave held reports alone.
type rest int

const (
	restNone  rest = iota // one was stored, so the next may be too
	restShort             // one failed
	restLong              // none is due, or the queue failed
)

// nextHeld takes a held report, if one is due, and retries it. The error is about the
// queue.
func (u *Uploader) nextHeld(ctx, work context.Context) (rest, error) {
	ref, err := u.pullers.Take(ctx, func(p *queue.Puller) (jetstream.Msg, error) {
		return p.Next(queue.HeldStream, queue.Consumer, 0)
	})
	if err != nil || ref == nil {
		return restLong, err
	}
	d, err := u.readHeld(work, ref)
	missing := errors.Is(err, queue.ErrIncomplete) || errors.Is(err, queue.ErrDamaged)
	switch {
	case missing && !u.isGone(ref):
		return restShort, ref.NakWithDelay(u.heldFor)
	case missing:
		u.metrics.errors.WithLabelValues(classIncomplete).Inc()
		u.log.Error().Err(err).Str("reference", ref.Subject()).Msg("held report is gone from its stream")
		return restNone, u.settle(work, ref, verdict{result: resultStored})
	case err != nil:
		return restLong, errors.Join(err, ref.NakWithDelay(u.cfg.RetryMax))
	}
	if v := u.handle(work, d); v.result != resultStored && v.result != resultDead {
		return restShort, nil
	}
	return restNone, nil
}

// isGone reports whether a report that its stream does not have is gone for good: a
// server that comes back may bring it back, as it may a chunk.
func (u *Uploader) isGone(ref jetstream.Msg) bool {
	m, err := ref.Metadata()
	return err == nil && m.NumDelivered >= enough && time.Since(m.Timestamp) >= u.longEnough
}

// readHeld reads the report that a reference refers to. The error wraps
// queue.ErrIncomplete or queue.ErrDamaged when there is none.
func (u *Uploader) readHeld(ctx context.Context, ref jetstream.Msg) (*delivery, error) {
	h, err := queue.ReadHeld(ref.Subject(), ref.Headers())
	if err != nil {
		return nil, err
	}
	d := &delivery{msg: ref, held: true}
	d.meta.Stream, d.meta.Sequence.Stream, d.meta.Timestamp = h.Stream, h.Sequence, h.Stored
	if m, err := ref.Metadata(); err == nil { // a message that was pulled always has it
		d.meta.NumDelivered = m.NumDelivered
	}
	d.header, d.body, err = u.reader.Ready(ctx, h.Stream, h.Sequence, h.Stored)
	if err != nil {
		return nil, fmt.Errorf("reading a held report: %w", err)
	}
	return d, nil
}
