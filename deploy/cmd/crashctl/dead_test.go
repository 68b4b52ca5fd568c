package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/yagi-crash/yagi/deploy/internal/deadletters"
	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/queue"
)

// graveyard has four dead letters: a report, one in chunks, one in chunks that
// lacks one, and a message that says nothing of itself.
type graveyard struct {
	js                   jetstream.JetStream
	environ              []string
	small, large, broken *crash.Sealed
}

func bury(t *testing.T) *graveyard {
	t.Helper()
	js, environ := applied(t)
	g := &graveyard{js: js, environ: environ, small: sealed(t, 10), large: sealed(t, 5000), broken: sealed(t, 5000)}
	ready, err := queue.Encode(nil, g.small, queue.InlineLimit(queue.MaxPayload))
	if err != nil {
		t.Fatal(err)
	}
	g.bury(t, ready, "refused", "the store says no")
	g.bury(t, g.chunked(t, g.large), "denied", "the store says no")
	lost := g.chunked(t, g.broken)
	first := regexp.MustCompile(`"chunks":\[\d+`)
	lost.Header.Set(queue.HeaderManifest, first.ReplaceAllString(lost.Header.Get(queue.HeaderManifest), `"chunks":[1000000`))
	g.bury(t, lost, "incomplete", "a chunk is missing")
	g.bury(t, &nats.Msg{Header: nats.Header{}, Data: []byte("hello")}, "unreadable", "no manifest")
	return g
}

func sealed(t *testing.T, size int) *crash.Sealed {
	t.Helper()
	dump := []byte(strings.Repeat("x", size))
	r := &crash.Report{ID: crash.NewID(time.Now(), crash.Accept), Received: time.Now().UTC(), Annotations: crash.Annotations{"ProductName": crash.Text("Secret")}}
	r.Dumps = []crash.Part{crash.NewPart(crash.MinidumpName, dump, crash.Sum(dump))}
	s, err := r.Seal()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// chunked publishes a report's chunks of 1,000 bytes, and returns its ready
// message.
func (g *graveyard) chunked(t *testing.T, s *crash.Sealed) *nats.Msg {
	t.Helper()
	var chunks []uint64
	for at := int64(0); at < s.Size(); at += 1000 {
		chunk := make([]byte, min(1000, s.Size()-at))
		if _, err := s.ReadAt(chunk, at); err != nil {
			t.Fatal(err)
		}
		ack, err := g.js.Publish(t.Context(), queue.ChunkSubject(0), chunk)
		if err != nil {
			t.Fatal(err)
		}
		chunks = append(chunks, ack.Sequence)
	}
	msg, err := queue.EncodeChunked(s, chunks)
	if err != nil {
		t.Fatal(err)
	}
	return msg
}

func (g *graveyard) bury(t *testing.T, msg *nats.Msg, class, cause string) {
	t.Helper()
	err := queue.NewCopier(g.js).Bury(t.Context(), msg.Header, msg.Data, queue.Death{
		Class: class, Cause: cause, Stream: "CRASHES_0", Sequence: 7, Stored: time.Now(), Delivered: 5, At: time.Now(), Partial: true,
	})
	if err != nil {
		t.Fatal(err)
	}
}

// list returns the dead letters by class.
func (g *graveyard) list(t *testing.T) map[string]deadletters.Letter {
	t.Helper()
	got := crashctl(t, g.environ, "dead", "list", "--json")
	var all []deadletters.Letter
	if err := json.Unmarshal([]byte(got.out), &all); err != nil || got.code != 0 {
		t.Fatalf("%v: %+v", err, got)
	}
	letters := map[string]deadletters.Letter{}
	for _, d := range all {
		letters[d.Class] = d
	}
	return letters
}

func TestDeadListAndShow(t *testing.T) {
	g := bury(t)
	letters := g.list(t)
	if d := letters["denied"]; len(letters) != 4 || d.ID != g.large.ID || d.Size != g.large.Size() || d.From != "CRASHES_0" || len(d.Parts) != 2 {
		t.Errorf("%d dead letters; the large one is %+v", len(letters), d)
	}
	got := crashctl(t, g.environ, "dead", "list")
	requireWords(t, got.out, string(g.small.ID), "the store says no", "(1 of 6 chunks are lost)", "unreadable", "(no id)", "CRASHES_0/7")
	got = crashctl(t, g.environ, "dead", "show", "--all")
	requireWords(t, got.out, "a chunk is missing", "upload_file_minidump, 5,000 bytes", ": intact\n", "after 5 attempt(s)", "cannot be told apart")
	if got.code != 0 || strings.Contains(got.out, "Secret") {
		t.Errorf("%+v", got)
	}
	if got := crashctl(t, g.environ, "dead", "show"); got.code != 2 {
		t.Errorf("without saying which: %+v", got)
	}
	for _, both := range [][]string{{"1", "--all"}, {"1", "--class", "denied"}, {"--all", "--class", "denied"}} {
		if got := crashctl(t, g.environ, append([]string{"dead", "drop", "--yes"}, both...)...); got.code != 2 || len(g.list(t)) != 4 {
			t.Errorf("%v: %+v", both, got)
		}
	}
	if got := crashctl(t, g.environ, "dead", "drop", "999", "--yes"); got.code != 2 || len(g.list(t)) != 4 {
		t.Errorf("one that is not there: %+v", got)
	}
}

// Of a damaged report it is told which part still is what intake received.
func TestDeadShowOfADamagedReport(t *testing.T) {
	js, environ := applied(t)
	g := &graveyard{js: js, environ: environ}
	msg, err := queue.Encode(nil, sealed(t, 10), queue.InlineLimit(queue.MaxPayload))
	if err != nil {
		t.Fatal(err)
	}
	msg.Data[len(msg.Data)-1] ^= 1 // of the last part
	g.bury(t, msg, "damaged", "not what intake received")
	got := crashctl(t, environ, "dead", "show", "--all")
	if n := strings.Count(got.out, ": damaged\n"); n != 1 || strings.Count(got.out, ": intact\n") != 1 {
		t.Errorf("%d parts are damaged: %+v", n, got)
	}
}

func TestDeadSave(t *testing.T) {
	g := bury(t)
	letters := g.list(t)
	dir := t.TempDir()
	if got := crashctl(t, g.environ, "dead", "save", "--all", "--dir", dir); got.code != 0 || strings.Count(got.out, "saved "+dir) != 4 {
		t.Fatalf("%+v", got)
	}
	for class, files := range map[string][]string{
		"refused":    {"dead_letter.json", "raw_crash", "upload_file_minidump"},
		"denied":     {"dead_letter.json", "raw_crash", "upload_file_minidump"},
		"incomplete": {"chunk_002.bin", "chunk_006.bin", "dead_letter.json"},
		"unreadable": {"body.bin", "dead_letter.json"},
	} {
		for _, name := range files {
			path := filepath.Join(dir, letters[class].Name(), name)
			info, err := os.Stat(path)
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s of the %s one: %v, %v", name, class, info, err)
			}
		}
	}
	dump, err := os.ReadFile(filepath.Join(dir, letters["denied"].Name(), crash.MinidumpName))
	if err != nil || crash.Sum(dump) != g.large.Dumps[0].SHA256 {
		t.Errorf("the dump has %d bytes, %v", len(dump), err)
	}
	if got := crashctl(t, g.environ, "dead", "save", "--all", "--dir", dir); got.code != 1 {
		t.Errorf("a second time: %+v", got)
	}
}

