package uploader

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/layout"
	"github.com/yagi-crash/yagi/pkg/queue"
	"github.com/yagi-crash/yagi/pkg/settings"
	"github.com/yagi-crash/yagi/uploader/internal/objstore"
)

// probes returns how many probes ended so.
func (r *running) probes(result string) float64 {
	return testutil.ToFloat64(r.metrics.probes.WithLabelValues(result))
}

// Whatever it is that the bucket has against all reports, they stay in the queue,
// no more attempts are made than were begun already, and all is stored soon after
// the end of it.
func TestBucketTakesNothing(t *testing.T) {
	t.Parallel()
	for name, trouble := range map[string]struct {
		class string
		begin func(*world, *front)
		end   func(*world, *front)
	}{
		"it is away": {
			objstore.ClassUnreachable,
			func(_ *world, f *front) { f.close() },
			func(_ *world, f *front) { f.open() },
		},
		"connections break": {
			objstore.ClassUnreachable,
			func(_ *world, f *front) { f.onPut(func(*http.Request) { panic(http.ErrAbortHandler) }) },
			func(_ *world, f *front) { f.onPut(nil) },
		},
		"it is silent": {
			objstore.ClassTimeout,
			func(_ *world, f *front) { f.onPut(func(r *http.Request) { <-r.Context().Done() }) },
			func(_ *world, f *front) { f.onPut(nil) },
		},
		"it is in trouble": {
			objstore.Class5xx,
			func(_ *world, f *front) { f.onKey(always(500, "InternalError")) },
			func(_ *world, f *front) { f.onKey(nil) },
		},
		"it asks for less than anything": {
			objstore.ClassSlowDown,
			func(_ *world, f *front) { f.onKey(always(503, "SlowDown")) },
			func(_ *world, f *front) { f.onKey(nil) },
		},
		"it lets nobody in": {
			objstore.ClassDenied,
			func(_ *world, f *front) { f.onKey(always(403, "AccessDenied")) },
			func(_ *world, f *front) { f.onKey(nil) },
		},
		"it is not there": {
			objstore.ClassNoSuchBucket,
			func(w *world, _ *front) {
				_, err := w.s3.DeleteBucket(w.tb.Context(), &s3.DeleteBucketInput{Bucket: &w.cfg.Bucket})
				must(w.tb, err)
			},
			func(w *world, _ *front) { w.makeBucket() },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1)
			if trouble.class == objstore.ClassTimeout {
				w.cfg.PutTimeout = 2 * time.Second
			}
			f := w.newFront()
			trouble.begin(w, f)
			reports := w.publish(0, 40)
			r := w.run(nil)
			await(t, "some probes have failed", func() bool { return r.probes(putFailed) >= 2 })
			r.heartbeat("bucket")
			if testutil.ToFloat64(r.metrics.errors.WithLabelValues(trouble.class)) == 0 {
				t.Errorf("no error is counted as %s", trouble.class)
			}
			delivered := w.consumer(0).Delivered.Consumer
			failed := r.probes(putFailed)
			await(t, "more probes have failed", func() bool { return r.probes(putFailed) >= failed+2 })
			info := w.consumer(0)
			most := delivered
			if trouble.class == objstore.ClassDenied { // one report is tried for each probe
				most += uint64(r.probes(putFailed) - failed + 1)
			}
			if n := info.Delivered.Consumer; n > most || delivered > uint64(3*w.cfg.Workers) {
				t.Errorf("%d deliveries, and later %d, with %d workers", delivered, n, w.cfg.Workers)
			}
			if info.NumPending+uint64(info.NumAckPending) != 40 || info.AckFloor.Stream != 0 {
				t.Errorf("%d reports wait and %d are out above sequence %d, want 40 together above 0",
					info.NumPending, info.NumAckPending, info.AckFloor.Stream)
			}
			trouble.end(w, f)
			await(t, "every report is acknowledged", func() bool { return w.drained(0) })
			r.heartbeat()
			w.checkStored(reports)
		})
	}
}

