package uploader

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/layout"
	"github.com/yagi-crash/yagi/pkg/queue"
	"github.com/yagi-crash/yagi/uploader/internal/objstore"
)

// deadLetters returns the ready messages among the dead letters by the sequence
// that they had in partition p.
func (w *world) deadLetters() map[uint64]*jetstream.RawStreamMsg {
	w.tb.Helper()
	s, err := w.js.Stream(w.tb.Context(), queue.DeadLetterStream)
	must(w.tb, err)
	all := map[uint64]*jetstream.RawStreamMsg{}
	for seq := uint64(1); seq <= s.CachedInfo().State.LastSeq; seq++ {
		msg, err := s.GetMsg(w.tb.Context(), seq)
		must(w.tb, err)
		if strings.HasSuffix(msg.Subject, ".chunk") {
			continue
		}
		was, err := strconv.ParseUint(msg.Header.Get(queue.HeaderDeadSequence), 10, 64)
		must(w.tb, err)
		if all[was] != nil {
			w.tb.Errorf("message %d is a dead letter twice", was)
		}
		all[was] = msg
	}
	return all
}

func (r *running) result(name string) float64 {
	return testutil.ToFloat64(r.metrics.reports.WithLabelValues(name))
}

// failures counts the attempts that failed.
func (r *running) failures() float64 { return r.result(resultRetried) + r.result(resultHeld) }

// What can never be stored is a dead letter, whole and with its cause, and neither
// holds others up nor keeps them from being trimmed.
func TestDeadLetters(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	short := message(t, newReport(t, "dump"))
	short.Data = short.Data[:len(short.Data)-1]
	bitten := message(t, newReport(t, "dump"))
	bitten.Data[bytes.LastIndex(bitten.Data, []byte("dump"))] ^= 1
	unlisted := message(t, newReport(t, "dump"))
	unlisted.Data = nil
	unlisted.Header.Set(queue.HeaderManifest, strings.Replace(unlisted.Header.Get(queue.HeaderManifest), `"parts"`, `"chunks":[1000],"parts"`, 1))
	garbled := message(t, newReport(t, "dump"))
	garbled.Header.Set(queue.HeaderManifest, "{")
	all := []struct {
		class string
		msg   *nats.Msg
	}{
		{classDamaged, short},
		{classDamaged, bitten},
		{classIncomplete, unlisted},
		{classUnreadable, garbled},
		{classUnreadable, &nats.Msg{Data: []byte("hello")}},
	}
	for _, dead := range all {
		w.send(0, dead.msg)
	}
	good := w.publish(0, 3)

	r := w.run(func(u *Uploader) { u.longEnough = 0 })
	await(t, "the queue is drained", func() bool { return w.drained(0) })
	r.stop()
	letters := w.deadLetters()
	for i, want := range all {
		letter := letters[uint64(i)+1]
		if letter == nil {
			t.Errorf("message %d is no dead letter", i+1)
			continue
		}
		got, err := queue.ReadDeath(letter.Header)
		must(t, err)
		if got.Class != want.class || got.Cause == "" || got.Stream != "CRASHES_0" || time.Since(got.At) > time.Minute {
			t.Errorf("message %d died of %+v, want %s", i+1, got, want.class)
		}
		if attempts := map[bool]uint64{true: 1, false: enough}[want.class == classUnreadable]; got.Delivered != attempts {
			t.Errorf("message %d died after %d attempts, want %d", i+1, got.Delivered, attempts)
		}
		if !bytes.Equal(letter.Data, want.msg.Data) {
			t.Errorf("message %d has other bytes as a dead letter", i+1)
		}
	}
	if len(letters) != len(all) || r.result(resultDead) != float64(len(all)) {
		t.Errorf("%d dead letters, %v counted, want %d", len(letters), r.result(resultDead), len(all))
	}
	if floor, last := w.consumer(0).AckFloor.Stream, uint64(len(all)+len(good)); floor != last {
		t.Errorf("the floor is at %d, want %d", floor, last)
	}
	if !bytes.Contains(bitten.Data, []byte("Testproduct")) {
		t.Fatal("the report whose dump is damaged should have a good raw_crash")
	}
	for _, key := range w.keys() { // its dump_names may be there, its raw_crash and dumps never
		if m, err := queue.ReadManifest(bitten.Header); err != nil || key == layout.DumpNames(m.ID) {
			must(t, w.remove(key))
		}
	}
	w.checkStored(good)
}

