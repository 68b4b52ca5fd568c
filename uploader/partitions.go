package uploader

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/yagi-crash/yagi/pkg/queue"
)

const (
	// surveyEvery is how often the partitions are looked at: a new one is
	// drained, and the depth is true, within this time.
	surveyEvery = 5 * time.Second
	// inspectTimeout ends one question about one partition, so that a partition
	// without a leader does not keep the others from being seen; the answer may be
	// behind some reports on a slow line.
	inspectTimeout = 5 * time.Second
	// pullWait is how long a worker waits for a report before it looks at other
	// partitions, and so about the longest that an idle uploader takes to stop; with
	// a line to the queue that brings nothing it can be 17 s.
	pullWait = time.Second
	// restMin and restMax are between attempts to reach the queue: soon at
	// first, so that a blip is over soon, and bounded, so that its return is
	// noticed.
	restMin = 100 * time.Millisecond
	restMax = 5 * time.Second
)

// census is what a survey found.
type census struct {
	// partitions are the numbers of those whose consumer answers, in order; nil when the
	// survey could not tell.
	partitions []int
	// depth is how many reports are not stored yet, over all partitions.
	depth       uint64
	differences []queue.Difference
}

// watch surveys the partitions until ctx ends. It returns an error when a live
// stream or consumer must not be worked with.
func (u *Uploader) watch(ctx context.Context) error {
	said := map[string]bool{} // differences that were warned of
	trouble, failures := "", 0
	for ctx.Err() == nil {
		found, err := u.survey(ctx)
		if fatal := queue.Fatal(found.differences); len(fatal) > 0 {
			return refusal(fatal)
		}
		for _, d := range found.differences {
			if !said[d.String()] {
				said[d.String()] = true
				u.log.Warn().Stringer("difference", d).Msg("the queue is not as it should be")
			}
		}
		if found.partitions != nil {
			u.partitions.Store(&found.partitions)
			u.forgetOthers(found.partitions)
		}
		if err == nil {
			u.metrics.depth.Set(float64(found.depth)) // some partitions' alone would be a false low
			trouble, failures = "", 0
			pause(ctx, surveyEvery)
			continue
		}
		failures++
		u.metrics.errors.WithLabelValues(classQueue).Inc()
		if err.Error() != trouble && ctx.Err() == nil {
			trouble = err.Error()
			u.log.Warn().Err(err).Msg("not every partition can be drained")
		}
		pause(ctx, backoff(failures, restMin, restMax))
	}
	return nil
}

// pulling and delivering are conditions of a stream.
const (
	pulling    = "pulling from "
	delivering = "delivering new reports of "
)

// forgetOthers drops the conditions of streams that cannot be drained any more, which
// survey says.
func (u *Uploader) forgetOthers(partitions []int) {
	var streams []string
	for _, p := range partitions {
		streams = append(streams, queue.StreamName(p))
	}
	u.conditions.keep(pulling, streams)
	u.conditions.keep(delivering, streams)
}

// refusal is the error that names unsafe differences.
func refusal(unsafe []queue.Difference) error {
	errs := make([]error, 0, len(unsafe))
	for _, d := range unsafe {
		errs = append(errs, errors.New(d.String()))
	}
	return fmt.Errorf("checking the queue, which could lose or hide reports: %w", errors.Join(errs...))
}

// survey looks at every partition that there is. What it found is true also
// when it returns an error, which tells what keeps the others from being
// drained.
func (u *Uploader) survey(ctx context.Context) (census, error) {
	if !u.nc.IsConnected() {
		return census{}, errors.New("not connected to NATS")
	}
	numbers, err := u.numbers(ctx)
	if err != nil {
		return census{}, fmt.Errorf("listing the streams: %w", err)
	}
	found := census{partitions: []int{}}
	if len(numbers) == 0 {
		return found, fmt.Errorf("no stream on %s: crashctl stream apply makes them", queue.Subjects)
	}
	var errs []error
	for _, p := range numbers {
		errs = append(errs, u.inspect(ctx, p, &found))
	}
	u.inspectAside(ctx)
	return found, errors.Join(errs...)
}

// numbers lists the partitions that have a stream, in order.
func (u *Uploader) numbers(ctx context.Context) ([]int, error) {
	ctx, cancel := context.WithTimeout(ctx, inspectTimeout)
	defer cancel()
	var numbers []int
	list := u.js.StreamNames(ctx, jetstream.WithStreamListSubject(queue.Subjects))
	for name := range list.Name() {
		if p, ok := queue.PartitionOf(name); ok {
			numbers = append(numbers, p)
		}
	}
	slices.Sort(numbers)
	return numbers, list.Err()
}