// A store that refuses the probe and nothing else gets the reports all the same, also
// while one that it refuses keeps coming back.
func TestProbeAloneIsRefused(t *testing.T) {
	t.Parallel()
	for name, no := range map[string]refusalOf{
		"by a policy":      {403, "AccessDenied"},
		"for what it is":   {400, "InvalidRequest"},
		"as an overwrite":  {405, "MethodNotAllowed"},
		"as locked":        {409, "ObjectLocked"},
		"as a wrong state": {412, "PreconditionFailed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1)
			f := w.newFront()
			bad := w.publish(0, 1)[0]
			f.onKey(func(key string) *refusalOf {
				if strings.HasPrefix(key, layout.ProbePrefix) || strings.HasSuffix(key, string(bad.ID)) {
					return &no
				}
				return nil
			})
			r := w.run(nil)
			await(t, "the probe was refused", func() bool { return r.probes(putFailed) > 0 })
			good := w.publish(0, 100)
			await(t, "all others are acknowledged", func() bool {
				info := w.consumer(0)
				return info.NumPending == 0 && info.NumAckPending <= 1 && r.result(resultStored) == 100
			})
			good = append(good, w.publish(0, 100)...)
			await(t, "all later ones are acknowledged", func() bool { return r.result(resultStored) == 200 })
			if n := len(w.deadLetters()); n > 1 {
				t.Errorf("%d dead letters", n)
			}
			f.onKey(nil)
			if len(w.deadLetters()) == 0 {
				good = append(good, bad)
				await(t, "that one is acknowledged too", func() bool { return w.drained(0) })
			}
			r.heartbeat()
			r.stop()
			w.checkStored(good)
		})
	}
}

// A report that fails as a trial is no worse for it.
func TestTrialsAreNoEvidence(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	f := w.newFront()
	reports := w.publish(0, 2)
	f.onKey(always(400, "InvalidRequest"))
	r := w.run(nil)
	await(t, "many trials", func() bool { return r.probes(putFailed) > 4*enough })
	if n := len(w.deadLetters()); n != 0 {
		t.Errorf("%d dead letters", n)
	}
	came := 0
	for _, key := range f.came() {
		if strings.HasPrefix(key, "v1/dump_names/") {
			came++
		}
	}
	if came <= enough {
		t.Errorf("%d trials, which proves nothing", came)
	}
	f.onKey(nil)
	await(t, "all is stored", func() bool { return w.drained(0) })
	w.checkStored(reports)
}

// Where nothing may be overwritten, redelivered reports are stored already, and later
// probes are refused.
func TestStoreForbidsOverwriting(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	f := w.newFront()
	f.onKey(func(key string) *refusalOf {
		if slices.Contains(f.went(), key) {
			return &refusalOf{403, "AccessDenied"}
		}
		return nil
	})
	r := w.run(nil)
	var reports []*crash.Sealed
	for range 3 {
		report := newReport(t, "dump")
		again := message(t, report)
		again.Header.Set(queue.HeaderMsgID, "another-"+string(report.ID))
		w.send(0, message(t, report))
		w.send(0, again)
		reports = append(reports, report)
		reports = append(reports, w.publish(0, 20)...)
		await(t, "every report is acknowledged", func() bool { return w.drained(0) })
		f.close() // an outage, after which the probe may not be written again
		reports = append(reports, w.publish(0, 5)...)
		await(t, "the bucket is known to be away", func() bool { return r.breaker.Err() != nil })
		f.open()
		await(t, "every report is acknowledged", func() bool { return w.drained(0) })
	}
	r.heartbeat()
	w.checkStored(reports)
	if n := len(w.deadLetters()); n != 0 {
		t.Errorf("%d dead letters", n)
	}
}

// With nothing but s3:PutObject all is stored, and the heartbeat says so.
func TestPutIsAllThatIsAllowed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	f := w.newFront()
	f.onOthers(&refusalOf{403, ""})
	r := w.run(nil)
	r.heartbeat()
	reports := w.publish(0, 5)
	await(t, "every report is acknowledged", func() bool { return w.drained(0) })
	r.heartbeat()
	f.onKey(always(403, "AccessDenied"))
	reports = append(reports, w.publish(0, 1)...)
	await(t, "the breaker is open", func() bool { return r.breaker.Err() != nil })
	r.heartbeat("bucket")
	f.onKey(nil)
	await(t, "every report is acknowledged", func() bool { return w.drained(0) })
	r.heartbeat()
	w.checkStored(reports)
}

// Each uploader probes with an object of its own.
func TestUploadersProbeWithTheirOwnObjects(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	f := w.newFront()
	w.run(nil)
	w.run(nil)
	f.onKey(func(key string) *refusalOf {
		if layout.IsProbe(key) {
			return nil
		}
		return &refusalOf{503, "SlowDown"}
	})
	w.publish(0, 40)
	await(t, "both have probed", func() bool {
		probes := map[string]bool{}
		for _, key := range f.went() {
			probes[key] = probes[key] || layout.IsProbe(key)
		}
		return len(probes) == 2
	})
	f.onKey(nil)
	await(t, "every report is acknowledged", func() bool { return w.drained(0) })
}

