package uploader

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/rs/zerolog"

	"github.com/yagi-crash/yagi/pkg/queue"
	"github.com/yagi-crash/yagi/uploader/internal/objstore"
)

// drain is a worker: it takes one report at a time, until ctx ends. Reports in
// hand run under work.
func (u *Uploader) drain(ctx, work context.Context) {
	failures := 0
	for {
		room, err := u.breaker.Enter(ctx)
		if err != nil {
			return
		}
		err = u.next(ctx, work)
		room.Leave()
		if err == nil {
			failures = 0
			continue
		}
		failures++
		if !errors.Is(err, errNothing) {
			u.metrics.errors.WithLabelValues(classQueue).Inc()
		}
		pause(ctx, backoff(failures, restMin, restMax))
	}
}

// next takes a report, if there is one, and does what is to be done with it. The
// error is about the queue.
func (u *Uploader) next(ctx, work context.Context) error {
	msg, err := u.take(ctx)
	switch {
	case err != nil:
		return err
	case msg == nil: // none there is
	case ctx.Err() != nil: // it came together with the end
		if err := u.settle(work, msg, verdict{result: resultRetried}); err != nil {
			u.log.Warn().Err(err).Msg("a report that was not begun comes again after its ack wait")
		}
	default:
		u.handle(work, deliveryOf(msg))
	}
	return nil
}

// handle takes a report through process and settle, gives an account, and returns what
// became of it. The work is over early when ctx ends.
func (u *Uploader) handle(ctx context.Context, d *delivery) verdict {
	u.metrics.inHand.Inc()
	defer u.metrics.inHand.Dec()
	start := time.Now()
	letGo := queue.Keep(d.msg, u.inProgressEvery)
	v := u.attempt(ctx, d)
	v.took = time.Since(start)
	switch {
	case v.result == resultHeld:
		v.after = u.heldFor
	case v.result != resultRetried:
	case ctx.Err() != nil: // not the store's fault, so another uploader may have it at once
		v.class, v.err = classGrace, errors.Join(context.Cause(ctx), v.err)
	case d.held:
		v.result, v.after = resultHeld, u.heldAgain(d)
	default:
		v.after = backoff(int(d.meta.NumDelivered), u.cfg.RetryMin, u.cfg.RetryMax)
	}
	if u.setAside(ctx, d, v) {
		v = u.hold(ctx, d, v)
	}
	letGo()
	err := u.settle(ctx, d.msg, v)
	if err != nil || v.confirmed() {
		u.conditions.set("acknowledging to "+d.from(), err)
	}
	if err != nil {
		v = v.retry(classQueue, errors.Join(v.err, err))
	}
	if v.result == resultStored || v.result == resultDead {
		u.strikes.Settled(reportOf(&d.meta))
	}
	u.account(v, d, time.Since(start))
	return v
}

// attempt is process, and burial for a report that will never go through it.
func (u *Uploader) attempt(ctx context.Context, d *delivery) (v verdict) {
	trial, why := u.breaker.Begin()
	if why != nil { // since the report was asked for
		return verdict{}.retry(objstore.Class(why), why)
	}
	if trial {
		defer func() { u.tried(v) }()
	}
	v = guarded(verdict{}, func() verdict { return u.process(ctx, d.meta.Stream, d.header, d.body) })
	if v.class == objstore.ClassSlowDown && !d.held { // a held one alone says nothing about the rest
		u.breaker.TooMuch()
	}
	if trial && v.part != "" { // which says more about the bucket than about the report
		return v
	}
	if v.err != nil && ctx.Err() == nil && u.hopeless(ctx, v, &d.meta) {
		v = guarded(v, func() verdict { return u.bury(ctx, d, v) })
	}
	return v
}

// account counts and logs what became of one delivery of a report.
func (u *Uploader) account(v verdict, d *delivery, took time.Duration) {
	u.metrics.reports.WithLabelValues(v.result).Inc()
	level := zerolog.InfoLevel
	switch v.result {
	case resultStored:
		u.metrics.receivedToStored.Observe(max(0, time.Since(v.report.Received).Seconds()))
	case resultRetried:
		level = zerolog.WarnLevel
	case resultHeld, resultDead:
		level = zerolog.ErrorLevel
	}
	event := u.log.WithLevel(level).Str("result", v.result)
	if v.id != "" {
		event.Str("crash_id", string(v.id))
	}
	if v.err != nil {
		u.metrics.errors.WithLabelValues(v.class).Inc()
		event.Err(v.err).Str("class", v.class).Dur("again_in_ms", v.after)
	}
	event.Int("objects", v.objects).
		Int64("bytes", v.bytes).
		Dur("took_ms", took).
		Uint64("delivered", d.meta.NumDelivered).
		Str("stream", d.meta.Stream).
		Uint64("sequence", d.meta.Sequence.Stream).
		Bool("held", v.aside || d.held).
		Msg("report")
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

// backoff returns how long to wait after the nth failure in a row: shortest,
// doubled each time, longest at the most, and up to a half less, so that those
// who failed together do not come back together.
func backoff(n int, shortest, longest time.Duration) time.Duration {
	d := shortest
	for i := 1; i < n && d < longest; i++ {
		d *= 2
	}
	d = min(d, longest)
	return d - rand.N(d/2+1)
}