// inspect adds one partition to what was found.
func (u *Uploader) inspect(ctx context.Context, p int, found *census) error {
	ctx, cancel := context.WithTimeout(ctx, inspectTimeout)
	defer cancel()
	is, err := queue.Inspect(ctx, u.js, p, u.cfg.NATS)
	found.differences = append(found.differences, is.Differences...)
	if err != nil {
		return err
	}
	name := queue.StreamName(p)
	u.quotas.of(name).seen(is.Consumer)
	u.conditions.set(delivering+name, u.quotas.of(name).check())
	found.depth += is.Consumer.NumPending + uint64(is.Consumer.NumAckPending)
	found.partitions = append(found.partitions, p)
	return nil
}

// inspectAside looks at what is set aside: dead letters and held reports.
func (u *Uploader) inspectAside(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, inspectTimeout)
	defer cancel()
	missing := func(stream string) error {
		return fmt.Errorf("stream %s is missing: crashctl stream apply creates it", stream)
	}
	switch _, err := u.js.Stream(ctx, queue.DeadLetterStream); {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		u.conditions.set("reaching dead letters", missing(queue.DeadLetterStream))
	case err == nil:
		u.conditions.set("reaching dead letters", nil)
	}
	switch references, err := u.js.Stream(ctx, queue.HeldStream); {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		u.held.Store(0)
		u.conditions.set("reaching held reports", missing(queue.HeldStream))
	case err == nil:
		n := references.CachedInfo().State.Msgs
		u.held.Store(int64(n))
		u.metrics.held.Set(float64(n))
		u.conditions.set("reaching held reports", nil)
		u.conditions.set("storing every report", u.checkHeld(references.CachedInfo()))
	}
}

// checkHeld returns an error when too many reports are held, or one for too long, as the
// first reference's age has it. The text has no number that changes, which would be
// another error each time.
func (u *Uploader) checkHeld(references *jetstream.StreamInfo) error {
	switch s := references.State; {
	case s.Msgs >= heldAlarm:
		return fmt.Errorf("%d reports or more are held, of at most %d: crashctl status shows how many", heldAlarm, queue.MaxHeld)
	case s.Msgs > 0 && references.TimeStamp.Sub(s.FirstTime) >= u.heldTooLong:
		return fmt.Errorf("a report has been held for %v or longer: crashctl status shows why", u.heldTooLong)
	}
	return nil
}

// errNothing means that there is nothing to take reports from.
var errNothing = errors.New("no partition can be drained now")

// take asks for one report, never more: what lies in a worker's hands or on the
// wire to it counts against the ack wait. Each time it begins with the next
// partition, goes round the others, and then waits where it began. No message and no
// error means that there was none for pullWait, or no need to ask any more.
//
// A pull is never cancelled, not even by the end: the server could send a
// report to a worker that no longer listens, and the report would lie there for
// an ack wait. It ends by itself.
func (u *Uploader) take(ctx context.Context) (jetstream.Msg, error) {
	return u.pullers.Take(ctx, func(p *queue.Puller) (jetstream.Msg, error) {
		parts := *u.partitions.Load()
		switch {
		case u.breaker.Blocked(): // since it was this worker's turn
			return nil, nil
		case len(parts) == 0 || !u.nc.IsConnected():
			return nil, errNothing
		}
		at := int(u.turn.Add(1) % uint64(len(parts)))
		return u.round(ctx, p, append(parts[at:len(parts):len(parts)], parts[:at]...))
	})
}

// round asks one partition after the other, and then waits at the first.
func (u *Uploader) round(ctx context.Context, p *queue.Puller, parts []int) (jetstream.Msg, error) {
	next := func(from int, wait time.Duration) (jetstream.Msg, error) {
		stream := queue.StreamName(from)
		msg, err := p.Next(stream, queue.Consumer, wait)
		u.conditions.set(pulling+stream, err)
		return msg, err
	}
	asked := parts
	if len(parts) == 1 {
		asked = nil // waiting asks too
	}
	var errs []error
	for _, from := range asked {
		msg, err := next(from, 0)
		if msg != nil || ctx.Err() != nil {
			return msg, nil
		}
		errs = append(errs, err)
	}
	msg, err := next(parts[0], pullWait)
	if msg != nil {
		return msg, nil
	}
	return nil, errors.Join(append(errs, err)...)
}
