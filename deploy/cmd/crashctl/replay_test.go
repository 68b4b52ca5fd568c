package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/queue"
)

// What was lost from the bucket is there again, and only what was asked for.
func TestReplay(t *testing.T) {
	p := newPlant(t, "A", "B", "A", "C")
	loseAll := func() {
		for _, s := range p.reports {
			if p.has(t, s) {
				p.lose(t, s)
			}
		}
	}
	for name, test := range map[string]struct {
		args   []string
		stored string
		says   string
	}{
		"all, without --yes": {[]string{"--since", "1h"}, "", "CRASHES_0: 4 report(s)"},
		"all":                {[]string{"--since", "1h", "--yes"}, "0 1 2 3", "4 report(s) are stored again"},
		"a product":          {[]string{"--since", "1h", "--product", "A", "--yes"}, "0 2", "2 other(s) left out"},
		"two products":       {[]string{"--since", "1h", "--product", "A,B", "--yes"}, "0 1 2", "3 report(s) are stored again"},
		"a rule":             {[]string{"--since", "1h", "--rule", "rule_of_B", "--yes"}, "1", "1 report(s) are stored again"},
		"an id":              {[]string{"--since", "1h", "--id", "bp-" + string(p.reports[3].ID), "--yes"}, "3", "1 report(s) are stored again"},
		"another time":       {[]string{"--since", "2h", "--until", "1h", "--yes"}, "", "CRASHES_0: 0 report(s)"},
	} {
		loseAll()
		got := crashctl(t, p.environ, append([]string{"replay"}, test.args...)...)
		if got.code != 0 || p.which(t) != test.stored {
			t.Errorf("%s: reports %q are stored, want %q; %+v", name, p.which(t), test.stored, got)
		}
		requireWords(t, got.out, test.says)
		if names := consumers(t, p.js); names != queue.Consumer {
			t.Errorf("%s: consumers %s are left", name, names)
		}
	}
	for _, args := range [][]string{
		{"--since", "yesterday"},
		{"--since", "1h", "--until", "2h"},
		{"--since", "1h", "--id", "7"},
		{"--since", "1h", "--rate", "0"},
		{},
		{"--since", "1h", "--product", ""},
		{"--since", "1h", "--id", ""},
		{"--since", "1h", "--resume", "me"},
		{"--since", "1h", "--until", "1m", "--resume", "me"},
	} {
		if got := crashctl(t, p.environ, append([]string{"replay", "--yes"}, args...)...); got.code != 2 {
			t.Errorf("%v: %+v", args, got)
		}
	}
}

// Of a window that begins and ends among the reports, none is replayed that came
// before or after, and of the others no more a second than was asked for.
func TestReplayOfAWindow(t *testing.T) {
	p := newPlant(t, "A", "B")
	since := nextSecond()
	for _, product := range []string{"C", "D", "E", "F"} {
		p.publish(t, product, false)
	}
	until := nextSecond()
	p.publish(t, "G", false)
	p.upload(t)
	for _, s := range p.reports {
		p.lose(t, s)
	}
	begun := time.Now()
	got := crashctl(t, p.environ, "replay", "--since", since, "--until", until, "--rate", "2", "--yes")
	if got.code != 0 || p.which(t) != "2 3 4 5" {
		t.Errorf("reports %q are stored; %+v", p.which(t), got)
	}
	if took := time.Since(begun); took < 1500*time.Millisecond {
		t.Errorf("four reports took %v, want three halves of a second at least", took)
	}
}

// nextSecond waits until one begins, and returns it as crashctl takes it.
func nextSecond() string {
	next := time.Now().UTC().Truncate(time.Second).Add(time.Second)
	<-time.After(time.Until(next))
	return next.Format(time.RFC3339)
}