// Back in the queue are those that can be read, and they are dead letters no more.
func TestDeadRequeue(t *testing.T) {
	g := bury(t)
	if got := crashctl(t, g.environ, "dead", "requeue", "--all"); got.code != 1 || strings.Count(got.out, "would put back") != 2 || len(g.list(t)) != 4 {
		t.Fatalf("without --yes: %+v", got)
	}
	got := crashctl(t, g.environ, "dead", "requeue", "--all", "--yes")
	requireWords(t, got.out, "done: put back", "failed:")
	if left := g.list(t); got.code != 1 || len(left) != 2 || left["incomplete"].Sequence == 0 || left["unreadable"].Sequence == 0 {
		t.Errorf("%+v; %d are left", got, len(left))
	}
	reader := queue.NewReader(g.js)
	for _, want := range []*crash.Sealed{g.small, g.large} {
		msg := take(t, g.js, 0)
		m, err := queue.ReadManifest(msg.Headers())
		if err != nil {
			t.Fatal(err)
		}
		s, err := reader.Read(t.Context(), queue.StreamName(0), m, msg.Data())
		if err != nil || s.ID != want.ID || s.Verify() != nil {
			t.Errorf("%+v is back, %v; want %s", s, err, want.ID)
		}
	}
	requireMessages(t, g.js, 1+5+1) // the broken one with what there is of its chunks, and the unreadable one
}

// Two people requeue the same dead letters, and one of them is later: nothing failed.
func TestDeadLettersThatSomebodyElseHasTaken(t *testing.T) {
	g := bury(t)
	letters, err := deadletters.Open(t.Context(), g.js)
	if err != nil {
		t.Fatal(err)
	}
	stale := g.list(t)
	if got := crashctl(t, g.environ, "dead", "requeue", "--class", "denied", "--yes"); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	if got := crashctl(t, g.environ, "dead", "drop", "--class", "refused", "--yes"); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	for _, class := range []string{"denied", "refused"} {
		if err := letters.Requeue(t.Context(), stale[class], 1); !errors.Is(err, deadletters.ErrGone) {
			t.Errorf("requeueing one that is gone: %v", err)
		}
		if err := letters.Drop(t.Context(), stale[class]); err != nil {
			t.Errorf("dropping one that is gone: %v", err)
		}
	}
	take(t, g.js, 0)
	if got := crashctl(t, g.environ, "status", "--json"); !strings.Contains(got.out, `"pending": 0`) {
		t.Errorf("the queue has more than the one that was put back: %s", got.out)
	}
}

