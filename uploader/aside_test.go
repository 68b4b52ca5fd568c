package uploader

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/yagi-crash/yagi/pkg/queue"
	"github.com/yagi-crash/yagi/uploader/internal/trim"
)

// sendNewer publishes a report of a newer format, which uploaders hold.
func (w *world) sendNewer() {
	w.tb.Helper()
	msg := message(w.tb, newReport(w.tb, "dump"))
	msg.Header.Set(queue.HeaderFormat, strconv.Itoa(queue.Format+1))
	w.send(0, msg)
}

// says reports whether the heartbeat will say all of these words.
func (r *running) says(words ...string) bool {
	err := r.conditions.check(time.Now().Add(lasting))
	return err != nil && !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(err.Error(), word) })
}

// noEvidence returns why the trimmer removes nothing of partition 0, or "".
func (w *world) noEvidence() string {
	w.tb.Helper()
	v, err := trim.NewJetStream(w.js, queue.NewReader(w.js), 0, w.cfg.NATS).View(w.tb.Context())
	must(w.tb, err)
	var why []string
	for _, d := range v.Unsafe {
		why = append(why, d.String())
	}
	return strings.Join(why, "\n")
}

// risks lists the risks of what is left to apply.
func (w *world) risks() (names []string) {
	w.tb.Helper()
	plan, err := queue.Plan(w.tb.Context(), w.js, w.cfg.NATS)
	must(w.tb, err)
	for _, c := range plan {
		for _, r := range c.Risks {
			names = append(names, r.Name)
		}
	}
	return names
}

// No report is held while its reference could be lost, which is said, and nothing is
// trimmed. Once the stream is mended reports are held again; what had been held before
// may be lost, and that an operator must accept before anything is trimmed.
func TestNothingIsHeldWhereReferencesAreLost(t *testing.T) {
	t.Parallel()
	for field, change := range map[string]func(*jetstream.StreamConfig){
		"max_age":              func(c *jetstream.StreamConfig) { c.MaxAge, c.Duplicates = time.Hour, time.Hour },
		"max_msgs_per_subject": func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 1 },
	} {
		t.Run(field, func(t *testing.T) {
			t.Parallel()
			w := newSmallWorld(t)
			cfg := queue.HeldConfig(w.cfg.NATS)
			change(&cfg)
			_, err := w.js.UpdateStream(t.Context(), cfg)
			must(t, err)
			w.sendNewer()
			good := w.publish(0, 3)
			r := w.run(holdFor(time.Second))
			await(t, "the others are stored", func() bool { return w.bucketHas(good) })
			await(t, "the report failed and is not held", func() bool { return r.says("holding reports", queue.HeldStream, field) })
			if n, info := w.heldOf(0), w.consumer(0); n != 0 || info.NumAckPending+int(info.NumPending) != 1 {
				t.Errorf("%d reports are held, %d unacknowledged, want 0 and 1", n, info.NumAckPending)
			}
			if why := w.noEvidence(); !strings.Contains(why, field) {
				t.Errorf("nothing is trimmed because of %q, want it to name %s", why, field)
			}
			w.apply(1)
			await(t, "it is held", func() bool { return w.heldOf(0) == 1 && w.acknowledged(0) })
			w.acceptLostReferences()
		})
	}
}

// acceptLostReferences checks that nothing is trimmed until the loss is accepted.
func (w *world) acceptLostReferences() {
	w.tb.Helper()
	if why := w.noEvidence(); !strings.Contains(why, "references to held reports may be lost") {
		w.tb.Errorf("nothing is trimmed because of %q, want that references may be lost", why)
	}
	if risks := w.risks(); !slices.Equal(risks, []string{queue.RiskHeld}) {
		w.tb.Errorf("applying risks %v, want %s", risks, queue.RiskHeld)
	}
	w.apply(1)
	if why := w.noEvidence(); why != "" || len(w.risks()) > 0 {
		w.tb.Errorf("nothing is trimmed because of %q after that was accepted", why)
	}
}

// A stream of references that is missing, or was re-created, is no evidence that what is
// acknowledged was stored.
func TestReferencesThatAreGone(t *testing.T) {
	t.Parallel()
	w := newSmallWorld(t)
	w.sendNewer()
	r := w.run(holdFor(time.Hour))
	await(t, "the report is held", func() bool { return w.heldOf(0) == 1 && w.acknowledged(0) })
	if why := w.noEvidence(); why != "" {
		t.Errorf("nothing is trimmed because of %s", why)
	}
	must(t, w.js.DeleteStream(t.Context(), queue.HeldStream))
	await(t, "it is missed", func() bool { return r.says("reaching held reports", queue.HeldStream+" is missing") })
	if why := w.noEvidence(); !strings.Contains(why, queue.HeldStream+": state is missing") {
		t.Errorf("nothing is trimmed because of %q, want that the stream is missing", why)
	}
	w.apply(1)
	await(t, "it is reached", func() bool { return !r.says("reaching held reports") })
	r.stop()
	w.acceptLostReferences() // by the uploader that follows one that knew more
}

