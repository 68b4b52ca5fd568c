package uploader

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/yagi-crash/yagi/pkg/queue"
	"github.com/yagi-crash/yagi/uploader/internal/objstore"
)

const (
	// heldFor is how long a held report waits for its next attempt: long enough that
	// thousands of them can wait, short enough that an upgraded uploader, or a store that
	// accepts it now, soon gets it. heldSoon is the same after a first failure that may be
	// one of those that make a dead letter, doubled after each: nothing behind a held
	// report can be trimmed.
	heldFor  = time.Minute
	heldSoon = 5 * time.Second
	// heldRest and heldRestMax bound the time between two held reports of which the
	// first failed: heldShare times as long as it took, so that quick failures take a
	// third of one worker. Those that hang for UPLOADER_PUT_TIMEOUT take one goroutine,
	// none of the workers. After one that was stored the next follows at once.
	heldShare   = 2
	heldRest    = 10 * time.Millisecond
	heldRestMax = time.Second
	// heldAfter is the delivery from which on a report that the store fails is held,
	// whatever the quota says. One that the store does not answer in time, or that took
	// slow or longer, is held at once: retries come before new reports, and each takes a
	// worker for so long.
	heldAfter = 3
	slow      = 3 * time.Second
	// heldAlarm is the number of held reports from which on that is unhealthy, and
	// heldTooLong the age from which on one is. By then every report that is known to be
	// hopeless is a dead letter.
	heldAlarm   = 100
	heldTooLong = longEnough + 10*heldFor
	// controlFresh is how long an answer to a control object is remembered.
	controlFresh = 3 * time.Second
)

// setAside reports whether a report that was not stored is better held than handed
// back: when this process cannot do anything for it, when its retries would take up
// workers, or when so many reports have failed that those handed back would keep the
// server from delivering others. While the store is unavailable, or the queue is, it is
// neither's fault: a failure at the store waits for the verdict of the breaker.
func (u *Uploader) setAside(ctx context.Context, d *delivery, v verdict) bool {
	if d.held || ctx.Err() != nil || u.breaker.Err() != nil {
		return false
	}
	switch {
	case v.result == resultHeld:
		return true
	case v.result != resultRetried:
		return false
	case v.class == objstore.ClassTimeout, v.part != "" && v.took >= slow:
		return u.breaker.Cleared(ctx)
	case v.class == objstore.ClassSlowDown:
		return u.pressed(ctx, d) && u.controls.accepted(partOf(v), u.control(ctx))
	case v.class == classQueue:
		return u.pressed(ctx, d) && u.readable(ctx, d)
	case u.pressed(ctx, d):
		return true
	}
	return v.part != "" && v.class != classDamaged && d.meta.NumDelivered >= heldAfter && u.clearedAlone(ctx)
}

// clearedAlone is the breaker's Cleared for one worker at a time, and false for others
// meanwhile: many reports may fail quickly, and each would keep a worker waiting.
func (u *Uploader) clearedAlone(ctx context.Context) bool {
	if !u.clearing.TryLock() {
		return false
	}
	defer u.clearing.Unlock()
	return u.breaker.Cleared(ctx)
}

// pressed reports whether the report's consumer has too little left of its quota for
// the report to be handed back.
func (u *Uploader) pressed(ctx context.Context, d *delivery) bool {
	return u.quotas.of(d.meta.Stream).pressed(ctx, func(ctx context.Context) (*queue.ConsumerInfo, error) {
		ctx, cancel := context.WithTimeout(ctx, inspectTimeout)
		defer cancel()
		return queue.AskConsumer(ctx, u.js, d.meta.Stream, queue.Consumer)
	})
}

// control returns how to ask the store for a control object.
func (u *Uploader) control(ctx context.Context) func(part string) error {
	return func(part string) error {
		ctx, cancel := context.WithTimeout(ctx, inspectTimeout)
		defer cancel()
		return u.store.Control(ctx, part)
	}
}

// readable reports whether the queue reads the report's own message, when it does not
// read its chunks: then the trouble is theirs.
func (u *Uploader) readable(ctx context.Context, d *delivery) bool {
	ctx, cancel := context.WithTimeout(ctx, inspectTimeout)
	defer cancel()
	_, _, err := u.reader.Ready(ctx, d.meta.Stream, d.meta.Sequence.Stream, d.meta.Timestamp)
	return err == nil
}

// controls remembers the last control object that was put to tell reports that the store
// slows down from a store that slows down everything.
type controls struct {
	mu   sync.Mutex
	part string // in whose place it was put
	at   time.Time
	err  error
}

// accepted reports whether the store accepts a control object in the place of a part. It
// asks at most once in controlFresh; a question about another part meanwhile is answered
// no.
func (c *controls) accepted(part string, control func(part string) error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.at) >= controlFresh {
		c.part, c.err = part, control(part)
		c.at = time.Now()
	}
	return c.part == part && c.err == nil
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
		v.result, v.aside, v.after = resultHeld, true, 0 // a new reference is due at once
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
	missing := isMissing(err)
	switch {
	case missing && !u.isGone(ref):
		return restShort, ref.NakWithDelay(u.heldFor)
	case missing:
		u.metrics.errors.WithLabelValues(classIncomplete).Inc()
		u.log.Error().Err(err).Str("reference", ref.Subject()).Msg("held report is gone from its stream")
		return restNone, u.settle(work, ref, verdict{result: resultStored})
	case err != nil:
		return restLong, ref.NakWithDelay(u.cfg.RetryMax)
	}
	if v := u.handle(work, d); v.result != resultStored && v.result != resultDead {
		return restShort, nil
	}
	return restNone, nil
}

// heldAgain returns how long a held report that failed waits for its next attempt.
func (u *Uploader) heldAgain(d *delivery) time.Duration {
	n := u.strikes.Strikes(reportOf(&d.meta))
	if n == 0 || n > enough {
		return u.heldFor
	}
	return min(heldSoon<<n, u.heldFor)
}

// isGone reports whether a report that its stream does not have is gone for good: a
// server that comes back may bring it back, as it may a chunk.
func (u *Uploader) isGone(ref jetstream.Msg) bool {
	m, err := ref.Metadata()
	return err == nil && m.NumDelivered >= enough && time.Since(m.Timestamp) >= u.longEnough
}

// isMissing reports whether there is no report where a reference says.
func isMissing(err error) bool {
	return errors.Is(err, queue.ErrIncomplete) || errors.Is(err, queue.ErrDamaged)
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
	if ctx.Err() == nil && !isMissing(err) {
		u.conditions.set("reading held reports of "+h.Stream, err)
	}
	if err != nil {
		return nil, fmt.Errorf("reading a held report: %w", err)
	}
	return d, nil
}
