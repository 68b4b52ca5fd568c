package uploader

import (
	"bytes"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/layout"
	"github.com/yagi-crash/yagi/pkg/queue"
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

// What cannot be read or is damaged stays in the queue and holds nobody up.
func TestHoldsWhatItCannotStore(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	version := message(t, newReport(t, "dump"))
	version.Header.Set(queue.HeaderFormat, "99")
	damaged := message(t, newReport(t, "dump"))
	damaged.Data = damaged.Data[:len(damaged.Data)-1]
	chunked := message(t, newReport(t, "dump"))
	chunked.Data = nil
	chunked.Header.Set(queue.HeaderManifest,
		strings.Replace(chunked.Header.Get(queue.HeaderManifest), `"parts"`, `"chunks":[1000],"parts"`, 1))
	for _, msg := range []*nats.Msg{version, damaged, chunked} {
		w.send(0, msg)
	}
	good := w.publish(0, 3)

	r := w.run(nil)
	await(t, "all but three are acknowledged", func() bool {
		info := w.consumer(0)
		return info.NumPending == 0 && info.NumAckPending == 3 &&
			testutil.ToFloat64(r.metrics.reports.WithLabelValues(resultHeld)) == 3
	})
	w.checkStored(good)
	for _, class := range []string{classVersion, classDamaged, classIncomplete} {
		if n := testutil.ToFloat64(r.metrics.errors.WithLabelValues(class)); n != 1 {
			t.Errorf("%v errors counted as %s, want 1", n, class)
		}
	}
	r.stop()
	// Neither acknowledged nor terminated: a newer uploader will get them.
	if info := w.consumer(0); info.NumAckPending != 3 || info.AckFloor.Stream != 0 {
		t.Errorf("%d reports wait above sequence %d, want 3 above 0", info.NumAckPending, info.AckFloor.Stream)
	}
}

// A dump that was damaged in the queue is for the store to refuse.
func TestDamageInTheQueueIsNeverStored(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	report := newReport(t, "dump")
	msg := message(t, report)
	at := bytes.LastIndex(msg.Data, []byte("dump"))
	msg.Data[at] ^= 1
	w.send(0, msg)

	r := w.run(nil)
	await(t, "the report is held", func() bool {
		return testutil.ToFloat64(r.metrics.reports.WithLabelValues(resultHeld)) == 1
	})
	for _, key := range w.keys() {
		if key != layout.DumpNames(report.ID) {
			t.Errorf("%s was stored", key)
		}
	}
	if n := testutil.ToFloat64(r.metrics.errors.WithLabelValues(classDamaged)); n != 1 {
		t.Errorf("%v errors counted as %s, want 1", n, classDamaged)
	}
	if n := testutil.ToFloat64(r.metrics.errors.WithLabelValues(objstore.ClassDigest)); n != 0 {
		t.Errorf("%v errors counted as %s, want 0", n, objstore.ClassDigest)
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
