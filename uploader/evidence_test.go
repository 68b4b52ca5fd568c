package uploader

import (
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/yagi-crash/yagi/pkg/queue"
)

// live returns the configuration that partition p's stream has, with what apply recorded.
func (w *world) live(p int) jetstream.StreamConfig {
	w.tb.Helper()
	s, err := w.js.Stream(w.tb.Context(), queue.StreamName(p))
	must(w.tb, err)
	return s.CachedInfo().Config
}

// update has the server change a field of what a request names, as its own tools do.
func (w *world) update(subject string, config any, field, value string) {
	w.tb.Helper()
	text, err := json.Marshal(config)
	must(w.tb, err)
	fields := map[string]json.RawMessage{}
	must(w.tb, json.Unmarshal(text, &fields))
	fields[field] = json.RawMessage(value)
	var question any = fields
	if strings.HasPrefix(subject, "CONSUMER.") {
		question = map[string]any{"stream_name": queue.StreamName(0), "config": fields, "action": "update"}
	}
	text, err = json.Marshal(question)
	must(w.tb, err)
	reply, err := w.nc.RequestWithContext(w.tb.Context(), "$JS.API."+subject, text)
	must(w.tb, err)
	if strings.Contains(string(reply.Data), `"error"`) {
		w.tb.Fatalf("%s %s: %s", subject, text, reply.Data)
	}
}

func (r *running) awaitHeartbeat(words string) {
	r.w.tb.Helper()
	await(r.w.tb, "the heartbeat names "+words, func() bool {
		status, page := r.get("/__heartbeat__")
		return status == 503 && strings.Contains(page, words)
	})
}

// A stream that puts reports on a subject that nobody reads is told of, and nothing is
// removed from it, also when it does so no more. Other reports are stored meanwhile.
func TestHiddenReportsStay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.cfg.ReplayWindow = 0
	stream := queue.StreamConfig(0, w.cfg.NATS)
	w.publish(0, 3)
	w.update("STREAM.UPDATE.CRASHES_0", stream, "subject_transform", `{"src":"crash.0.ready","dest":"crash.0.hidden"}`)
	w.publish(0, 5)
	var past atomic.Int64
	r := w.run(hasty(&past))
	r.awaitHeartbeat("subject_transform")
	w.apply(1)
	w.publish(0, 2)
	r.awaitHeartbeat("crash.0.hidden")
	await(t, "five reports are stored", func() bool { return w.stored() == 5 })
	begun := past.Load()
	await(t, "half an hour passes", func() bool { return past.Load() > begun+30 })
	if s := w.state(0); s.Msgs != 10 {
		t.Errorf("%d messages are left, want all 10", s.Msgs)
	}
	s, err := w.js.Stream(t.Context(), queue.StreamName(0))
	must(t, err)
	must(t, s.Purge(t.Context(), jetstream.WithPurgeSubject("crash.0.hidden")))
	await(t, "the rest is trimmed", func() bool { return w.state(0).Msgs == 0 })
	await(t, "the heartbeat is green", func() bool { status, _ := r.get("/__heartbeat__"); return status == 200 })
}

// A consumer that refuses the uploaders' pulls is named, and the uploader goes on once it
// is put right.
func TestConsumerThatRefusesPulls(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.update("CONSUMER.CREATE.CRASHES_0.uploader", queue.ConsumerConfig(0, w.cfg.NATS), "max_expires", "500000000")
	r := w.run(nil)
	r.awaitHeartbeat("max_expires")
	reports := w.publish(0, 3)
	w.apply(1)
	await(t, "the reports are stored", func() bool { return w.drained(0) })
	w.checkStored(reports)
}

// An uploader does not work with what could end a report for good, and names it.
func TestFatalConsumerEndsTheUploader(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	r := w.run(nil)
	w.update("CONSUMER.CREATE.CRASHES_0.uploader", queue.ConsumerConfig(0, w.cfg.NATS), "max_deliver", "3")
	if err := <-r.ended; err == nil || !strings.Contains(err.Error(), "max_deliver is 3, should be unlimited") {
		t.Errorf("the uploader ended with %v", err)
	}
}
