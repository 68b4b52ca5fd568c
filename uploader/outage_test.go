package uploader

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/devstack/devnats"
	"github.com/yagi-crash/yagi/pkg/layout"
	"github.com/yagi-crash/yagi/pkg/queue"
	"github.com/yagi-crash/yagi/uploader/internal/objstore"
)

// heartbeat awaits the heartbeat page failing exactly the named checks, or none.
func (r *running) heartbeat(names ...string) {
	r.w.tb.Helper()
	want := http.StatusOK
	if len(names) > 0 {
		want = http.StatusServiceUnavailable
	}
	await(r.w.tb, "the heartbeat fails "+strings.Join(names, ", "), func() bool {
		status, page := r.get("/__heartbeat__")
		return status == want && slices.Equal(failing(r.w.tb, page), names)
	})
}

// The store may go away between one object of a report and the next.
func TestBucketGoesAwayWithinAReport(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	f := w.newFront()
	f.onPut(func(r *http.Request) {
		if strings.Contains(r.URL.Path, "/"+crash.RawCrashName+"/") {
			panic(http.ErrAbortHandler)
		}
	})
	r := w.run(nil)
	report := w.publish(0, 1)[0]
	await(t, "the report has failed", func() bool {
		return r.failures() >= 1
	})
	if w.drained(0) {
		t.Error("the report is acknowledged without its raw_crash")
	}
	f.onPut(nil)
	await(t, "the report is acknowledged", func() bool { return w.drained(0) })
	w.checkStored([]*crash.Sealed{report})
}

// A report is in one hand, however slow the bucket is.
func TestSlowBucketKeepsTheReportInHand(t *testing.T) {
	w := newWorld(t, 1)
	f := w.newFront()
	consumer := queue.ConsumerConfig(0, w.cfg.NATS)
	consumer.AckWait = 2 * time.Second
	_, err := w.js.UpdateConsumer(t.Context(), queue.StreamName(0), consumer)
	must(t, err)
	progress, err := w.nc.SubscribeSync("$JS.ACK.>")
	must(t, err)

	release := f.hold()
	w.run(func(u *Uploader) { u.inProgressEvery = 200 * time.Millisecond })
	report := w.publish(0, 1)[0]
	begun := time.Now()
	for time.Since(begun) < 2*consumer.AckWait { // each message takes its 200 ms
		msg, err := progress.NextMsg(patience)
		must(t, err)
		if string(msg.Data) != "+WPI" {
			t.Fatalf("the uploader says %s before the report is stored", msg.Data)
		}
	}
	if got, want := f.came(), []string{layout.DumpNames(report.ID)}; !slices.Equal(got, want) {
		t.Errorf("PUTs of %s came, want one of %s", got, want)
	}
	release()
	await(t, "the report is acknowledged", func() bool { return w.drained(0) })
	if n := w.consumer(0).Delivered.Consumer; n != 1 {
		t.Errorf("%d deliveries, want 1", n)
	}
	w.checkStored([]*crash.Sealed{report})
}

func TestConsumerMissingHeals(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	must(t, w.js.DeleteConsumer(t.Context(), queue.StreamName(0), queue.Consumer))
	reports := w.publish(0, 2)
	r := w.run(nil)
	r.heartbeat("consumer")
	w.apply(1)
	await(t, "both reports are acknowledged", func() bool { return w.drained(0) })
	r.heartbeat()

	// And again, underneath an uploader that has been at work.
	must(t, w.js.DeleteConsumer(t.Context(), queue.StreamName(0), queue.Consumer))
	r.heartbeat("consumer")
	w.apply(1)
	reports = append(reports, w.publish(0, 2)...)
	await(t, "all reports are acknowledged", func() bool { return w.drained(0) })
	r.heartbeat()
	w.checkStored(reports)
}

func TestStreamMissingHeals(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	r := w.run(nil)
	r.heartbeat("consumer")
	w.apply(1)
	reports := w.publish(0, 2)
	await(t, "both reports are acknowledged", func() bool { return w.drained(0) })
	r.heartbeat()
	w.checkStored(reports)
}

func TestQueueAwayHeals(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	reports := w.publish(0, 2)
	addr := strings.TrimPrefix(w.nats.URL(), "nats://")
	dir := w.natsDir
	w.nats.Stop()
	r := w.run(nil)
	r.heartbeat("nats", "consumer")
	if status, _ := r.get("/__lbheartbeat__"); status != http.StatusOK {
		t.Errorf("the process says %d about itself, want 200", status)
	}
	server := w.startNATS(addr, dir)
	await(t, "both reports are acknowledged", func() bool { return w.drained(0) })
	r.heartbeat()

	// And again, underneath an uploader that has been at work.
	server.Stop()
	r.heartbeat("nats", "consumer")
	w.startNATS(addr, dir)
	reports = append(reports, w.publish(0, 2)...)
	await(t, "all reports are acknowledged", func() bool { return w.drained(0) })
	r.heartbeat()
	w.checkStored(reports)
}

