package uploader

import (
	"bytes"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/queue"
	"github.com/yagi-crash/yagi/pkg/settings"
	"github.com/yagi-crash/yagi/uploader/internal/objstore"
)

func TestStoresAReportByteForByteInOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	f := w.newFront()
	report := w.publish(0, 1)[0]
	r := w.run(nil)
	await(t, "the report is acknowledged", func() bool { return w.drained(0) })
	r.stop()

	w.checkStored([]*crash.Sealed{report})
	want := []string{
		"v1/dump_names/" + string(report.ID),
		"v1/dump/" + string(report.ID),
		"v1/browser/" + string(report.ID),
		"v1/raw_crash/" + report.ID.Day() + "/" + string(report.ID),
	}
	if got := f.went(); !slices.Equal(got, want) {
		t.Errorf("PUTs in the order\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if n := testutil.ToFloat64(r.metrics.reports.WithLabelValues(resultStored)); n != 1 {
		t.Errorf("%v reports counted as stored, want 1", n)
	}
}

// A dump that is empty, or as large as a message can be, is a dump too.
func TestStoresDumpsOfAnySize(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	large := newReport(t, strings.Repeat("x", queue.InlineLimit(queue.MaxPayload)-4096))
	empty := newReport(t, "")
	w.send(0, message(t, large))
	w.send(0, message(t, empty))
	w.run(nil)
	await(t, "both are acknowledged", func() bool { return w.drained(0) })
	w.checkStored([]*crash.Sealed{large, empty})
}

// The queue may deliver a report more than once, and intake may publish it more
// than once.
func TestStoringTwiceWritesTheSameBytes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	f := w.newFront()
	report := newReport(t, "dump")
	again := message(t, report)
	again.Header.Set(queue.HeaderMsgID, "another") // or the server would drop it
	w.send(0, message(t, report))
	w.send(0, again)
	w.run(nil)
	await(t, "both are acknowledged", func() bool { return w.drained(0) })
	w.checkStored([]*crash.Sealed{report})
	if n := len(f.went()); n != 8 {
		t.Errorf("%d PUTs, want 8: four objects twice", n)
	}
}

// What a newer release wrote stays in the queue for it, and holds nobody up.
func TestHoldsWhatIsForANewerRelease(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	newer := message(t, newReport(t, "dump"))
	newer.Header.Set(queue.HeaderFormat, "99")
	w.send(0, newer)
	good := w.publish(0, 3)

	r := w.run(holdFor(time.Hour))
	await(t, "all but one are stored", func() bool { return w.acknowledged(0) && r.result(resultHeld) == 1 })
	w.checkStored(good)
	if n := testutil.ToFloat64(r.metrics.errors.WithLabelValues(classVersion)); n != 1 {
		t.Errorf("%v errors counted as %s, want 1", n, classVersion)
	}
	r.stop()
	// A newer uploader will get it.
	held, err := queue.HeldReports(t.Context(), w.js, queue.StreamName(0))
	must(t, err)
	if len(held) != 1 || held[0].Sequence != 1 {
		t.Errorf("held are %v, want message 1", held)
	}
}

// Damage on the way to the store is refused as well, and goes away with the next
// attempt.
func TestDamageOnTheWayIsTriedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	f := w.newFront()
	report := newReport(t, "dump")
	w.send(0, message(t, report))
	damaged := false
	f.onPut(func(r *http.Request) {
		if damaged || r.Header.Get("Content-Type") != "application/octet-stream" {
			return
		}
		damaged = true // PUTs of one report come one at a time
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		body[0] ^= 1
		r.Body = io.NopCloser(bytes.NewReader(body))
	})
	r := w.run(nil)
	await(t, "the report is acknowledged", func() bool { return w.drained(0) })
	w.checkStored([]*crash.Sealed{report})
	if n := testutil.ToFloat64(r.metrics.errors.WithLabelValues(objstore.ClassDigest)); n != 1 {
		t.Errorf("%v errors counted as %s, want 1", n, objstore.ClassDigest)
	}
}

// The store takes an object, and its answer is lost, or breaks off behind its head:
// whether the object counts as put or is put again, it is there, and the same.
func TestAnswerBreaksOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	f := w.newFront()
	var mu sync.Mutex
	lost := map[string]bool{}
	f.onAnswer(func(key string) bool {
		mu.Lock()
		defer mu.Unlock()
		first := !lost[key]
		lost[key] = true
		return first
	})
	reports := w.publish(0, 5)
	w.run(nil)
	await(t, "the reports are acknowledged", func() bool { return w.drained(0) })
	w.checkStored(reports)
	if len(lost) < 5*4 {
		t.Errorf("%d answers were lost, want %d", len(lost), 5*4)
	}
}

// Reports in chunks are in memory only as many at a time as the budget has room for,
// and one that is larger than the budget is alone there.
func TestMemoryBudgetBoundsWhatIsInHand(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		budget func(size int64) int64
		most   int32
	}{
		"room for two":    {func(size int64) int64 { return 3*size - 1 }, 2},
		"larger than all": {func(size int64) int64 { return size / 2 }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1)
			var reports []*crash.Sealed
			for range 6 {
				report, _ := w.publishChunked()
				reports = append(reports, report)
			}
			w.cfg.MemoryBudget = settings.Bytes(test.budget(reports[0].Size()))
			f := w.newFront()
			var now, most atomic.Int32
			f.onPut(func(*http.Request) {
				n := now.Add(1)
				defer now.Add(-1)
				for was := most.Load(); n > was && !most.CompareAndSwap(was, n); was = most.Load() {
				}
				<-time.After(100 * time.Millisecond) // in which all workers could come here
			})
			r := w.run(nil)
			await(t, "all are acknowledged", func() bool { return w.drained(0) })
			w.checkStored(reports)
			if n := most.Load(); n != test.most {
				t.Errorf("%d were in hand at a time, want %d", n, test.most)
			}
			r.stop()
			if left := testutil.ToFloat64(r.metrics.reserved); left != 0 {
				t.Errorf("%v bytes are reserved for nothing", left)
			}
		})
	}
}
