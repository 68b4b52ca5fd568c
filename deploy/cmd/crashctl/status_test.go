package main

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/yagi-crash/yagi/deploy/internal/queuestatus"
	"github.com/yagi-crash/yagi/pkg/queue"
)

// A server without streams is named what it lacks.
func TestStatusOfAnEmptyServer(t *testing.T) {
	_, environ := start(t, "NATS_PARTITIONS=2")
	s := readStatus(t, environ, 1)
	for i, name := range []string{"CRASHES_0", "CRASHES_1", "CRASHES_DLQ"} {
		if i >= len(s.Attention) || !strings.Contains(s.Attention[i], "stream "+name+" is missing") {
			t.Fatalf("attention %q, want it to begin with what is missing", s.Attention)
		}
	}
	if s.Partitions[1].Stream.State != queuestatus.Missing || !s.Partitions[1].Configured || s.DeadLetters.State != queuestatus.Missing {
		t.Errorf("%+v", s)
	}
	got := crashctl(t, environ, "status")
	requireWords(t, got.out, "CRASHES_1  missing\ntotal            0       -        0            0   0 B      -     -\n", "dead letters  missing\n", "needs attention:\n  stream CRASHES_0 is missing: crashctl stream apply makes it\n")
}

func TestStatusWhenAllIsWell(t *testing.T) {
	_, environ := applied(t)
	s := readStatus(t, environ, 0)
	if len(s.Attention)+len(s.CannotTell) > 0 {
		t.Errorf("attention %q, cannot tell %q", s.Attention, s.CannotTell)
	}
	if *s.Server != (queuestatus.Server{Name: "devnats", Version: "2.15.2", MinVersion: "2.15.2"}) {
		t.Errorf("server %+v", *s.Server)
	}
	if len(s.Sync) != 1 || s.Sync[0].Mode != queuestatus.SyncAlways || s.Sync[0].Server != "devnats" {
		t.Errorf("sync %+v", s.Sync)
	}
	got := crashctl(t, environ, "status")
	if got.code != 0 || strings.Contains(got.out, "\x1b") {
		t.Errorf("%+v", got)
	}
	requireWords(t, got.out, "server        devnats, nats-server 2.15.2\n", "syncs         devnats always\n", "dead letters  none\n", "\nall is well that was looked at; what is unknown was not\n")
}