// consumers names those of the stream. A replay's are made with --yes alone, and
// removed in the end.
func consumers(t *testing.T, js jetstream.JetStream) string {
	t.Helper()
	s, err := js.Stream(t.Context(), queue.StreamName(0))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for name := range s.ConsumerNames(t.Context()).Name() {
		names = append(names, name)
	}
	return strings.Join(names, " ")
}

// A report that cannot be stored is named, and keeps no other one from being.
func TestReplayOfADamagedReport(t *testing.T) {
	p := newPlant(t, "A")
	for _, data := range []string{"hello", "again"} {
		if _, err := p.js.PublishMsg(t.Context(), &nats.Msg{Subject: queue.ReadySubject(0), Data: []byte(data)}); err != nil {
			t.Fatal(err)
		}
	}
	p.upload(t) // they become dead letters
	p.publish(t, "B", false)
	p.upload(t)
	p.lose(t, p.reports[0])
	p.lose(t, p.reports[1])
	got := crashctl(t, p.environ, "replay", "--since", "1h", "--yes")
	if got.code != 1 || p.which(t) != "0 1" {
		t.Errorf("reports %q are stored; %+v", p.which(t), got)
	}
	requireWords(t, got.out, "2 report(s) are stored again", "failed: message 2 of CRASHES_0", "failed: message 3 of CRASHES_0")
	if names := consumers(t, p.js); names != queue.Consumer {
		t.Errorf("consumers %s are left", names)
	}
}

// What is interrupted goes on with the command that it printed, also when much came
// after the window. Without --resume all of the window is replayed.
func TestReplayIsInterrupted(t *testing.T) {
	p := newPlant(t, "A", "B", "C", "D", "E", "F")
	loseAll := func() {
		for _, s := range p.reports {
			if p.has(t, s) {
				p.lose(t, s)
			}
		}
	}
	window := []string{"replay", "--since", "1h", "--until", nextSecond(), "--yes"}
	for i := range 300 {
		p.publish(t, fmt.Sprint("later", i), false)
	}
	p.upload(t)
	loseAll()
	ctx, interrupt := context.WithCancel(t.Context())
	var stdout, stderr bytes.Buffer
	ended := make(chan int)
	go func() { ended <- run(ctx, append(window, "--rate", "2"), p.environ, &stdout, &stderr) }()
	eventually(t, "some reports are stored", func() bool { return len(strings.Fields(p.which(t))) >= 2 })
	interrupt()
	if code := <-ended; code != 2 {
		t.Errorf("exit code %d, %s", code, &stderr)
	}
	_, command, ok := strings.Cut(stdout.String(), "to go on, crashctl ")
	if !ok {
		t.Fatalf("no command to go on with in %q", &stdout)
	}
	command, _, _ = strings.Cut(command, "\n")
	_, name, _ := strings.Cut(command, "--resume ")
	name, _, _ = strings.Cut(name, " ")
	requireWords(t, crashctl(t, p.environ, "status").out, "stream CRASHES_0: replay "+name+" is at work, or was interrupted")
	before := strings.Fields(p.which(t))
	loseAll() // so that what is stored twice is seen
	begun := time.Now()
	got := crashctl(t, p.environ, strings.Fields(command)...)
	after := strings.Fields(p.which(t))
	if got.code != 0 || len(before)+len(after) != 6 {
		t.Errorf("first reports %v were stored, then %v; %+v", before, after, got)
	}
	if took := time.Since(begun); took > 20*time.Second { // the queue has much more than that behind the window
		t.Errorf("going on took %v", took)
	}
	if names := consumers(t, p.js); names != queue.Consumer {
		t.Errorf("consumers %s are left", names)
	}
	if got := crashctl(t, p.environ, strings.Fields(command)...); got.code != 2 || !strings.Contains(got.errors, "no such replay") {
		t.Errorf("a second time: %+v", got)
	}
	if got := crashctl(t, p.environ, window...); got.code != 0 || p.which(t) != "0 1 2 3 4 5" {
		t.Errorf("anew, reports %q are stored: %+v", p.which(t), got)
	}
}

