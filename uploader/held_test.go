package uploader

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/layout"
	"github.com/yagi-crash/yagi/pkg/queue"
	"github.com/yagi-crash/yagi/uploader/internal/trim"
)

// smallQuota is a NATS_MAX_ACK_PENDING that a few dozen reports use up.
const smallQuota = 40

// newSmallWorld is a world in which at most smallQuota reports may be unacknowledged.
func newSmallWorld(tb testing.TB) *world {
	tb.Helper()
	return newQuotaWorld(tb, smallQuota)
}

// newQuotaWorld is a world in which at most quota reports may be unacknowledged.
func newQuotaWorld(tb testing.TB, quota int) *world {
	tb.Helper()
	w := bareWorld(tb)
	w.cfg.NATS.MaxAckPending = quota
	// Retries come before new reports: they must not take all that a busy machine can do.
	w.cfg.RetryMin, w.cfg.RetryMax = time.Second, 8*time.Second
	w.apply(1)
	return w
}

// holdFor has held reports retried after so long.
func holdFor(d time.Duration) func(*Uploader) { return func(u *Uploader) { u.heldFor = d } }

// poison refuses the dumps of some reports.
type poison struct {
	mu   sync.Mutex
	keys map[string]bool
}

func (p *poison) add(reports ...*crash.Sealed) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.keys == nil {
		p.keys = map[string]bool{}
	}
	for _, s := range reports {
		p.keys[layout.Dump(crash.MinidumpName, s.ID)] = true
	}
}

func (p *poison) refuse(key string) *refusalOf {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.keys[key] {
		return &refusalOf{http.StatusBadRequest, "InvalidRequest"}
	}
	return nil
}

// bucketHas reports whether the bucket has all of these reports whole.
func (w *world) bucketHas(reports []*crash.Sealed) bool {
	w.tb.Helper()
	there := map[string]bool{}
	for _, key := range w.keys() {
		there[key] = true
	}
	for _, s := range reports {
		if !there[layout.RawCrash(s.ID)] {
			return false
		}
	}
	return true
}

// However many reports the store refuses, others are stored, before and after what they
// prove makes dead letters of those.
func TestRefusedReportsHoldNoOthersUp(t *testing.T) {
	t.Parallel()
	const quota = 8 // held reports are retried one after the other
	w := newQuotaWorld(t, quota)
	f := w.newFront()
	var bad poison
	refused := w.publish(0, quota+quota/2)
	bad.add(refused...)
	f.onKey(bad.refuse)
	good := w.publish(0, quota/2)
	r := w.run(holdFor(300 * time.Millisecond))
	await(t, "the others are stored", func() bool { return w.bucketHas(good) })
	if n := w.heldOf(0); n < quota/2 {
		t.Errorf("%d reports are held, want a third of %d or more", n, len(refused))
	}
	await(t, "what they prove makes dead letters of refused ones", func() bool {
		if w.bucketHas(good[len(good)-1:]) {
			good = append(good, w.publish(0, 1)...)
		}
		return len(w.deadLetters()) > 3
	})
	await(t, "all others are stored", func() bool { return w.bucketHas(good) })
	if n := float64(w.heldOf(0)) + r.result(resultDead) + float64(w.consumer(0).NumAckPending); n < float64(len(refused)) {
		t.Errorf("%v reports are held, dead letters or unacknowledged, want %d", n, len(refused))
	}
}

// However many messages are of a newer format, others are stored; nothing makes dead
// letters of those, and they are seen to be held.
func TestNewerFormatHoldsNoOthersUp(t *testing.T) {
	t.Parallel()
	w := newSmallWorld(t)
	for range heldAlarm + smallQuota {
		msg := message(t, newReport(t, "dump"))
		msg.Header.Set(queue.HeaderFormat, strconv.Itoa(queue.Format+1))
		w.send(0, msg)
	}
	good := w.publish(0, smallQuota/2)
	r := w.run(holdFor(time.Hour))
	await(t, "the others are stored", func() bool { return w.acknowledged(0) })
	w.checkStored(good)
	if n := w.heldOf(0); n != heldAlarm+smallQuota {
		t.Errorf("%d reports are held, want %d", n, heldAlarm+smallQuota)
	}
	await(t, "the metric says so", func() bool { return testutil.ToFloat64(r.metrics.held) == heldAlarm+smallQuota })
	if err := r.conditions.check(time.Now().Add(lasting)); err == nil || !strings.Contains(err.Error(), "held") {
		t.Errorf("the heartbeat will say %v, want that reports are held", err)
	}
	if n := len(w.deadLetters()); n != 0 {
		t.Errorf("%d dead letters", n)
	}
}

// The trimmer's floor is below the first held report, which is acknowledged, and not below
// one of a stream that was re-created.
func TestHeldReportsLowerTheFloor(t *testing.T) {
	t.Parallel()
	w := newSmallWorld(t)
	w.publish(0, 3)
	r := w.run(nil)
	await(t, "all are stored", func() bool { return w.drained(0) })
	r.stop()
	stream := trim.NewJetStream(w.js, queue.NewReader(w.js), 0, w.cfg.NATS)
	floor := func(held ...queue.Held) (uint64, string) {
		for _, h := range held {
			must(t, queue.Hold(t.Context(), w.js, h))
		}
		v, err := stream.View(t.Context())
		must(t, err)
		return v.Floor, v.FloorOf
	}
	if got, of := floor(queue.Held{Stream: queue.StreamName(0), Sequence: 1, Stored: time.Unix(5, 0)}); got != 3 || of != queue.Consumer {
		t.Errorf("with a report of another stream: %d of %s, want 3 of the consumer", got, of)
	}
	s, err := w.js.Stream(t.Context(), queue.StreamName(0))
	must(t, err)
	second, err := s.GetMsg(t.Context(), 2)
	must(t, err)
	if got, of := floor(queue.Held{Stream: queue.StreamName(0), Sequence: 2, Stored: second.Time}); got != 1 || of != queue.HeldStream {
		t.Errorf("with message 2 held: %d of %s, want 1 of the references", got, of)
	}
}