// startNATS starts a server where another one has been.
func (w *world) startNATS(addr, dir string) *devnats.Server {
	w.tb.Helper()
	server, err := devnats.Start(w.tb.Context(), devnats.Config{Addr: addr, Dir: dir})
	must(w.tb, err)
	w.tb.Cleanup(server.Stop)
	await(w.tb, "the test is connected again", w.nc.IsConnected)
	return server
}

// With a consumer that gives reports up, an uploader must not work; with one
// that is merely odd, it works and says so.
func TestDifferences(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	consumer := queue.ConsumerConfig(0, w.cfg.NATS)
	consumer.MaxAckPending = 7
	_, err := w.js.UpdateConsumer(t.Context(), queue.StreamName(0), consumer)
	must(t, err)
	r := w.run(nil)
	w.publish(0, 1)
	await(t, "the report is acknowledged", func() bool { return w.drained(0) })

	r.heartbeat()

	consumer.MaxDeliver = 5
	_, err = w.js.UpdateConsumer(t.Context(), queue.StreamName(0), consumer)
	must(t, err)
	select {
	case err := <-r.ended:
		if want := "consumer uploader of CRASHES_0: max_deliver is 5"; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Run returned %v, want an error that says %q", err, want)
		}
		if err != nil && strings.Contains(err.Error(), "max_ack_pending") {
			t.Errorf("Run returned %v, which names a harmless difference", err)
		}
	case <-time.After(patience):
		t.Fatal("Run goes on")
	}
}

// A put that no store would answer ends with Config.PutTimeout.
func TestSilentBucket(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.cfg.PutTimeout = 100 * time.Millisecond
	f := w.newFront()
	f.hold()
	r := w.run(nil)
	w.publish(0, 1)
	await(t, "the report has failed", func() bool {
		return testutil.ToFloat64(r.metrics.errors.WithLabelValues(objstore.ClassTimeout)) >= 1
	})
	if w.drained(0) {
		t.Error("the report is acknowledged")
	}
}

// A stored report whose acknowledgement is lost comes again: it is not counted
// as stored.
func TestUnconfirmedIsNotStored(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	u, err := Listen(t.Context(), w.cfg, nopLog())
	must(t, err)
	defer u.admin.Close()
	report := newReport(t, "dump")
	msg := message(t, report)
	u.handle(t.Context(), deliveryOf(&deafMsg{header: msg.Header, data: msg.Data}))
	if n := testutil.ToFloat64(u.metrics.reports.WithLabelValues(resultStored)); n != 0 {
		t.Errorf("%v reports counted as stored, want 0", n)
	}
	if n := testutil.ToFloat64(u.metrics.reports.WithLabelValues(resultRetried)); n != 1 {
		t.Errorf("%v reports counted as coming again, want 1", n)
	}
	w.checkStored([]*crash.Sealed{report})
}

// Neither is a dead letter counted whose end is not confirmed, and when the report
// comes again it is no second one.
func TestUnconfirmedIsNotDead(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	u, err := Listen(t.Context(), w.cfg, nopLog())
	must(t, err)
	defer u.admin.Close()
	must(t, u.connect())
	defer u.disconnect()
	u.inspectAside(t.Context())
	for range 2 {
		u.handle(t.Context(), deliveryOf(&deafMsg{header: nats.Header{queue.HeaderFormat: {"none"}}, data: []byte("nobody reads this")}))
	}
	if n := testutil.ToFloat64(u.metrics.reports.WithLabelValues(resultDead)); n != 0 {
		t.Errorf("%v reports counted as dead, want 0", n)
	}
	if n := len(w.deadLetters()); n != 1 {
		t.Errorf("%d dead letters, want 1", n)
	}
}

// deafMsg is a message whose server has gone away.
type deafMsg struct {
	jetstream.Msg

	header nats.Header
	data   []byte
}

func (m *deafMsg) Metadata() (*jetstream.MsgMetadata, error) {
	return &jetstream.MsgMetadata{Stream: queue.StreamName(0), Sequence: jetstream.SequencePair{Stream: 1}}, nil
}
func (m *deafMsg) Reply() string                   { return "nobody.there" }
func (m *deafMsg) Term() error                     { return nil }
func (m *deafMsg) Headers() nats.Header            { return m.header }
func (m *deafMsg) Data() []byte                    { return m.data }
func (m *deafMsg) DoubleAck(context.Context) error { return errors.New("nobody there") }