// A large report is copied with what there is of its chunks.
func TestDeadLetterInChunks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	f := w.newFront()
	report, _ := w.publishChunked()
	f.onKey(only(report, &refusalOf{http.StatusBadRequest, "InvalidRequest"}))
	w.run(nil)
	await(t, "the report is a dead letter", func() bool {
		w.publish(0, 1) // whose dump is stored
		return len(w.deadLetters()) > 0
	})
	letters := w.deadLetters()
	if len(letters) != 1 {
		t.Errorf("there are %d dead letters, want 1", len(letters))
	}
	for _, letter := range letters {
		m, err := queue.ReadManifest(letter.Header)
		must(t, err)
		got, err := queue.NewReader(w.js).Read(t.Context(), queue.DeadLetterStream, m, letter.Data)
		must(t, err)
		if got.ID != report.ID {
			t.Errorf("report %s is a dead letter, want %s", got.ID, report.ID)
		}
	}
}

// A chunk that is missing may come back with the server that has it: it makes a dead letter
// only when the report has failed for long enough.
func TestMissingChunkIsWaitedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	unlisted := message(t, newReport(t, "dump"))
	unlisted.Data = nil
	unlisted.Header.Set(queue.HeaderManifest, strings.Replace(unlisted.Header.Get(queue.HeaderManifest), `"parts"`, `"chunks":[1000],"parts"`, 1))
	w.send(0, unlisted)
	r := w.run(nil)
	await(t, "many attempts", func() bool { return r.failures() > 2*enough })
	if n := len(w.deadLetters()); n != 0 {
		t.Errorf("%d dead letters", n)
	}
}

// A report that the store refuses is a dead letter although no other one is ever stored:
// control objects show that the store would accept it. That takes long enough.
func TestRefusedWithoutOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	f := w.newFront()
	report := w.publish(0, 1)[0]
	f.onKey(only(report, &refusalOf{http.StatusBadRequest, "InvalidRequest"}))
	controls := func(longEnough time.Duration) func(*Uploader) {
		return func(u *Uploader) { u.longEnough, u.strikes.ControlEvery = longEnough, 0 }
	}
	r := w.run(controls(time.Hour))
	await(t, "many attempts", func() bool { return r.failures() > 2*enough })
	r.stop()
	if n := len(w.deadLetters()); n != 0 {
		t.Errorf("%d dead letters at once", n)
	}
	w.run(controls(0))
	await(t, "the report is a dead letter", func() bool { return len(w.deadLetters()) == 1 })
}

// It takes less time while the report's stream is short of room and nothing can be
// trimmed, since the report is in the way.
func TestRefusedWithoutRoom(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	f := w.newFront()
	report := w.publish(0, 1)[0]
	f.onKey(only(report, &refusalOf{http.StatusBadRequest, "InvalidRequest"}))
	w.update("STREAM.UPDATE.CRASHES_0", w.live(0), "max_bytes", strconv.FormatUint(w.state(0).Bytes+100, 10))
	w.run(func(u *Uploader) { u.strikes.ControlEvery, u.trimEvery, u.blockedEnough = 0, 100*time.Millisecond, 0 })
	await(t, "the report is a dead letter", func() bool { return len(w.deadLetters()) == 1 })
}

// only refuses the dumps of one report.
func only(report *crash.Sealed, no *refusalOf) func(key string) *refusalOf {
	return func(key string) *refusalOf {
		if key == layout.Dump(crash.MinidumpName, report.ID) {
			return no
		}
		return nil
	}
}

// A report that the store refuses for what it is, while it takes the same of others,
// is a dead letter after five attempts, and not while it takes none.
func TestRefusedAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	f := w.newFront()
	report := w.publish(0, 1)[0]
	f.onKey(func(key string) *refusalOf {
		if strings.HasPrefix(key, "v1/dump/") {
			return &refusalOf{http.StatusBadRequest, "InvalidRequest"}
		}
		return nil
	})
	r := w.run(nil)
	await(t, "many attempts", func() bool { return w.attempts(f, report) > 2*enough })
	if n := len(w.deadLetters()); n != 0 {
		t.Errorf("%d dead letters while no dump is taken", n)
	}
	f.onKey(only(report, &refusalOf{http.StatusBadRequest, "InvalidRequest"}))
	await(t, "the report is a dead letter", func() bool {
		w.publish(0, 1) // whose dump is stored
		return len(w.deadLetters()) > 0
	})
	letter := w.deadLetters()[1]
	if letter == nil || letter.Header.Get(queue.HeaderDeadClass) != objstore.ClassRefused {
		t.Fatalf("the dead letter is %+v", letter)
	}
	if testutil.ToFloat64(r.metrics.probes.WithLabelValues(putFailed)) != 0 {
		t.Error("the breaker opened")
	}
}