// A worker that asked for a report before the bucket was known to take nothing hands
// it back without an attempt.
func TestReportThatWasAskedForBefore(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	f := w.newFront()
	r := w.run(nil)
	var late string
	await(t, "a report came to such a worker", func() bool { // who waits for a second, once this is known
		f.onKey(nil)
		await(t, "all workers have asked for a report", func() bool {
			info := w.consumer(0)
			return info.NumWaiting == w.cfg.Workers && info.NumAckPending == 0
		})
		f.onKey(always(403, "InvalidAccessKeyId"))
		w.publish(0, 1)
		await(t, "the breaker is open", func() bool { return r.breaker.Err() != nil })
		late = string(w.publish(0, 1)[0].ID)
		next, err := queue.NewReader(w.js).NextReady(t.Context(), 0, w.consumer(0).Delivered.Stream+1)
		must(t, err)
		return next == nil
	})
	await(t, "nothing is in hand", func() bool { return testutil.ToFloat64(r.metrics.inHand) == 0 })
	for _, key := range f.came() {
		if strings.HasSuffix(key, late) {
			t.Errorf("PUT of %s", key)
		}
	}
}

// always refuses every object.
func always(status int, code string) func(string) *refusalOf {
	return func(string) *refusalOf { return &refusalOf{status, code} }
}

// A report that the store refuses by itself is its own trouble: the others go on.
func TestOneReportIsRefused(t *testing.T) {
	t.Parallel()
	for name, no := range map[string]refusalOf{
		"for what it is": {400, "InvalidArgument"},
		"by a policy":    {403, "AccessDenied"},
		"by a fault":     {500, "InternalError"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1)
			f := w.newFront()
			bad := w.publish(0, 1)[0]
			f.onKey(func(key string) *refusalOf {
				if strings.HasSuffix(key, string(bad.ID)) {
					return &no
				}
				return nil
			})
			r := w.run(nil)
			await(t, "the report has been tried some times", func() bool {
				return r.failures() >= 4
			})
			good := w.publish(0, 100)
			await(t, "all others are acknowledged", func() bool {
				info := w.consumer(0)
				return info.NumPending == 0 && info.NumAckPending == 0 && w.heldOf(0)+int(r.result(resultDead)) == 1
			})
			r.heartbeat()
			r.stop()
			if r.probes(putStored) == 0 || r.probes(putFailed) != 0 {
				t.Errorf("%v probes went well and %v failed, want some and none", r.probes(putStored), r.probes(putFailed))
			}
			w.checkStored(good)
		})
	}
}

// A store that has enough of so many at a time is given less, and then more again.
func TestSlowDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.cfg.Workers = 16
	f := w.newFront()
	r := w.run(nil)
	const bearable = 4
	var least atomic.Int64
	least.Store(16)
	f.onKey(func(key string) *refusalOf {
		limit := int64(r.breaker.Limit())
		if limit > 0 && limit < least.Load() {
			least.Store(limit)
		}
		if limit > bearable && !layout.IsProbe(key) {
			return &refusalOf{503, "SlowDown"}
		}
		return nil
	})
	reports := w.publish(0, 30)
	await(t, "every report is acknowledged", func() bool { return w.drained(0) })
	if n := least.Load(); n > bearable {
		t.Errorf("never fewer than %d were at work, want %d", n, bearable)
	}
	f.onKey(nil)
	for r.breaker.Limit() < w.cfg.Workers {
		reports = append(reports, w.publish(0, 50)...)
		await(t, "these are acknowledged", func() bool { return w.drained(0) })
	}
	r.heartbeat()
	w.checkStored(reports)
}

// An uploader whose keys are wrong does not keep the others from their work.
func TestOneUploaderIsLockedOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	good := w.run(nil)
	w.cfg.S3.SecretKey = settings.Secret("wrong")
	bad := w.run(nil)
	var reports []*crash.Sealed
	await(t, "the one is locked out", func() bool {
		reports = append(reports, w.publish(0, 5)...) // until it gets some
		return bad.breaker.Err() != nil
	})
	reports = append(reports, w.publish(0, 50)...)
	await(t, "every report is acknowledged", func() bool { return w.drained(0) })
	bad.heartbeat("bucket")
	good.heartbeat()
	if good.probes(putFailed) != 0 {
		t.Error("the other one had its doubts")
	}
	w.checkStored(reports)
}

// Keys that are replaced in their file are in use without a restart.
func TestNewKeys(t *testing.T) {
	file := filepath.Join(t.TempDir(), "credentials")
	write := func(secret string) {
		text := fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", accessKey, secret)
		must(t, os.WriteFile(file, []byte(text), 0o600))
	}
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
	write("old")
	w := newWorld(t, 1)
	w.cfg.S3.AccessKey, w.cfg.S3.SecretKey = "", ""
	r := w.run(nil)
	var reports []*crash.Sealed
	reports = append(reports, w.publish(0, 5)...)
	await(t, "the uploader is locked out", func() bool { return r.breaker.Err() != nil })
	r.heartbeat("bucket")
	write(secretKey)
	await(t, "every report is acknowledged", func() bool { return w.drained(0) })
	r.heartbeat()
	w.checkStored(reports)
}
