package uploader

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/yagi-crash/yagi/pkg/layout"
	"github.com/yagi-crash/yagi/pkg/queue"
	"github.com/yagi-crash/yagi/uploader/internal/objstore"
)

// silence has the store never answer the PUTs of the dumps in bad.
func (f *front) silence(bad *poison) {
	f.onPut(func(r *http.Request) {
		_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		if bad.refuse(key) != nil {
			<-r.Context().Done()
		}
	})
}

// Reports whose PUTs hang are held after their first failure: far fewer than the quota
// would otherwise take up every worker, with retries that come before new reports.
func TestHangingReportsHoldNoOthersUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.cfg.PutTimeout = time.Second
	f := w.newFront()
	var bad poison
	hanging := w.publish(0, 4*w.cfg.Workers)
	bad.add(hanging...)
	f.silence(&bad)
	r := w.run(holdFor(2 * time.Second))
	await(t, "they have failed", func() bool { return r.failures() >= float64(len(hanging)) })
	good := w.publish(0, 5)
	await(t, "the others are stored", func() bool { return w.bucketHas(good) })
	await(t, "the rest are held", func() bool { return w.acknowledged(0) })
	if n := w.heldOf(0); n != len(hanging) {
		t.Errorf("%d reports are held, want %d", n, len(hanging))
	}
	f.onPut(nil)
	await(t, "all are stored", func() bool { return w.drained(0) })
	w.checkStored(append(hanging, good...))
}

// Reports that are in flight when the store stops answering are not held: the probe that
// their failures cause opens the breaker first.
func TestSilentStoreHoldsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.cfg.PutTimeout = 500 * time.Millisecond
	f := w.newFront()
	release := f.hold()
	reports := w.publish(0, 2*w.cfg.Workers)
	r := w.run(holdFor(time.Hour))
	await(t, "those in flight are handed back", func() bool { return r.result(resultRetried) >= float64(w.cfg.Workers) })
	if n := w.heldOf(0); n != 0 || r.breaker.Err() == nil {
		t.Errorf("%d reports are held, the breaker says %v", n, r.breaker.Err())
	}
	release()
	f.onPut(nil)
	await(t, "all are stored", func() bool { return w.drained(0) })
	w.checkStored(reports)
}

// What fails otherwise is held after its third failure, although few reports do.
func TestThirdFailureIsHeld(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	f := w.newFront()
	bad := w.publish(0, 1)[0]
	f.onKey(only(bad, &refusalOf{http.StatusInternalServerError, "InternalError"}))
	r := w.run(holdFor(time.Hour))
	await(t, "it is held", func() bool { return w.acknowledged(0) && w.heldOf(0) == 1 })
	if n := r.result(resultRetried); n != heldAfter-1 {
		t.Errorf("%v failures before, want %d", n, heldAfter-1)
	}
}

// tooMany has the store answer 429 to the dumps of some reports.
func (w *world) tooMany(n int, control bool) (good func() bool, r *running) {
	w.tb.Helper()
	f := w.newFront()
	var bad poison
	bad.add(w.publish(0, n)...)
	f.onKey(func(key string) *refusalOf {
		if bad.refuse(key) != nil || !control && layout.IsProbe(key) && !strings.HasPrefix(key, layout.ProbePrefix) {
			return &refusalOf{http.StatusTooManyRequests, "TooManyRequests"}
		}
		return nil
	})
	reports := w.publish(0, n/3)
	r = w.run(holdFor(300 * time.Millisecond))
	return func() bool { return w.bucketHas(reports) }, r
}

// Reports that the store slows down for ever are held once they use up the quota, since it
// accepts a control object in their place.
func TestSlowedDownReportsHoldNoOthersUp(t *testing.T) {
	t.Parallel()
	w := newSmallWorld(t)
	good, r := w.tooMany(smallQuota+smallQuota/2, true)
	await(t, "the others are stored", good)
	await(t, "no worker is kept out by them", func() bool {
		w.publish(0, 10)
		return r.breaker.Limit() == w.cfg.Workers
	})
}

// While it slows down the control object, too, nothing is held.
func TestSlowStoreHoldsNothing(t *testing.T) {
	t.Parallel()
	w := newSmallWorld(t)
	_, r := w.tooMany(smallQuota+smallQuota/2, false)
	await(t, "the quota is used up", func() bool { return w.consumer(0).NumAckPending == smallQuota })
	failed := r.failures()
	await(t, "they have failed some more", func() bool { return r.failures() > failed+smallQuota/2 })
	if n := w.heldOf(0); n != 0 {
		t.Errorf("%d reports are held", n)
	}
}

// A report whose bytes are changed on the way each time, and are right in the queue, is a
// dead letter as one that the store refuses for what it is.
func TestAlteredReportIsDead(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	f := w.newFront()
	bad := w.publish(0, 1)[0]
	f.onKey(only(bad, &refusalOf{http.StatusBadRequest, "XAmzContentSHA256Mismatch"}))
	w.run(nil)
	await(t, "it is a dead letter", func() bool {
		w.publish(0, 1) // whose dump is stored
		return len(w.deadLetters()) > 0
	})
	if class := w.deadLetters()[1].Header.Get(queue.HeaderDeadClass); class != objstore.ClassDigest {
		t.Errorf("it died of %s, want %s", class, objstore.ClassDigest)
	}
}

// A store, or what is in front of it, that changes the bytes of all reports opens the
// breaker.
func TestStoreThatAltersEverything(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	f := w.newFront()
	f.onKey(always(http.StatusBadRequest, "XAmzContentSHA256Mismatch"))
	reports := w.publish(0, 5)
	r := w.run(holdFor(time.Hour))
	await(t, "the breaker opens", func() bool { return r.breaker.Err() != nil })
	f.onKey(nil)
	await(t, "all are stored", func() bool { return w.drained(0) })
	w.checkStored(reports)
}

// A report whose chunks the queue does not read is held once the quota is used up, if it
// reads the report's own message.
func TestUnreadableReportIsHeld(t *testing.T) {
	t.Parallel()
	w := newSmallWorld(t)
	u, err := Listen(t.Context(), w.cfg, nopLog())
	must(t, err)
	defer u.admin.Close()
	must(t, u.connect())
	defer u.disconnect()
	w.publish(0, smallQuota)
	c, err := w.js.Consumer(t.Context(), queue.StreamName(0), queue.Consumer)
	must(t, err)
	v := verdict{}.retry(classQueue, nats.ErrTimeout)
	var d *delivery
	for i := range smallQuota {
		msg, err := c.Next()
		must(t, err)
		d = deliveryOf(msg)
		if i == 0 && u.setAside(t.Context(), d, v) {
			t.Error("it is held without need")
		}
	}
	await(t, "it is held", func() bool { return u.setAside(t.Context(), d, v) })
	d.meta.Sequence.Stream += 100
	if u.setAside(t.Context(), d, v) {
		t.Error("it is held while its message is not read either")
	}
}