// Depth, age and size are those of what was published and not yet uploaded,
// over all partitions, also those that are no longer configured.
func TestStatusOfABacklog(t *testing.T) {
	js, environ := applied(t, "NATS_PARTITIONS=2")
	first := publish(t, js, 0, 1000)
	if err := take(t, js, 0).DoubleAck(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Pieces without their ready message are no reports, however old.
	for publishChunk(t, js, 0).Sub(first) < 300*time.Millisecond {
		if t.Context().Err() != nil {
			t.Fatal("the server's clock stands")
		}
	}
	oldest := publish(t, js, 0, 400_000)
	publish(t, js, 0, 1000)
	publish(t, js, 1, 1000)

	before := time.Now()
	s := readStatus(t, append(environ, "NATS_PARTITIONS=1"), 0)
	after := time.Now()
	if len(s.Partitions) != 2 || !s.Partitions[0].Configured || s.Partitions[1].Configured {
		t.Fatalf("partitions %+v", s.Partitions)
	}
	if got, want := *s.Partitions[0].Consumer.Backlog, *s.Total.Backlog; got.Depth != 2 || got.Pending != 2 || want.Depth != 3 {
		t.Errorf("depth %+v, in total %+v; want 2 and 3", got, want)
	}
	const rounding = time.Millisecond
	low, high := before.Sub(oldest)-rounding, after.Sub(oldest)+rounding
	if got := time.Duration(*s.Total.Backlog.OldestSeconds * 1e9); got < low || got > high {
		t.Errorf("the oldest has waited for %s, want %s to %s", got, low, high)
	}
	// Each partition is asked at its own time, so that the other one's may be older then.
	ages := [2]float64{float64(*s.Partitions[0].Consumer.Backlog.OldestSeconds), float64(*s.Partitions[1].Consumer.Backlog.OldestSeconds)}
	if got := float64(*s.Total.Backlog.OldestSeconds); got != max(ages[0], ages[1]) {
		t.Errorf("oldest in total %v, in the partitions %v", got, ages)
	}
	var bytes uint64
	for p := range 2 {
		live, err := js.Stream(t.Context(), queue.StreamName(p))
		if err != nil {
			t.Fatal(err)
		}
		state := live.CachedInfo().State
		bytes += state.Bytes
		u := *s.Partitions[p].Stream.Usage
		if u.Bytes != state.Bytes || u.Messages != state.Msgs || u.LimitBytes != 64<<20 {
			t.Errorf("partition %d: %+v, the server says %+v", p, u, state)
		}
	}
	if s.Total.Usage.Bytes != bytes || bytes < 400_000 || s.Total.Usage.LimitBytes != 128<<20 {
		t.Errorf("in total %+v, want %d bytes", *s.Total.Usage, bytes)
	}
	requireWords(t, crashctl(t, append(environ, "NATS_PARTITIONS=1"), "status").out, "CRASHES_1 is beyond NATS_PARTITIONS")
}

// What an uploader has in its hands is not uploaded yet, and what it had there
// before is told.
func TestStatusOfReportsInHand(t *testing.T) {
	js, environ := applied(t)
	publish(t, js, 0, 1000)
	msg := take(t, js, 0)
	want := queuestatus.Backlog{Depth: 1, AckPending: 1, MaxAckPending: 1000}
	check := func(when string) {
		got := *readStatus(t, environ, 0).Partitions[0].Consumer.Backlog
		if got.OldestSeconds == nil {
			t.Errorf("%s: no age", when)
		}
		got.OldestSeconds = nil
		if got != want {
			t.Errorf("%s: %+v, want %+v", when, got, want)
		}
	}
	check("taken")
	if err := msg.Nak(); err != nil {
		t.Fatal(err)
	}
	msg = take(t, js, 0) // the same one, for there is no other
	publish(t, js, 0, 1000)
	want.Depth, want.Pending, want.Redelivered = 2, 1, 1
	check("taken again")
	if err := msg.DoubleAck(t.Context()); err != nil {
		t.Fatal(err)
	}
	want = queuestatus.Backlog{Depth: 1, Pending: 1, MaxAckPending: 1000}
	check("uploaded")
}

// A fatal difference needs attention, another one is only told.
func TestStatusOfDifferences(t *testing.T) {
	js, environ := applied(t)
	consumer := consumerConfig(t, environ)
	consumer.AckWait = 5 * time.Second
	if _, err := js.UpdateConsumer(t.Context(), queue.StreamName(0), consumer); err != nil {
		t.Fatal(err)
	}
	s := readStatus(t, environ, 0)
	want := queuestatus.Difference{On: "consumer uploader of CRASHES_0", Field: "ack_wait", Want: "1m0s", Live: "5s"}
	if d := s.Partitions[0].Consumer.Differences; len(d) != 1 || d[0] != want {
		t.Errorf("differences %+v, want %+v", d, want)
	}
	requireWords(t, crashctl(t, environ, "status").out, "worth knowing:\n  consumer uploader of CRASHES_0: ack_wait is 5s, should be 1m0s\n")

	consumer.MaxDeliver = 5
	if _, err := js.UpdateConsumer(t.Context(), queue.StreamName(0), consumer); err != nil {
		t.Fatal(err)
	}
	s = readStatus(t, environ, 1)
	requireOne(t, s.Attention, "max_deliver is 5, should be unlimited", "fatal")
}

func consumerConfig(t *testing.T, environ []string) jetstream.ConsumerConfig {
	t.Helper()
	cfg, err := load(environ)
	if err != nil {
		t.Fatal(err)
	}
	return queue.ConsumerConfig(0, cfg.Queue)
}

func TestStatusOfAMissingConsumer(t *testing.T) {
	js, environ := applied(t, "NATS_PARTITIONS=2")
	if err := js.DeleteConsumer(t.Context(), queue.StreamName(1), queue.Consumer); err != nil {
		t.Fatal(err)
	}
	s := readStatus(t, environ, 1)
	requireOne(t, s.Attention, "consumer uploader of CRASHES_1 is missing: crashctl stream apply makes it")
	if s.Partitions[1].Consumer.Backlog != nil || s.Total.Backlog != nil || s.Total.Usage == nil {
		t.Errorf("partition 1 %+v, total %+v: a depth that nobody knows", s.Partitions[1], s.Total)
	}
	s = readStatus(t, append(environ, "NATS_PARTITIONS=1"), 1)
	requireOne(t, s.Attention, "CRASHES_1 is missing", "NATS_PARTITIONS=2 or more")
}

func TestStatusOfAFullStream(t *testing.T) {
	js, environ := applied(t, "NATS_STREAM_MAX_BYTES=1MiB")
	publish(t, js, 0, 900_000)
	readStatus(t, environ, 0)
	publish(t, js, 0, 60_000)
	s := readStatus(t, environ, 1)
	requireOne(t, s.Attention, "stream CRASHES_0 is 92% full")
	if got := s.Partitions[0].Stream.Usage.UsedPercent; got < 91.5 || got > 92.4 {
		t.Errorf("%v %% used", got)
	}
}

// A durable consumer that somebody left behind keeps the stream from being trimmed:
// worth knowing, and the cause of trouble once the stream is full.
func TestStatusOfOtherConsumers(t *testing.T) {
	js, environ := applied(t, "NATS_STREAM_MAX_BYTES=1MiB")
	for _, cfg := range []jetstream.ConsumerConfig{{Durable: "debug"}, {Durable: "keeps_up"}, {Name: "passing"}} {
		cfg.AckPolicy = jetstream.AckExplicitPolicy
		if _, err := js.CreateConsumer(t.Context(), queue.StreamName(0), cfg); err != nil {
			t.Fatal(err)
		}
	}
	publish(t, js, 0, 900_000)
	one, err := js.Consumer(t.Context(), queue.StreamName(0), "keeps_up")
	if err != nil {
		t.Fatal(err)
	}
	msg, err := one.Next()
	if err != nil {
		t.Fatal(err)
	}
	if err := msg.DoubleAck(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := "stream CRASHES_0: consumer debug has yet to acknowledge 1 message(s), and nothing is trimmed"
	if s := readStatus(t, environ, 0); len(s.Partitions[0].Others) != 1 || s.Partitions[0].Others[0] != (queuestatus.Other{Name: "debug", Behind: 1}) {
		t.Errorf("other consumers %+v", s.Partitions[0].Others)
	}
	requireWords(t, crashctl(t, environ, "status").out, "worth knowing:\n  "+want)

	publish(t, js, 0, 60_000)
	s := readStatus(t, environ, 1)
	if len(s.Attention) != 3 || !strings.HasPrefix(s.Attention[1], strings.ReplaceAll(want, "1 m", "2 m")) {
		t.Errorf("attention %q", s.Attention)
	}
}

func TestStatusOfDeadLetters(t *testing.T) {
	js, environ := applied(t)
	if _, err := js.Publish(t.Context(), "crashdlq.0.ready.1", []byte("never")); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "crashdlq.0.chunk", []byte("a piece of it")); err != nil {
		t.Fatal(err)
	}
	s := readStatus(t, environ, 1)
	requireOne(t, s.Attention, "1 dead letter(s): crashctl dead list shows them")
	if s.DeadLetters.Usage.Messages != 2 || *s.DeadReports != 1 {
		t.Errorf("%+v", s.DeadLetters.Usage)
	}
	requireWords(t, crashctl(t, environ, "status").out, "dead letters  1, ")
}

// Held reports are counted, and why the last one is held is told, without what a terminal
// obeys.
func TestStatusOfHeldReports(t *testing.T) {
	js, environ := applied(t)
	held := queue.Held{Stream: queue.StreamName(0), Sequence: 7, Stored: time.Unix(5, 0), Class: "refused", Cause: "the store\nsaid no"}
	for range 2 { // as when the uploader is killed before it can acknowledge
		if err := queue.Hold(t.Context(), js, held); err != nil {
			t.Fatal(err)
		}
	}
	s := readStatus(t, environ, 1)
	requireOne(t, s.Attention, "1 report(s) held: they failed and are retried at leisure (the last one: refused, the store said no)")
	if s.Held.Reports == nil || *s.Held.Reports != 1 {
		t.Errorf("%+v", s.Held)
	}
	requireWords(t, crashctl(t, environ, "status").out, "held reports  1\n")
}

// That the uploaders' consumer is about to deliver nothing new is told before it does.
func TestStatusOfUsedUpDeliveries(t *testing.T) {
	js, environ := applied(t, "NATS_MAX_ACK_PENDING=4")
	for range 5 {
		publish(t, js, 0, 1000)
	}
	for range 4 {
		take(t, js, 0)
	}
	s := readStatus(t, environ, 1)
	requireOne(t, s.Attention, "stream CRASHES_0: 4 reports are unacknowledged, 0 of them redelivered; at 4 (NATS_MAX_ACK_PENDING) nothing new is delivered")
}

// Whether a server syncs always is told when it is known, and never guessed.
func TestStatusOfSyncing(t *testing.T) {
	lazy := startServer(t, &server.Options{
		ServerName: "lazy", JetStream: true, SyncInterval: 90 * time.Second, HTTPHost: "127.0.0.1", HTTPPort: server.RANDOM_PORT,
	})
	monitor := "http://" + lazy.MonitorAddr().String()
	environ := []string{"NATS_URL=" + lazy.ClientURL(), "NATS_STREAM_MAX_BYTES=64MiB"}
	if got := crashctl(t, environ, "stream", "apply", "--yes"); got.code != 0 {
		t.Fatalf("%+v", got)
	}

	readStatus(t, environ, 0)
	requireWords(t, crashctl(t, environ, "status").out, "syncs         unknown (NATS_MONITOR_URL is not set)\n")

	s := readStatus(t, append(environ, "NATS_MONITOR_URL="+monitor), 1)
	requireOne(t, s.Attention, "server lazy syncs every 1m30s and not always")
	if len(s.Sync) != 1 || s.Sync[0].Mode != queuestatus.SyncInterval || s.Sync[0].IntervalSeconds != 90 {
		t.Errorf("sync %+v", s.Sync)
	}

	closed := listen(t)
	closed.Close()
	s = readStatus(t, append(environ, "NATS_MONITOR_URL=http://ops:secret@"+closed.Addr().String()), 2)
	requireOne(t, s.CannotTell, "how the server at "+closed.Addr().String()+" syncs: ", "connection refused")
	if len(s.Sync) != 1 || s.Sync[0].Mode != queuestatus.SyncUnknown {
		t.Errorf("sync %+v", s.Sync)
	}

	without := startServer(t, &server.Options{HTTPHost: "127.0.0.1", HTTPPort: server.RANDOM_PORT})
	s = readStatus(t, append(environ, "NATS_MONITOR_URL=http://"+without.MonitorAddr().String()), 2)
	requireOne(t, s.CannotTell, "it does not say")
}

// The version is the one that the server says; here a proxy makes it older.
func TestStatusOfAnOldServer(t *testing.T) {
	_, environ := applied(t)
	_, address, _ := strings.Cut(environ[0], "://")
	environ = append(environ, "NATS_URL=nats://"+aged(t, address, "2.12.1"))
	s := readStatus(t, environ, 1)
	requireOne(t, s.Attention, "nats-server 2.12.1 is older than 2.15.2")
	if s.Server.Version != "2.12.1" || s.Server.Problem == "" {
		t.Errorf("server %+v", *s.Server)
	}
}

// aged passes connections on to a server, and changes the version that it says
// of itself in its INFO lines.
func aged(t *testing.T, address, version string) string {
	t.Helper()
	l := listen(t)
	go func() { // ends with the listener
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			upstream, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
			if err != nil {
				client.Close()
				return
			}
			go func() { // ends with either connection
				defer upstream.Close()
				_, _ = io.Copy(upstream, client)
			}()
			go func() { // likewise
				defer client.Close()
				for lines := bufio.NewReader(upstream); ; {
					line, err := lines.ReadBytes('\n')
					if bytes.HasPrefix(line, []byte("INFO ")) {
						line = bytes.Replace(line, []byte(`"version":"2.15.2"`), []byte(`"version":"`+version+`"`), 1)
					}
					if _, e := client.Write(line); err != nil || e != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}
