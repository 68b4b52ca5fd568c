package main

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/yagi-crash/yagi/pkg/queue"
)

func streams(t *testing.T, js jetstream.JetStream) []string {
	t.Helper()
	names := []string{}
	list := js.StreamNames(t.Context())
	for name := range list.Name() {
		names = append(names, name)
	}
	if err := list.Err(); err != nil {
		t.Fatal(err)
	}
	return names
}

// Without --yes the steps are told, one a line, and none is taken.
func TestApplyWithoutYesChangesNothing(t *testing.T) {
	js, environ := start(t)
	got := crashctl(t, environ, "stream", "apply")
	if got.code != 0 || got.errors != "" {
		t.Errorf("exit code %d, stderr %q", got.code, got.errors)
	}
	want := `would create stream CRASHES_HELD on crashheld.>, at most 33554432 (32 MiB), 1 replica(s)
would create consumer uploader of CRASHES_HELD on crashheld.>
would create stream CRASHES_0 on crash.0.chunk crash.0.ready, at most 67108864 (64 MiB), 1 replica(s)
would create consumer uploader of CRASHES_0 on crash.0.ready
would create stream CRASHES_DLQ on crashdlq.>, at most 6710886 (6.4 MiB), 1 replica(s)
Nothing was changed. To do it: crashctl stream apply --yes
`
	if got.out != want {
		t.Errorf("printed\n%swant\n%s", got.out, want)
	}
	if there := streams(t, js); len(there) > 0 {
		t.Errorf("streams %v were made", there)
	}
}

// With --yes each step is taken and told; then there is nothing left to do.
func TestApplyWithYes(t *testing.T) {
	js, environ := start(t, "NATS_PARTITIONS=2")
	got := crashctl(t, environ, "stream", "apply", "--yes")
	if got.code != 0 || strings.Count(got.out, "done: create ") != 7 || strings.Count(got.out, "\n") != 7 {
		t.Errorf("%+v, want seven lines of what was done", got)
	}
	if there := strings.Join(streams(t, js), " "); there != "CRASHES_0 CRASHES_1 CRASHES_DLQ CRASHES_HELD" {
		t.Errorf("streams %s", there)
	}
	for _, args := range [][]string{{"stream", "apply"}, {"stream", "apply", "--yes"}} {
		if got := crashctl(t, environ, args...); got.code != 0 || got.out != "nothing to do\n" {
			t.Errorf("%v again: %+v", args, got)
		}
	}
}

// A setting that somebody changed is put right, and its stream keeps what it
// has.
func TestApplyHeals(t *testing.T) {
	js, environ := applied(t)
	publish(t, js, 0, 1000)
	live, err := js.Stream(t.Context(), queue.StreamName(0))
	if err != nil {
		t.Fatal(err)
	}
	changed := live.CachedInfo().Config
	changed.Discard = jetstream.DiscardOld
	if _, err := js.UpdateStream(t.Context(), changed); err != nil {
		t.Fatal(err)
	}
	got := crashctl(t, environ, "stream", "apply", "--yes")
	if want := "done: change stream CRASHES_0: discard from old to new\n"; got.code != 0 || got.out != want {
		t.Errorf("%+v, want %q", got, want)
	}
	if s := readStatus(t, environ, 0); s.Total.Backlog.Depth != 1 {
		t.Errorf("depth %d after healing, want 1", s.Total.Backlog.Depth)
	}
}

// A step that fails is named, and ends the run. The server of these tests has
// room for 1 GiB.
func TestApplyTellsWhichStepFailed(t *testing.T) {
	_, environ := start(t, "NATS_PARTITIONS=2", "NATS_STREAM_MAX_BYTES=700MiB")
	got := crashctl(t, environ, "stream", "apply", "--yes")
	if got.code != 1 {
		t.Errorf("exit code %d, want 1", got.code)
	}
	if strings.Count(got.out, "done:") != 4 {
		t.Errorf("printed %q, want the four steps before", got.out)
	}
	requireWords(t, got.errors, "crashctl: could not create stream CRASHES_1", "insufficient storage resources")
}