// An id that is not in the window is named; what can never be stored is seen before
// anything is begun.
func TestReplayOfNothing(t *testing.T) {
	p := newPlant(t, "A")
	stray := string(crash.NewID(time.Now(), crash.Accept))
	for _, yes := range [][]string{nil, {"--yes"}} {
		args := append([]string{"replay", "--since", "1h", "--id", stray, "--id", string(p.reports[0].ID)}, yes...)
		got := crashctl(t, p.environ, args...)
		if got.code != 1 || !strings.Contains(got.out, "not in the window: "+stray+"\n") {
			t.Errorf("%v: %+v", yes, got)
		}
	}
	got := crashctl(t, p.environ, "replay", "--since", "1h", "--id", string(p.reports[0].ID), "--product", "B", "--yes")
	if got.code != 1 || !strings.Contains(got.out, "not in the window, or of another product or rule: "+string(p.reports[0].ID)+"\n") {
		t.Errorf("of another product: %+v", got)
	}
	got = crashctl(t, p.environ, "replay", "--since", "1h", "--product", "B")
	if got.code != 0 || !strings.Contains(got.out, "nothing to do\n") {
		t.Errorf("nothing of a product: %+v", got)
	}
	for _, rate := range []string{"0", "-1", "NaN", "Inf"} {
		got := crashctl(t, p.environ, "replay", "--since", "1h", "--rate="+rate)
		if got.code != 2 || !strings.Contains(got.errors, "--rate has to be a number above 0") {
			t.Errorf("%+v", got)
		}
	}
	got = crashctl(t, append(p.environ, "S3_BUCKET=misspelt"), "replay", "--since", "1h", "--yes")
	if got.code != 2 || !strings.Contains(got.errors, "bucket misspelt takes nothing") {
		t.Errorf("%+v", got)
	}
}

// While many reports wait for uploaders, a replay leaves the bucket to them.
func TestReplayLetsLiveTrafficGoFirst(t *testing.T) {
	p := newPlant(t, "A")
	p.lose(t, p.reports[0])
	for i := range 150 {
		p.publish(t, fmt.Sprint("L", i), false)
	}
	ended := make(chan outcome)
	go func() {
		ended <- crashctl(t, p.environ, "replay", "--since", "1h", "--id", string(p.reports[0].ID), "--yes")
	}()
	eventually(t, "the replay has begun", func() bool { return strings.Contains(consumers(t, p.js), "replay-") })
	for until := time.Now().Add(2 * time.Second); time.Now().Before(until); {
		if p.has(t, p.reports[0]) {
			t.Fatal("a report is replayed before those that are new")
		}
		<-time.After(50 * time.Millisecond)
	}
	p.upload(t)
	if got := <-ended; got.code != 0 || !p.has(t, p.reports[0]) {
		t.Errorf("%+v", got)
	}
}

// A replay whose consumer is taken away says so, and does not wait for ever.
func TestReplayWithoutItsConsumer(t *testing.T) {
	p := newPlant(t, "A", "B", "C", "D", "E", "F")
	for _, s := range p.reports {
		p.lose(t, s)
	}
	ended := make(chan outcome)
	go func() { ended <- crashctl(t, p.environ, "replay", "--since", "1h", "--rate", "2", "--yes") }()
	eventually(t, "some reports are stored", func() bool { return p.which(t) != "" })
	for name := range strings.FieldsSeq(consumers(t, p.js)) {
		if name != queue.Consumer {
			if err := p.js.DeleteConsumer(t.Context(), queue.StreamName(0), name); err != nil {
				t.Fatal(err)
			}
		}
	}
	got := <-ended
	if got.code != 2 {
		t.Errorf("%+v", got)
	}
	requireWords(t, got.out, "Not all of them: to go on, crashctl replay")
	requireWords(t, got.errors, "consumer not found")
}