// Streams of a release that held nothing are trimmed once apply has created the stream
// of references, without anything to accept.
func TestReportsOfAReleaseThatHeldNothing(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	_, err := w.js.CreateStream(t.Context(), queue.StreamConfig(0, w.cfg.NATS))
	must(t, err)
	_, err = w.js.CreateConsumer(t.Context(), queue.StreamName(0), queue.ConsumerConfig(0, w.cfg.NATS))
	must(t, err)
	if why := w.noEvidence(); !strings.Contains(why, queue.HeldStream) {
		t.Errorf("nothing is trimmed because of %q before apply, want it to name %s", why, queue.HeldStream)
	}
	if risks := w.risks(); len(risks) > 0 {
		t.Errorf("applying risks %v", risks)
	}
	w.apply(1)
	if why := w.noEvidence(); why != "" {
		t.Errorf("nothing is trimmed because of %s", why)
	}
	addr := strings.TrimPrefix(w.nats.URL(), "nats://")
	w.nats.Stop()
	w.startNATS(addr, w.natsDir)
	if why := w.noEvidence(); why != "" {
		t.Errorf("nothing is trimmed after a restart because of %s", why)
	}
}

// No dead letter is made where it would be forgotten, which is said.
func TestNothingIsBuriedWhereItIsForgotten(t *testing.T) {
	t.Parallel()
	for field, change := range map[string]func(*jetstream.StreamConfig){
		"max_age": func(c *jetstream.StreamConfig) { c.MaxAge, c.Duplicates = time.Hour, time.Hour },
		"discard": func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld },
	} {
		t.Run(field, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1)
			cfg := queue.DeadLetterConfig(w.cfg.NATS)
			change(&cfg)
			_, err := w.js.UpdateStream(t.Context(), cfg)
			must(t, err)
			w.send(0, &nats.Msg{Data: []byte("hello")})
			good := w.publish(0, 3)
			r := w.run(nil)
			await(t, "many attempts", func() bool { return r.result(resultStored) == 3 && r.result(resultRetried) > enough })
			if !r.says("writing dead letters", queue.DeadLetterStream, field) {
				t.Errorf("the heartbeat will say %v, want it to name %s", r.conditions.check(time.Now().Add(lasting)), field)
			}
			if n := len(w.deadLetters()); n != 0 || w.drained(0) {
				t.Errorf("%d dead letters", n)
			}
			w.apply(1)
			await(t, "it is a dead letter", func() bool { return w.drained(0) && len(w.deadLetters()) == 1 })
			w.checkStored(good)
		})
	}
}

// While the streams cannot be asked about, that is said, nothing is set aside, and held
// reports are retried all the same.
func TestStreamsThatCannotBeAskedAbout(t *testing.T) {
	t.Parallel()
	w := newSmallWorld(t)
	r := w.run(nil)
	await(t, "the streams are looked at", func() bool { return r.references.check() == nil })
	r.stop()
	other := w.stopped()
	if other.references.check() == nil || other.letters.check() == nil {
		t.Error("a stream that nobody has looked at is safe")
	}
	other.inspectAside(t.Context())
	if other.references.check() != nil || other.letters.check() != nil || other.held.Load() != 0 {
		t.Errorf("%v, %v, %d held", other.references.check(), other.letters.check(), other.held.Load())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 0) // as without a leader, or a permission
	defer cancel()
	other.inspectAside(ctx)
	if other.references.check() == nil || other.letters.check() == nil || other.held.Load() == 0 {
		t.Errorf("without an answer: %v, %v, %d held", other.references.check(), other.letters.check(), other.held.Load())
	}
	if !other.says("reaching held reports", "reaching dead letters") {
		t.Errorf("the heartbeat will say %v", other.conditions.check(time.Now().Add(lasting)))
	}
}

// stopped is an uploader that does nothing, connected by the test's own connection.
func (w *world) stopped() *running {
	w.tb.Helper()
	u, err := newUploader(w.tb.Context(), w.cfg, nopLog())
	must(w.tb, err)
	u.nc, u.js = w.nc, w.js
	return &running{Uploader: u, w: w}
}