// An interruption is none of the letter's fault, which stays.
func TestDeadRequeueInterrupted(t *testing.T) {
	g := bury(t)
	g.bury(t, g.chunked(t, sealed(t, 300_000)), "other", "the store says no")
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	first, err := g.js.Conn().Subscribe(queue.ChunkSubject(0), func(*nats.Msg) { interrupt() })
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(first.AutoUnsubscribe(1), g.js.Conn().Flush()); err != nil {
		t.Fatal(err)
	}
	var out, errs strings.Builder
	code := run(ctx, []string{"dead", "requeue", "--class", "other", "--yes"}, g.environ, &out, &errs)
	if code == 0 || strings.Contains(out.String(), "failed") || len(g.list(t)) != 5 {
		t.Errorf("code %d, %s %s, %d letters", code, out.String(), errs.String(), len(g.list(t)))
	}
	requireWords(t, out.String()+errs.String(), "interrupted")
	if got := crashctl(t, g.environ, "dead", "requeue", "--class", "other", "--yes"); got.code != 0 || len(g.list(t)) != 4 {
		t.Errorf("a second time: %+v", got)
	}
}

func TestDeadDrop(t *testing.T) {
	g := bury(t)
	if got := crashctl(t, g.environ, "dead", "drop", "bp-"+string(g.large.ID)); got.code != 0 || len(g.list(t)) != 4 {
		t.Errorf("without --yes: %+v", got)
	}
	if got := crashctl(t, g.environ, "dead", "drop", "bp-"+string(g.large.ID), "--yes"); got.code != 0 || len(g.list(t)) != 3 {
		t.Errorf("%+v", got)
	}
	if got := crashctl(t, g.environ, "dead", "drop", "--class", "refused", "--yes"); got.code != 0 || len(g.list(t)) != 2 {
		t.Errorf("%+v", got)
	}
	if got := crashctl(t, g.environ, "dead", "drop", "--all", "--yes"); got.code != 0 || len(g.list(t)) != 0 {
		t.Errorf("%+v", got)
	}
	requireMessages(t, g.js, 0)
	if got := crashctl(t, g.environ, "dead", "list"); got.code != 0 || got.out != "no dead letters\n" {
		t.Errorf("%+v", got)
	}
}

// Pieces of copies that were interrupted are found, but not those of a copy that
// is being made.
func TestDeadStrays(t *testing.T) {
	g := bury(t)
	for range 3 {
		if _, err := g.js.Publish(t.Context(), queue.DeadChunkSubject(0), []byte("piece")); err != nil {
			t.Fatal(err)
		}
	}
	if got := crashctl(t, g.environ, "dead", "drop", "--strays", "--yes"); got.code != 0 || got.out != "nothing to do\n" {
		t.Errorf("%+v", got)
	}
	letters, err := deadletters.Open(t.Context(), g.js)
	if err != nil {
		t.Fatal(err)
	}
	all, err := letters.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	strays, err := letters.Strays(t.Context(), all, 0)
	if err != nil || len(strays) != 3 {
		t.Fatalf("strays %v, %v; want 3", strays, err)
	}
	if err := letters.DropStrays(t.Context(), strays); err != nil {
		t.Fatal(err)
	}
	requireMessages(t, g.js, 4+6+5)
}

// What a newer release has made a dead letter may list any chunk.
func TestDeadStraysOfANewerFormat(t *testing.T) {
	g := bury(t)
	newer := g.chunked(t, g.large)
	newer.Header.Set(queue.HeaderFormat, "99")
	g.bury(t, newer, "refused", "no")
	got := crashctl(t, g.environ, "dead", "drop", "--strays", "--yes")
	if got.code != 2 {
		t.Errorf("%+v", got)
	}
	requireWords(t, got.errors, "newer format")
}

func TestDeadWithoutAStream(t *testing.T) {
	_, environ := start(t)
	got := crashctl(t, environ, "dead", "list")
	if got.code != 2 {
		t.Errorf("%+v", got)
	}
	requireWords(t, got.errors, "CRASHES_DLQ is missing", "crashctl stream apply")
}

func requireMessages(t *testing.T, js jetstream.JetStream, want uint64) {
	t.Helper()
	s, err := js.Stream(t.Context(), queue.DeadLetterStream)
	if err != nil {
		t.Fatal(err)
	}
	if n := s.CachedInfo().State.Msgs; n != want {
		t.Errorf("%d messages are left among the dead letters, want %d", n, want)
	}
}
