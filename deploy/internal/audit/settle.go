package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/yagi-crash/yagi/deploy/internal/scan"
	"github.com/yagi-crash/yagi/pkg/queue"
)

// unsettled is a report that is not stored and may be waiting.
type unsettled struct {
	Report

	manifest *queue.Manifest // nil when it cannot be read
}

const (
	// looks is how often what may be waiting is looked at again, lookEvery apart.
	looks     = 5
	lookEvery = time.Second
)

// settle looks again at what is not in the bucket, was delivered and is above the
// floor: uploaders have it in hand or handed it back, or else it is acknowledged and
// lost. The queue tells only how many it has that are not acknowledged. When those
// are fewer than what is missing, in the window and outside, some are lost.
func (a *Audit) settle(ctx context.Context, stream string) error {
	for look := range looks + 1 {
		consumer, err := a.JS.Consumer(ctx, stream, queue.Consumer)
		if err != nil {
			return err
		}
		info := consumer.CachedInfo()
		suspects, err := a.suspects(ctx, stream, info.Delivered.Stream)
		if err != nil || len(suspects) == 0 {
			return err
		}
		if look < looks {
			select {
			case <-time.After(lookEvery):
				continue
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		others := 0
		if len(suspects) <= info.NumAckPending {
			if others, err = a.outside(ctx, stream, info); err != nil {
				return err
			}
		}
		a.convict(suspects, others, info.NumAckPending)
	}
	return nil
}

// suspects lists what seemed to wait in the stream, was delivered, and is still not
// in the bucket.
func (a *Audit) suspects(ctx context.Context, stream string, delivered uint64) (suspects []unsettled, err error) {
	for _, w := range a.waiting {
		if w.Stream != stream || w.Sequence > delivered || a.held[message{w.Stream, w.Sequence}] || a.dead[message{w.Stream, w.Sequence}] || a.deadIDs[w.ID] {
			continue
		}
		what := w.What
		if w.manifest != nil {
			if what, err = a.compare(ctx, w.manifest); err != nil {
				return nil, err
			}
		}
		if what != "" {
			suspects = append(suspects, w)
		}
	}
	return suspects, nil
}

// errFar ends a scan behind what was delivered.
var errFar = errors.New("not delivered yet")

// outside counts what is like a suspect, but not in the window.
func (a *Audit) outside(ctx context.Context, stream string, info *jetstream.ConsumerInfo) (n int, err error) {
	number, _ := queue.PartitionOf(stream)
	window := scan.Window{Subject: queue.ReadySubject(number), After: info.AckFloor.Stream, HeadersOnly: true}
	err = scan.Each(ctx, a.JS, stream, window, func(m *scan.Message) error {
		if m.Sequence > info.Delivered.Stream {
			return errFar
		}
		if a.held[message{stream, m.Sequence}] || a.dead[message{stream, m.Sequence}] || !m.Time.Before(a.Since) && m.Time.Before(a.Until) {
			return nil
		}
		what := "unreadable"
		if manifest, err := queue.ReadManifest(m.Header); err == nil {
			if what, err = a.compare(ctx, manifest); err != nil {
				return err
			}
		}
		if what != "" {
			n++
		}
		return nil
	})
	if errors.Is(err, errFar) {
		err = nil
	}
	return n, err
}

// convict tells lost reports from those that wait, as far as that can be told: the
// suspects, and others outside of the window, are more than those in hand, or they
// all wait.
func (a *Audit) convict(suspects []unsettled, others, inHand int) {
	if len(suspects)+others <= inHand {
		return
	}
	for _, w := range suspects {
		a.findings.Waiting--
		a.ids[w.ID] = amiss
		if inHand == 0 {
			a.findings.Lost = append(a.findings.Lost, w.Report)
			continue
		}
		w.What += fmt.Sprintf(" (lost, or one of %d that uploaders have in hand)", inHand)
		a.findings.Unsure = append(a.findings.Unsure, w.Report)
	}
}