// A limit that was forgotten in the shell does not make a stream refuse everything.
func TestApplyDoesNotShrinkBelowWhatThereIs(t *testing.T) {
	js, environ := applied(t)
	for range 3 {
		publish(t, js, 0, 800_000)
	}
	small := append(environ, "NATS_STREAM_MAX_BYTES=2MiB")
	got := crashctl(t, small, "stream", "apply")
	if got.code != 0 {
		t.Errorf("%+v", got)
	}
	requireWords(t, got.out, "  but: CRASHES_0 holds ", "and would take nothing until it holds less than 2097152 (2.0 MiB) (--accept shrink)\n")
	got = crashctl(t, small, "stream", "apply", "--yes")
	if got.code != 2 || got.out != "" {
		t.Errorf("%+v", got)
	}
	requireWords(t, got.errors, "nothing was changed (--accept shrink does it all the same)")
	publish(t, js, 0, 800_000)
	if got := crashctl(t, small, "stream", "apply", "--yes", "--shrink"); got.code != 0 {
		t.Errorf("%+v", got)
	}
	requireWords(t, crashctl(t, small, "status").out, "full, and refuses what does not fit")
	live, err := js.Stream(t.Context(), queue.StreamName(0))
	if err != nil {
		t.Fatal(err)
	}
	other := live.CachedInfo().Config
	other.Duplicates = time.Minute
	if _, err := js.UpdateStream(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	if got := crashctl(t, small, "stream", "apply", "--yes"); got.code != 0 || !strings.Contains(got.out, "duplicate_window") {
		t.Errorf("another change of a stream that is small already: %+v", got)
	}
	if got := crashctl(t, environ, "stream", "apply", "--yes"); got.code != 0 {
		t.Errorf("back again: %+v", got)
	}
}

// Less room is a risk also for a stream that is empty, and each risk is accepted by its
// own name.
func TestApplyRefusesRisks(t *testing.T) {
	_, environ := applied(t)
	small := append(environ, "NATS_STREAM_MAX_BYTES=32MiB")
	for _, args := range [][]string{{}, {"--accept=fewer-replicas"}} {
		got := crashctl(t, small, append([]string{"stream", "apply", "--yes"}, args...)...)
		if got.code != 2 || got.out != "" {
			t.Errorf("%v: %+v", args, got)
		}
		requireWords(t, got.errors, "CRASHES_0 has room for 67108864 (64 MiB) and would have room for 33554432 (32 MiB)", "--accept shrink")
	}
	if got := crashctl(t, small, "stream", "apply", "--yes", "--accept=fewer-replicas,shrink"); got.code != 0 {
		t.Errorf("%+v", got)
	}
}

// What a server keeps for life is told with what to do instead, and what can be mended
// is mended all the same.
func TestApplySaysWhatItCannot(t *testing.T) {
	js, environ := applied(t)
	consumer := consumerConfig(t, environ)
	consumer.MaxWaiting = 5 // a warning
	recreate(t, js, consumer)
	got := crashctl(t, environ, "stream", "apply", "--yes")
	if got.code != 0 {
		t.Errorf("%+v", got)
	}
	requireWords(t, got.out, "cannot change consumer uploader of CRASHES_0: max_waiting from 5 to 2048", "since the server keeps this for life: delete the consumer")
	consumer.MemoryStorage, consumer.MaxRequestExpires = true, time.Second // unsafe
	recreate(t, js, consumer)
	got = crashctl(t, environ, "stream", "apply")
	if got.code != 0 {
		t.Errorf("%+v", got)
	}
	requireWords(t, got.out, "cannot change consumer uploader of CRASHES_0: mem_storage from true to false", "would change consumer uploader of CRASHES_0: max_expires from 1s to none")
	got = crashctl(t, environ, "stream", "apply", "--yes")
	if got.code != 1 {
		t.Errorf("%+v", got)
	}
	requireWords(t, got.out, "done: change consumer uploader of CRASHES_0: max_expires from 1s to none")
	requireWords(t, got.errors, "mem_storage", "delete the consumer")
}

func recreate(t *testing.T, js jetstream.JetStream, consumer jetstream.ConsumerConfig) {
	t.Helper()
	if err := js.DeleteConsumer(t.Context(), queue.StreamName(0), consumer.Durable); err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateConsumer(t.Context(), queue.StreamName(0), consumer); err != nil {
		t.Fatal(err)
	}
}

// Limits of the server are told with the setting that they are about.
func TestApplyNamesTheServersLimits(t *testing.T) {
	for name, c := range map[string]struct {
		limits server.JSLimitOpts
		says   string
	}{
		"duplicate window": {server.JSLimitOpts{Duplicates: time.Minute}, "duplicate_window"},
		"ack pending":      {server.JSLimitOpts{MaxAckPending: 10}, "NATS_MAX_ACK_PENDING"},
	} {
		s := startServer(t, &server.Options{JetStream: true, JetStreamLimits: c.limits})
		got := crashctl(t, []string{"NATS_URL=" + s.ClientURL(), "NATS_STREAM_MAX_BYTES=64MiB"}, "stream", "apply", "--yes")
		if got.code != 1 {
			t.Errorf("%s: %+v", name, got)
		}
		requireWords(t, got.errors, c.says)
	}
}

// References that were lost are told, and accepted by their name.
func TestApplyOfLostReferences(t *testing.T) {
	js, environ := applied(t)
	if err := js.DeleteStream(t.Context(), queue.HeldStream); err != nil {
		t.Fatal(err)
	}
	if got := crashctl(t, environ, "stream", "apply", "--yes"); got.code != 0 || strings.Count(got.out, "done: create ") != 2 {
		t.Errorf("%+v", got)
	}
	s := readStatus(t, environ, 1)
	requireOne(t, s.Attention, "stream CRASHES_HELD: generation is ")
	got := crashctl(t, environ, "stream", "apply", "--yes")
	if got.code != 2 || got.out != "" {
		t.Errorf("%+v", got)
	}
	requireWords(t, got.errors, "reports of CRASHES_0 that were held then", "crashctl replay", "--accept forget-held")
	if got := crashctl(t, environ, "stream", "apply", "--yes", "--accept=forget-held"); got.code != 0 {
		t.Errorf("%+v", got)
	}
	readStatus(t, environ, 0)
	if err := js.DeleteConsumer(t.Context(), queue.HeldStream, queue.Consumer); err != nil {
		t.Fatal(err)
	}
	s = readStatus(t, environ, 1)
	requireOne(t, s.Attention, "consumer uploader of CRASHES_HELD: state is missing")
}