// What may be the trouble of all reports makes none of them a dead letter, although
// the store takes probes, and other reports that lack what it refuses.
func TestPartialOutagesMakeNoDeadLetters(t *testing.T) {
	t.Parallel()
	for _, no := range []refusalOf{
		{http.StatusForbidden, "AccessDenied"},
		{http.StatusRequestEntityTooLarge, ""},
		{http.StatusNotFound, "NoSuchKey"},
		{http.StatusBadRequest, "XMinioAdminBucketQuotaExceeded"},
		{http.StatusInternalServerError, "InternalError"},
		{http.StatusConflict, "OperationAborted"},
		{http.StatusMethodNotAllowed, "MethodNotAllowed"},
	} {
		t.Run(no.code, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1)
			f := w.newFront()
			reports := w.publish(0, 2)
			refused := reports[0]
			f.onKey(only(refused, &no))
			r := w.run(nil)
			await(t, "many attempts", func() bool {
				reports = append(reports, w.publish(0, 1)...)
				return r.failures() > 2*enough
			})
			f.onKey(nil)
			await(t, "all is stored", func() bool { return w.drained(0) })
			if n := len(w.deadLetters()); n != 0 {
				t.Errorf("%d dead letters", n)
			}
			w.checkStored(reports)
		})
	}
}

// attempts counts the PUTs of a report's minidump.
func (w *world) attempts(f *front, report *crash.Sealed) (n int) {
	for _, key := range f.came() {
		if key == layout.Dump(crash.MinidumpName, report.ID) {
			n++
		}
	}
	return n
}

// A store that refuses everything, and is well every now and then, makes no dead
// letters.
func TestOutagesMakeNoDeadLetters(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	f := w.newFront()
	reports := w.publish(0, 3)
	r := w.run(nil)
	for _, no := range []refusalOf{
		{http.StatusForbidden, "AccessDenied"},
		{http.StatusBadRequest, "InvalidRequest"},
		{http.StatusNotFound, "NoSuchBucket"},
		{http.StatusForbidden, "InvalidAccessKeyId"},
		{http.StatusServiceUnavailable, "ServiceUnavailable"},
		{http.StatusForbidden, "RequestTimeTooSkewed"},
		{http.StatusBadRequest, "ExpiredToken"},
	} {
		before := testutil.ToFloat64(r.metrics.probes.WithLabelValues(putFailed))
		f.onKey(func(string) *refusalOf { return &no })
		reports = append(reports, w.publish(0, 2)...)
		await(t, no.code+": probes fail", func() bool {
			return testutil.ToFloat64(r.metrics.probes.WithLabelValues(putFailed)) > before+enough
		})
		f.onKey(nil)
		await(t, no.code+": all is stored", func() bool { return w.drained(0) })
	}
	if n := len(w.deadLetters()); n != 0 {
		t.Errorf("%d dead letters", n)
	}
	w.checkStored(reports)
}

// While the store is well only some of the time, what it refuses is not given up.
func TestRestlessStoreMakesNoDeadLetters(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	f := w.newFront()
	report := w.publish(0, 1)[0]
	no := refusalOf{http.StatusBadRequest, "InvalidRequest"}
	var probes atomic.Int64
	f.onKey(func(key string) *refusalOf {
		if layout.IsProbe(key) && probes.Add(1)%3 != 0 {
			return nil
		}
		return &no
	})
	r := w.run(nil)
	await(t, "many attempts", func() bool { return r.failures() > 3*enough })
	if n := len(w.deadLetters()); n != 0 {
		t.Errorf("%d dead letters", n)
	}
	f.onKey(nil)
	await(t, "it is stored", func() bool { return w.drained(0) })
	w.checkStored([]*crash.Sealed{report})
}

// Without the copy a report stays in the queue, and that is said.
func TestDeadLetterWithoutAStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	must(t, w.js.DeleteStream(t.Context(), queue.DeadLetterStream))
	w.send(0, &nats.Msg{Data: []byte("hello")})
	good := w.publish(0, 3)
	r := w.run(nil)
	await(t, "the others are stored", func() bool { return r.result(resultStored) == 3 && r.result(resultRetried) > enough })
	if err := r.conditions.check(time.Now().Add(lasting)); err == nil || !strings.Contains(err.Error(), queue.DeadLetterStream+" is missing") {
		t.Errorf("the heartbeat will say %v, want that the stream is missing", err)
	}
	if n := testutil.ToFloat64(r.metrics.errors.WithLabelValues(classDeadLetter)); n <= enough {
		t.Errorf("%v errors counted as %s, want more than %d", n, classDeadLetter, enough)
	}
	_, err := w.js.CreateStream(t.Context(), queue.DeadLetterConfig(w.cfg.NATS))
	must(t, err)
	await(t, "it is a dead letter", func() bool { return w.drained(0) && len(w.deadLetters()) == 1 })
	if n := w.heldOf(0); n != 0 {
		t.Errorf("%d reports are held, though few failed", n)
	}
	w.checkStored(good)
}