// Held reports are stored once the store accepts them.
func TestHeldReportsAreStored(t *testing.T) {
	t.Parallel()
	w := newSmallWorld(t)
	f := w.newFront()
	f.onKey(func(key string) *refusalOf { // an outage of dumps alone: probes and controls...
		if strings.HasPrefix(key, "v1/dump/") {
			return &refusalOf{http.StatusForbidden, "AccessDenied"}
		}
		return nil
	})
	reports := w.publish(0, 2*smallQuota)
	large, _ := w.publishChunked()
	reports = append(reports, large)
	r := w.run(holdFor(100 * time.Millisecond))
	await(t, "some are held", func() bool { return w.heldOf(0) > smallQuota/2 })

	f.onKey(nil)
	await(t, "all are stored", func() bool { return w.drained(0) && w.heldOf(0) == 0 })
	r.stop()
	w.checkStored(reports)
	if n := len(w.deadLetters()); n != 0 {
		t.Errorf("%d dead letters", n)
	}
}

// An outage of the store holds nothing: reports stay in the queue.
func TestOutageHoldsNothing(t *testing.T) {
	t.Parallel()
	w := newSmallWorld(t)
	f := w.newFront()
	f.onKey(func(string) *refusalOf { return &refusalOf{http.StatusServiceUnavailable, "ServiceUnavailable"} })
	reports := w.publish(0, 3*smallQuota)
	r := w.run(holdFor(time.Hour))
	await(t, "the breaker opens", func() bool { return r.breaker.Err() != nil })
	f.onKey(nil)
	await(t, "all are stored", func() bool { return w.drained(0) })
	w.checkStored(reports)
	if n := w.heldOf(0); n != 0 {
		t.Errorf("%d reports are held", n)
	}
}

// Without room for more references, or without the stream of them, reports stay with
// the consumer, and that is seen.
func TestReportsThatCannotBeHeld(t *testing.T) {
	t.Parallel()
	for name, break_ := range map[string]func(*world){
		"no stream": func(w *world) { must(w.tb, w.js.DeleteStream(w.tb.Context(), queue.HeldStream)) },
		"full": func(w *world) {
			cfg := queue.HeldConfig(w.cfg.NATS)
			cfg.MaxMsgs = 1
			_, err := w.js.UpdateStream(w.tb.Context(), cfg)
			must(w.tb, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newSmallWorld(t)
			break_(w)
			for range 5 {
				msg := message(t, newReport(t, "dump"))
				msg.Header.Set(queue.HeaderFormat, strconv.Itoa(queue.Format+1))
				w.send(0, msg)
			}
			good := w.publish(0, 3)
			r := w.run(holdFor(time.Hour))
			await(t, "the others are stored", func() bool { return w.bucketHas(good) })
			await(t, "reports wait at the consumer", func() bool {
				info := w.consumer(0)
				return info.NumPending == 0 && info.NumAckPending >= 4
			})
			if err := r.conditions.check(time.Now().Add(lasting)); err == nil || !strings.Contains(err.Error(), queue.HeldStream) {
				t.Errorf("the heartbeat will say %v, want that reports cannot be held", err)
			}
		})
	}
}

// A held report whose message somebody has removed is not retried for ever, and not
// forgotten at once: a server may bring it back.
func TestHeldReportIsGone(t *testing.T) {
	t.Parallel()
	w := newSmallWorld(t)
	msg := message(t, newReport(t, "dump"))
	msg.Header.Set(queue.HeaderFormat, strconv.Itoa(queue.Format+1))
	w.send(0, msg)
	r := w.run(holdFor(100 * time.Millisecond))
	await(t, "it is held", func() bool { return w.heldOf(0) == 1 })
	s, err := w.js.Stream(t.Context(), queue.StreamName(0))
	must(t, err)
	must(t, s.Purge(t.Context()))
	references, err := w.js.Consumer(t.Context(), queue.HeldStream, queue.Consumer)
	must(t, err)
	await(t, "many attempts", func() bool {
		info, err := references.Info(t.Context())
		must(t, err)
		return info.Delivered.Consumer > 3*enough
	})
	if w.heldOf(0) != 1 {
		t.Error("it is forgotten before long")
	}
	r.stop()
	w.run(func(u *Uploader) { u.heldFor, u.longEnough = 100*time.Millisecond, 0 })
	await(t, "it is forgotten", func() bool { return w.heldOf(0) == 0 })
}

// A consumer that refuses every pull is seen.
func TestRefusedPullsAreSeen(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	r := w.run(nil)
	cfg := queue.ConsumerConfig(1, w.cfg.NATS)
	cfg.MaxRequestExpires = time.Millisecond
	_, err := w.js.UpdateConsumer(t.Context(), queue.StreamName(1), cfg)
	must(t, err)
	await(t, "it is seen", func() bool {
		err := r.conditions.check(time.Now().Add(lasting))
		return err != nil && strings.Contains(err.Error(), pulling+queue.StreamName(1))
	})
	good := w.publish(0, 3)
	await(t, "the other partition is drained", func() bool { return w.drained(0) })
	w.checkStored(good)
	_, err = w.js.UpdateConsumer(t.Context(), queue.StreamName(1), queue.ConsumerConfig(1, w.cfg.NATS))
	must(t, err)
	await(t, "it is seen to be over", func() bool { return r.conditions.check(time.Now().Add(lasting)) == nil })
}
