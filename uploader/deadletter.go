package uploader

import (
	"cmp"
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/queue"
	"github.com/yagi-crash/yagi/uploader/internal/objstore"
	"github.com/yagi-crash/yagi/uploader/internal/strikes"
)

const (
	// enough is how many attempts at a report show that another one would come
	// to the same.
	enough = 5
	// longEnough is how long a report has to have come to grief, while others are
	// stored, by what is usually the store's trouble, or ours: longer than stores
	// take only some of what they should, and than a bad release stays.
	longEnough = time.Hour
	// blockedEnough is the same for a report that a store refuses for what it is, while
	// its stream is short of room and nothing in it can be trimmed.
	blockedEnough = 10 * time.Minute
	// controlEvery is how often a control object may be put beside the objects of one
	// part, over all reports.
	controlEvery = 30 * time.Second
)

// ruleOf says when an error of a class makes a report a dead letter. What has no
// rule never does: a newer release will read it (classVersion), the store has no
// room for anything, or the next attempt is as good as the first.
func (u *Uploader) ruleOf(class, stream string) strikes.Rule {
	switch class {
	case classUnreadable:
		return strikes.Rule{Strikes: 1, Always: true}
	case classDamaged: // nothing to do with the store
		return strikes.Rule{Strikes: enough, Always: true}
	case classIncomplete: // a server that comes back may bring the chunk back
		return strikes.Rule{Strikes: enough, Always: true, Age: u.longEnough}
	case objstore.ClassRefused, // for what it is, since the same of others is not
		objstore.ClassDigest: // something changes it on its way, each time
		rule := strikes.Rule{Strikes: enough, Others: true, ControlAge: u.longEnough}
		if _, full := u.blocked.Load(stream); full { // by this report, perhaps
			rule.ControlAge = u.blockedEnough
		}
		return rule
	case objstore.ClassDenied, objstore.ClassNoSuchBucket, objstore.ClassTooLarge, objstore.Class5xx,
		objstore.ClassTimeout, objstore.ClassUnreachable, objstore.ClassProxy, objstore.ClassConfig, objstore.ClassOther, classPanic:
		return strikes.Rule{Strikes: enough, Age: u.longEnough, Others: true}
	}
	return strikes.Rule{}
}

// hopeless reports whether a report that was not stored never will be. Where no other
// report is evidence, a control object is tried in the place of the part that failed.
func (u *Uploader) hopeless(ctx context.Context, v verdict, meta *jetstream.MsgMetadata) bool {
	part := partOf(v)
	rule, report := u.ruleOf(v.class, meta.Stream), reportOf(meta)
	answered := v.class != objstore.ClassTimeout && v.class != objstore.ClassUnreachable
	if rule.Others && answered && u.strikes.NeedsControl(report, part, time.Now()) {
		if began := time.Now(); u.store.Control(ctx, part) == nil {
			u.strikes.Controlled(part, began)
		}
	}
	return u.strikes.Failed(report, part, rule, time.Now())
}

// partOf returns the part that a report failed by, or else the last that is put: with it,
// all of a report is stored.
func partOf(v verdict) string { return cmp.Or(v.part, crash.RawCrashName) }

func reportOf(meta *jetstream.MsgMetadata) strikes.Report {
	return strikes.Report{Stream: meta.Stream, Sequence: meta.Sequence.Stream, Stored: meta.Timestamp.UnixNano()}
}

// bury copies a hopeless report to the dead letters. One that cannot be copied is
// retried, and buried after another failure.
func (u *Uploader) bury(ctx context.Context, d *delivery, v verdict) verdict {
	v.report = nil // its memory is no longer reserved
	err := u.copier.Bury(ctx, d.header, d.body, queue.Death{
		Class:     v.class,
		Cause:     v.err.Error(),
		Stream:    d.meta.Stream,
		Sequence:  d.meta.Sequence.Stream,
		Stored:    d.meta.Timestamp,
		Delivered: d.meta.NumDelivered,
		At:        time.Now(),
		Partial:   v.class == classIncomplete,
		Damaged:   v.class == classDamaged,
	})
	if ctx.Err() == nil {
		u.conditions.set("writing dead letters of "+d.meta.Stream, err)
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return v.retry(classGrace, err)
	case err != nil:
		return v.retry(classDeadLetter, fmt.Errorf("making it a dead letter: %w (what for: %w)", err, v.err))
	}
	v.result, v.after = resultDead, 0
	return v
}

// guarded is work, with a panic as one more way for a report to fail: it is a
// fault of ours, and the report would bring down one uploader after the other.
func guarded(v verdict, work func() verdict) (result verdict) {
	defer func() {
		if cause := recover(); cause != nil {
			result = v.retry(classPanic, fmt.Errorf("processing panicked: %v\n%s", cause, debug.Stack()))
		}
	}()
	return work()
}

// terminate has the queue never deliver a message again.
func (u *Uploader) terminate(ctx context.Context, msg jetstream.Msg, why string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ackTimeout)
	defer cancel()
	// As jetstream.Msg's TermWithReason, and like its DoubleAck.
	if _, err := u.nc.RequestWithContext(ctx, msg.Reply(), []byte("+TERM "+why)); err != nil {
		return fmt.Errorf("terminating: %w", err)
	}
	return nil
}
