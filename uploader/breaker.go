package uploader

import (
	"context"
	"sync"
	"time"

	"github.com/yagi-crash/yagi/uploader/internal/breaker"
	"github.com/yagi-crash/yagi/uploader/internal/objstore"
)

// newBreaker returns the breaker that keeps workers from a bucket that is unavailable.
func (u *Uploader) newBreaker() *breaker.Breaker {
	outages := &outages{u: u}
	return breaker.New(breaker.Config{
		Probe:   func(ctx context.Context) error { return u.store.Probe(ctx) },
		Every:   u.cfg.ProbeInterval,
		Most:    u.cfg.Workers,
		Judged:  outages.judged,
		Refused: objstore.Particular,
	})
}

// outages logs and counts what the breaker finds out.
type outages struct {
	u *Uploader

	mu       sync.Mutex
	since    time.Time // the breaker opened; zero: it is closed
	class    string    // of what was logged last
	accepted bool      // that the probe is refused while reports are stored was logged
}

func (o *outages) judged(v breaker.Verdict, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch v {
	case breaker.Well:
		o.u.metrics.probes.WithLabelValues(putStored).Inc()
		o.accepted = false
		o.closed()
	case breaker.Trial:
		if !o.accepted {
			o.accepted = true
			o.u.log.Warn().Str("class", o.class).Msg("bucket refuses the probe while reports are stored: reports decide from now on")
		}
		o.closed()
	case breaker.Excused:
		o.u.metrics.probes.WithLabelValues(putFailed).Inc()
	case breaker.Unwell, breaker.HalfOpen:
		o.u.metrics.probes.WithLabelValues(putFailed).Inc()
		o.open(v, err)
	}
}

func (o *outages) closed() {
	o.u.strikes.Well()
	if !o.since.IsZero() {
		o.u.log.Info().Dur("after_ms", time.Since(o.since)).Msg("bucket is available again")
	}
	o.since, o.class = time.Time{}, ""
}

func (o *outages) open(v breaker.Verdict, err error) {
	o.u.strikes.Unwell()
	if o.since.IsZero() {
		o.since = time.Now()
	}
	class := objstore.Class(err)
	if class == o.class {
		return
	}
	o.class = class
	switch {
	case v == breaker.Unwell:
		o.u.log.Error().Err(err).Str("class", class).Msg("bucket is unavailable: reports stay in the queue until a probe succeeds")
	case !o.accepted:
		o.u.log.Error().Err(err).Str("class", class).Msg("bucket refuses the probe: one report is tried after each until one is stored")
	}
}

// tried tells the breaker how a trial went: not at all, when the report came to grief
// before it came to the store.
func (u *Uploader) tried(v verdict) {
	switch {
	case v.result == resultStored:
		u.breaker.Tried(true)
	case v.part != "":
		u.breaker.Tried(false)
	default:
		u.breaker.Untried()
	}
}

// checkBucket returns why the bucket is unavailable, if that is known, and otherwise
// what the store knows of it.
func (u *Uploader) checkBucket(ctx context.Context) error {
	if err := u.breaker.Err(); err != nil {
		return err
	}
	return u.store.Check(ctx)
}
