package uploader

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/layout"
	"github.com/yagi-crash/yagi/pkg/queue"
	"github.com/yagi-crash/yagi/uploader/internal/objstore"
)

// ackTimeout is how long the queue may take to confirm. A report that is stored and
// not confirmed is stored again, so waiting out an election of 4 to 9 s is worth it.
const ackTimeout = 10 * time.Second

// delivery is a report as the queue hands it out.
type delivery struct {
	msg    jetstream.Msg // to settle: the ready message, or the reference to it
	held   bool          // msg is a reference
	header nats.Header
	body   []byte
	meta   jetstream.MsgMetadata // of the ready message
}

// from returns the stream whose consumer handed it out.
func (d *delivery) from() string {
	if d.held {
		return queue.HeldStream
	}
	return d.meta.Stream
}

// deliveryOf returns what a consumer of a stream of reports has handed out.
func deliveryOf(msg jetstream.Msg) *delivery {
	d := &delivery{msg: msg, header: msg.Headers(), body: msg.Data()}
	if m, err := msg.Metadata(); err == nil { // a message that was pulled always has it
		d.meta = *m
	}
	return d
}

// verdict is how it went with a report, and what the queue is to be told.
type verdict struct {
	result string        // resultStored, resultRetried, resultHeld or resultDead
	after  time.Duration // until the report is redelivered, if it is
	aside  bool          // it is held by a reference
	class  string        // what err is about, for metrics
	err    error

	id      crash.ID      // empty when it could not be read
	report  *crash.Sealed // nil when it could not be read
	part    string        // that could not be put
	objects int           // how many were put
	bytes   int64         // their sizes together
	took    time.Duration // the attempt
}

// process is the whole life of a report in this tier.
func (u *Uploader) process(ctx context.Context, stream string, header nats.Header, body []byte) (v verdict) {
	manifest, err := queue.ReadManifest(header)
	switch {
	case errors.Is(err, queue.ErrVersion):
		return v.hold(classVersion, err)
	case err != nil:
		return v.retry(classUnreadable, err)
	}
	v.id = manifest.ID
	release, err := u.reserve(ctx, manifest)
	if err != nil { // the time to finish is over
		return v.retry(classGrace, err)
	}
	defer release()
	if v.report, err = u.reader.Read(ctx, stream, manifest, body); err != nil {
		return v.notRead(err)
	}
	objects, err := layout.Objects(v.report)
	if err != nil {
		return v.retry(classDamaged, err)
	}
	for _, o := range objects {
		if err := u.put(ctx, o); err != nil {
			v.part = o.Part.Name
			return v.notPut(err)
		}
		v.objects++
		v.bytes += o.Part.Size
	}
	if v.report.IDGiven {
		switch err := u.checkWhole(ctx, objects); {
		case errors.Is(err, errOthers):
			return v.retry(classSameID, err)
		case err != nil:
			return v.notPut(err)
		}
	}
	v.result = resultStored
	u.breaker.Succeeded()
	return v
}

// errOthers means that the bucket has an object of another report with the same id.
var errOthers = errors.New("another report of the same id was stored meanwhile")

// checkWhole returns nil when the bucket has all objects of a report whose client chose
// its id. Another report of that id may have been put at the same time, so that some
// objects are of one and some of the other; raw_crash was put last by both, and so
// whoever then finds all of its own has put the last of each. The other one tries again.
// Without permission to read, this cannot be known, and the report passes for stored.
func (u *Uploader) checkWhole(ctx context.Context, objects []layout.Object) error {
	for _, o := range objects {
		ours, err := u.store.Holds(ctx, o)
		if err != nil && objstore.Class(err) == objstore.ClassDenied {
			u.conditions.set(readingBack, err)
			return nil
		}
		u.conditions.set(readingBack, nil)
		switch {
		case err != nil:
			return err
		case !ours:
			return fmt.Errorf("%w: %s is of another one", errOthers, o.Key)
		}
	}
	return nil
}

// readingBack is the condition of checkWhole.
const readingBack = "reading back reports whose ids were chosen"

// reserve waits until there is memory for a report in chunks; one in its message
// has its memory already. A report that is larger than the whole budget is in
// memory alone.
func (u *Uploader) reserve(ctx context.Context, m *queue.Manifest) (release func(), err error) {
	if len(m.Chunks) == 0 {
		return func() {}, nil
	}
	size := min(m.Size(), int64(u.cfg.MemoryBudget))
	if err := u.memory.Acquire(ctx, size); err != nil {
		return nil, fmt.Errorf("waiting for memory for %s: %w", m.ID, err)
	}
	u.metrics.reserved.Add(float64(size))
	return func() {
		u.memory.Release(size)
		u.metrics.reserved.Sub(float64(size))
	}, nil
}

// notRead tells a report that is not whole from a queue that did not answer.
func (v verdict) notRead(err error) verdict {
	switch {
	case errors.Is(err, queue.ErrIncomplete):
		return v.retry(classIncomplete, err)
	case errors.Is(err, queue.ErrDamaged):
		return v.retry(classDamaged, err)
	}
	return v.retry(classQueue, err)
}

// notPut tells a store that is not well, which time heals, from a report that
// was damaged in the queue, which nothing heals: the store, as it must, refuses
// a body that is not what intake received.
func (v verdict) notPut(err error) verdict {
	class := objstore.Class(err)
	if class == objstore.ClassDigest {
		if damage := v.report.Verify(); damage != nil {
			return v.retry(classDamaged, damage)
		}
	}
	return v.retry(class, err)
}

// retry has the report come again soon; handle says when.
func (v verdict) retry(class string, err error) verdict {
	v.result, v.class, v.err = resultRetried, class, err
	return v
}

// hold has the report retried at leisure; handle says when.
func (v verdict) hold(class string, err error) verdict {
	v.result, v.class, v.err = resultHeld, class, err
	return v
}

func (u *Uploader) put(ctx context.Context, o layout.Object) error {
	start := time.Now()
	err := u.store.Put(ctx, o)
	u.metrics.putSeconds.Observe(time.Since(start).Seconds())
	if err != nil {
		u.metrics.puts.WithLabelValues(putFailed).Inc()
		u.breaker.Failed()
		return err
	}
	u.strikes.Stored(o.Part.Name, start)
	u.metrics.puts.WithLabelValues(putStored).Inc()
	u.metrics.putBytes.Add(float64(o.Part.Size))
	return nil
}

// confirmed reports whether the queue confirms what settle tells it: whatever takes a
// report out of the queue.
func (v verdict) confirmed() bool {
	return v.result == resultStored || v.result == resultDead || v.aside
}

// settle tells the queue how it went, and is the only function that does. After
// an error the report is redelivered, at the latest when its ack wait is over.
func (u *Uploader) settle(ctx context.Context, msg jetstream.Msg, v verdict) error {
	switch {
	case v.result == resultDead:
		return u.terminate(ctx, msg, v.class)
	case v.confirmed():
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ackTimeout)
		defer cancel()
		if err := msg.DoubleAck(ctx); err != nil {
			return fmt.Errorf("acknowledging: %w", err)
		}
		return nil
	case v.result == resultRetried || v.result == resultHeld:
		if err := msg.NakWithDelay(v.after); err != nil {
			return fmt.Errorf("handing back: %w", err)
		}
		return nil
	}
	panic("uploader: no such verdict: " + v.result)
}
