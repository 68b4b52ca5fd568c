package main

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/yagi-crash/yagi/pkg/queue"
)

// While paused no uploader is given anything, and what was published then is
// given afterwards.
func TestPauseAndResume(t *testing.T) {
	js, environ := applied(t, "NATS_PARTITIONS=2")
	paused := func() (all []bool) {
		for p := range 2 {
			c, err := js.Consumer(t.Context(), queue.StreamName(p), queue.Consumer)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, c.CachedInfo().Paused)
		}
		return all
	}
	got := crashctl(t, environ, "pause", "--for", "1h")
	if got.code != 0 || paused()[0] {
		t.Errorf("without --yes: %+v", got)
	}
	requireWords(t, got.out, "would pause uploads from CRASHES_0 until ", " (so far not paused)\n")
	got = crashctl(t, environ, "pause", "--for", "1h", "--yes")
	if p := paused(); got.code != 0 || !p[0] || !p[1] {
		t.Errorf("%+v; paused %v", got, p)
	}
	requireWords(t, got.out, "done: pause uploads from CRASHES_0 until ", "done: pause uploads from CRASHES_1 until ")
	requireWords(t, crashctl(t, environ, "status").out, "uploads from CRASHES_0 are paused for another 1h0m0s: crashctl resume --yes ends that")
	requireWords(t, crashctl(t, environ, "resume").out, "would resume uploads from CRASHES_1 (so far paused until ")
	publish(t, js, 0, 100)
	c, err := js.Consumer(t.Context(), queue.StreamName(0), queue.Consumer)
	if err != nil {
		t.Fatal(err)
	}
	if msg, err := c.Next(jetstream.FetchMaxWait(300 * time.Millisecond)); err == nil {
		t.Errorf("%s was delivered while paused", msg.Subject())
	}
	if got := crashctl(t, environ, "resume"); got.code != 0 || !paused()[1] {
		t.Errorf("without --yes: %+v", got)
	}
	if got := crashctl(t, environ, "resume", "--yes"); got.code != 0 || paused()[0] || paused()[1] {
		t.Errorf("%+v", got)
	}
	take(t, js, 0)
	for _, args := range [][]string{{"pause", "--yes"}, {"pause", "--for", "-1s", "--yes"}, {"pause", "--for", "24h1s", "--yes"}} {
		if got := crashctl(t, environ, args...); got.code != 2 {
			t.Errorf("%v: %+v", args, got)
		}
	}
	if err := js.DeleteConsumer(t.Context(), queue.StreamName(1), queue.Consumer); err != nil {
		t.Fatal(err)
	}
	got = crashctl(t, environ, "resume")
	if got.code != 1 {
		t.Errorf("without a consumer: %+v", got)
	}
	requireWords(t, got.errors, "CRASHES_1: consumer uploader is missing: crashctl stream apply makes it")
	_, empty := start(t)
	if got := crashctl(t, empty, "resume", "--yes"); got.code != 2 {
		t.Errorf("without streams: %+v", got)
	}
}
