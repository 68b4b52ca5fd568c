package objstore

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

const (
	// fresh is how long a report that was stored shows that the store is healthy. Its
	// last object counts alone: a store may accept small ones and swallow dumps.
	fresh = time.Minute
	// probedWell and probedIll are how long Check goes by the last probe that it made.
	probedWell, probedIll = 5 * time.Minute, 15 * time.Second
)

// evidence is what a store knows of its bucket without asking.
type evidence struct {
	stored, failed atomic.Int64 // when a report, or a Put, last was; as time.Time's UnixNano
	oddBucket      atomic.Bool  // that it was logged

	probing chan struct{} // holds an element while nobody reads or writes the rest
	probed  time.Time
	probe   error
}

func newEvidence() *evidence {
	e := &evidence{probing: make(chan struct{}, 1)}
	e.probing <- struct{}{}
	return e
}

// isFresh reports whether a report was stored within the last minute.
func (e *evidence) isFresh() bool { return time.Since(time.Unix(0, e.stored.Load())) < fresh }

// isUncontested reports whether a report was stored and no Put failed since.
func (e *evidence) isUncontested() bool {
	return e.stored.Load() > e.failed.Load()
}

// Check returns nil when the bucket takes objects, as far as that can be told without
// more permissions than Put needs: when a report was stored within the last minute, when
// the bucket answers a HEAD, or else, since a refused HEAD says nothing about PUTs, when
// it takes a probe, at most one in five minutes. A refused probe is an error only if no
// report was stored since the last Put that failed.
func (s *Store) Check(ctx context.Context) error {
	if s.evidence.isFresh() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.PutTimeout)
	defer cancel()
	_, err := s.client.Load().HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &s.cfg.Bucket})
	if err == nil {
		return nil
	}
	err = fmt.Errorf("looking at bucket %s: %w%s", s.cfg.Bucket, err, hint(err))
	if status := statusOf(err); status < http.StatusBadRequest || status >= http.StatusInternalServerError && status != http.StatusNotImplemented {
		return err // which is as bad for PUTs
	}
	probe := s.probedLately(ctx)
	if probe == nil && statusOf(err) == http.StatusNotFound && !s.evidence.oddBucket.Swap(true) {
		s.cfg.Log.Warn().Str("bucket", s.cfg.Bucket).Msg("bucket takes objects, yet does not exist: its endpoint may name it already")
	}
	if probe == nil || Particular(probe) && s.evidence.isUncontested() {
		return nil
	}
	return errors.Join(err, probe)
}

// probedLately returns what the last probe came to, or makes another one.
func (s *Store) probedLately(ctx context.Context) error {
	e := s.evidence
	select {
	case <-e.probing:
	case <-ctx.Done():
		return fmt.Errorf("waiting for a probe of bucket %s: %w", s.cfg.Bucket, ctx.Err())
	}
	defer func() { e.probing <- struct{}{} }()
	lasts := probedWell
	if e.probe != nil {
		lasts = probedIll
	}
	if e.probed.IsZero() || time.Since(e.probed) >= lasts {
		probe := s.Probe(ctx)
		if ctx.Err() != nil { // which says nothing about the next time
			return probe
		}
		e.probe, e.probed = probe, time.Now()
	}
	return e.probe
}
