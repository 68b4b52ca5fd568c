package uploader

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/layout"
)

func nopLog() zerolog.Logger { return zerolog.Nop() }

// What is in hand at the end is finished, and nothing else is begun. The rest is
// there for another uploader at once, not after an ack wait.
func TestEndFinishesWhatIsInHand(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	f := w.newFront()
	release := f.hold()
	reports := w.publish(0, 40)
	r := w.run(nil)
	await(t, "every worker has a report in hand", func() bool { return len(f.came()) == w.cfg.Workers })

	r.end()
	await(t, "the uploader is draining", func() bool {
		status, _ := r.get("/readyz")
		return status == http.StatusServiceUnavailable
	})
	release()
	r.stop()
	if n := w.stored(); n != w.cfg.Workers {
		t.Errorf("%d reports are stored, want the %d that were in hand", n, w.cfg.Workers)
	}
	if info := w.consumer(0); info.AckFloor.Stream != uint64(w.cfg.Workers) {
		t.Errorf("acknowledged up to sequence %d, want %d", info.AckFloor.Stream, w.cfg.Workers)
	}
	if info := w.consumer(0); info.NumPending+uint64(info.NumAckPending) != 36 {
		t.Errorf("%d reports wait and %d are out, want 36 together", info.NumPending, info.NumAckPending)
	}
	w.run(nil)
	await(t, "another uploader has stored the rest", func() bool { return w.drained(0) })
	w.checkStored(reports)
}

// Under load the end comes while reports are on the wire to the workers. None of
// them may wait for its ack to be overdue, which is longer than the patience here.
func TestEndUnderLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.cfg.Workers = 16
	reports := w.publish(0, 400)
	for !w.drained(0) {
		r := w.run(nil)
		await(t, "some reports are stored", func() bool {
			return testutil.ToFloat64(r.metrics.reports.WithLabelValues(resultStored)) >= 20 || w.drained(0)
		})
		r.stop()
	}
	w.checkStored(reports)
}

// A report that reaches a worker after the end is handed back at once.
func TestEndHandsBackWhatIsNotBegun(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	f := w.newFront()
	r := w.run(nil)
	await(t, "every worker waits", func() bool { return w.consumer(0).NumWaiting == w.cfg.Workers })
	r.end()
	reports := w.publish(0, 1)
	r.stop()
	if got := f.came(); len(got) > 0 {
		t.Errorf("%s came after the end", got)
	}
	begun := time.Now()
	w.run(nil)
	await(t, "another uploader has stored it", func() bool { return w.drained(0) })
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it took %v to get it", took)
	}
	w.checkStored(reports)
}

// A bucket that does not answer does not keep the process for ever: after the
// grace what is in hand is handed back at once.
func TestEndHandsBackAfterGrace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.cfg.Grace = 50 * time.Millisecond
	w.cfg.RetryMin, w.cfg.RetryMax = time.Hour, time.Hour // not for this
	f := w.newFront()
	f.hold()
	reports := w.publish(0, 1)
	r := w.run(nil)
	await(t, "the report is in hand", func() bool { return len(f.came()) == 1 })
	r.stop()
	if n := w.stored(); n != 0 {
		t.Errorf("%d reports are stored, want 0", n)
	}
	if n := testutil.ToFloat64(r.metrics.errors.WithLabelValues(classGrace)); n != 1 {
		t.Errorf("%v reports counted as handed back unfinished, want 1", n)
	}
	f.onPut(nil)
	w.run(nil)
	await(t, "another uploader has stored it", func() bool { return w.drained(0) })
	w.checkStored(reports)
}

// A fault of ours in one report neither ends the process nor the report.
func TestPanicKeepsTheReport(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	bad := w.publish(0, 1)[0]
	good := w.publish(0, 3)
	r := w.run(func(u *Uploader) { u.store = &faultyStore{store: u.store, id: bad.ID} })
	await(t, "all but one are acknowledged", func() bool {
		info := w.consumer(0)
		return info.NumPending == 0 && info.NumAckPending == 1 &&
			testutil.ToFloat64(r.metrics.errors.WithLabelValues(classPanic)) > enough
	})
	r.stop()
	w.checkStored(good)
}

// faultyStore panics over one report.
type faultyStore struct {
	store

	id crash.ID
}

func (s *faultyStore) Put(ctx context.Context, o layout.Object) error {
	if strings.HasSuffix(o.Key, string(s.id)) {
		panic("a fault")
	}
	return s.store.Put(ctx, o)
}
