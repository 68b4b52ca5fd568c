package uploader

import (
	"context"
	"time"

	"github.com/yagi-crash/yagi/uploader/internal/breaker"
	"github.com/yagi-crash/yagi/uploader/internal/objstore"
)

// newBreaker returns the breaker that keeps workers from a bucket that takes
// nothing.
func (u *Uploader) newBreaker() *breaker.Breaker {
	var since time.Time // the breaker opened; zero: it is closed
	class := ""
	return breaker.New(breaker.Config{
		Probe: func(ctx context.Context) error { return u.store.Probe(ctx) },
		Every: u.cfg.ProbeInterval,
		Most:  u.cfg.Workers,
		Judged: func(err error) {
			if err == nil {
				u.metrics.probes.WithLabelValues(putStored).Inc()
				u.strikes.Well()
				if !since.IsZero() {
					u.log.Info().Dur("after_ms", time.Since(since)).Msg("the bucket takes reports again")
				}
				since, class = time.Time{}, ""
				return
			}
			u.metrics.probes.WithLabelValues(putFailed).Inc()
			u.strikes.Unwell()
			if since.IsZero() {
				since = time.Now()
			}
			if now := objstore.Class(err); now != class {
				class = now
				u.log.Error().Err(err).Str("class", class).Msg("the bucket takes nothing: reports stay in the queue until a probe succeeds")
			}
		},
	})
}

// tell lets the breaker know how a PUT went that failed.
func (u *Uploader) tell(class string) {
	switch class {
	case objstore.ClassDigest: // the report's own fault
		return
	case objstore.ClassSlowDown:
		u.breaker.TooMuch()
	}
	u.breaker.Failed()
}

// checkBucket says why the bucket takes nothing, if that is known, and otherwise
// looks whether it is there.
func (u *Uploader) checkBucket(ctx context.Context) error {
	if err := u.breaker.Err(); err != nil {
		return err
	}
	return u.store.Check(ctx)
}
