package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/yagi-crash/yagi/deploy/internal/audit"
	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/layout"
	"github.com/yagi-crash/yagi/pkg/queue"
)

// findings runs an audit for machines.
func (p *plant) findings(t *testing.T, code int, args ...string) audit.Findings {
	t.Helper()
	got := crashctl(t, p.environ, append([]string{"audit", "--since", "1h", "--json"}, args...)...)
	var f audit.Findings
	if err := json.Unmarshal([]byte(got.out), &f); err != nil || got.code != code {
		t.Fatalf("%v, want exit code %d: %+v", err, code, got)
	}
	return f
}

// What is stored, what waits and what is dead is told apart, and nothing of it is
// amiss.
func TestAuditWhenAllIsWell(t *testing.T) {
	p := newPlant(t, "A", "B", "C")
	if _, err := p.js.PublishMsg(t.Context(), &nats.Msg{Subject: queue.ReadySubject(0), Data: []byte("hello")}); err != nil {
		t.Fatal(err)
	}
	p.upload(t)
	p.publish(t, "D", false)
	for _, args := range [][]string{nil, {"--read"}} {
		f := p.findings(t, 0, args...)
		if f.Reports != 5 || f.Stored != 3 || f.Waiting != 1 || f.Dead != 1 {
			t.Errorf("%v: %+v", args, f)
		}
	}
	requireWords(t, crashctl(t, p.environ, "audit", "--since", "1h").out, "5 report(s) in the queue: 3 stored, 1 waiting, 1 dead letter(s), 0 lost\n")
	if f := p.findings(t, 0, "--until", "30m"); f.Reports != 0 {
		t.Errorf("of another window: %+v", f)
	}
}

// Messages on a subject that no uploader reads are told of: nobody can say that nothing
// is lost.
func TestAuditOfHiddenReports(t *testing.T) {
	p := newPlant(t, "A")
	p.upload(t)
	stream, err := p.js.Stream(t.Context(), queue.StreamName(0))
	if err != nil {
		t.Fatal(err)
	}
	hiding := stream.CachedInfo().Config
	hiding.SubjectTransform = &jetstream.SubjectTransformConfig{Source: queue.ReadySubject(0), Destination: "crash.0.hidden"}
	if _, err := p.js.UpdateStream(t.Context(), hiding); err != nil {
		t.Fatal(err)
	}
	p.publish(t, "B", false)
	if f := p.findings(t, 1); f.Stored != 1 || len(f.Unknown) != 1 {
		t.Errorf("%+v", f)
	}
	got := crashctl(t, p.environ, "audit", "--since", "1h")
	requireWords(t, got.out, "0 of these lost, and others that nobody has looked at\n",
		"not audited: stream CRASHES_0: subject crash.0.hidden is not empty")
	requireWords(t, crashctl(t, p.environ, "status").out, "subject_transform", "subject crash.0.hidden is not empty, should be empty")
}

// An object that is missing or another is named, and the command that is offered
// brings it back.
func TestAuditFindsWhatIsLost(t *testing.T) {
	p := newPlant(t, "A", "B", "C", "D")
	p.lose(t, p.reports[1])
	if err := os.Remove(p.object(layout.DumpNames(p.reports[2].ID))); err != nil {
		t.Fatal(err)
	}
	path := p.object(layout.Dump(crash.MinidumpName, p.reports[3].ID))
	dump, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 100); err != nil {
		t.Fatal(err)
	}
	if f := p.findings(t, 1); f.Stored != 1 || len(f.Lost) != 3 {
		t.Errorf("with one that is cut off: %+v", f)
	}
	dump[7] ^= 1
	if err := os.WriteFile(path, dump, 0o600); err != nil {
		t.Fatal(err)
	}
	if f := p.findings(t, 1); f.Stored != 2 || len(f.Lost) != 2 {
		t.Errorf("without reading: %+v", f)
	}
	f := p.findings(t, 1, "--read")
	var ids []crash.ID
	for _, r := range f.Lost {
		ids = append(ids, r.ID)
	}
	if want := []crash.ID{p.reports[1].ID, p.reports[2].ID, p.reports[3].ID}; f.Stored != 1 || !slices.Equal(ids, want) {
		t.Errorf("lost %v, want %v: %+v", ids, want, f)
	}
	got := crashctl(t, p.environ, "audit", "--since", "1h", "--read")
	requireWords(t, got.out, "raw_crash/"+p.reports[1].ID.Day()+"/"+string(p.reports[1].ID)+" is missing\n",
		"dump_names/"+string(p.reports[2].ID)+" is missing\n", "dump/"+string(p.reports[3].ID)+" is not what intake received")
	_, command, ok := strings.Cut(got.out, "To bring back what is lost: crashctl ")
	if !ok {
		t.Fatalf("no command is offered: %+v", got)
	}
	if got := crashctl(t, p.environ, strings.Fields(command)...); got.code != 0 || p.which(t) != "0 1 2 3" {
		t.Errorf("reports %q are there; %+v", p.which(t), got)
	}
	p.findings(t, 0, "--read")
}

// before puts something before the bucket that is called with the number of each
// request; what it does not answer goes on.
func before(t *testing.T, meddle func(n int64, w http.ResponseWriter) (answered bool)) {
	t.Helper()
	target, err := url.Parse(os.Getenv("AWS_ENDPOINT_URL_S3"))
	if err != nil {
		t.Fatal(err)
	}
	pass := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host // the signature covers it
	}}
	var asked atomic.Int64
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !meddle(asked.Add(1), w) {
			pass.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(front.Close)
	t.Setenv("AWS_ENDPOINT_URL_S3", front.URL)
}

// A bucket that goes away during an audit has not lost everything: then nothing is
// known.
func TestAuditOfABucketThatGoes(t *testing.T) {
	p := newPlant(t, "A", "B", "C")
	before(t, func(n int64, w http.ResponseWriter) bool {
		if n <= 3 { // the first is whether the bucket is there
			return false
		}
		w.WriteHeader(http.StatusNotFound)
		return true
	})
	got := crashctl(t, p.environ, "audit", "--since", "1h")
	if got.code != 2 || got.out != "" {
		t.Errorf("%+v", got)
	}
	requireWords(t, got.errors, "crashctl: looking for bucket crashes: there is no such bucket")
}

// What is acknowledged during an audit without being stored is lost, and does not
// wait.
func TestAuditOfWhatIsAcknowledgedMeanwhile(t *testing.T) {
	p := newPlant(t, "A")
	lost := p.publish(t, "B", false)
	msg := take(t, p.js, 0)
	before(t, func(n int64, _ http.ResponseWriter) bool {
		if n == 2 { // it has begun
			if err := msg.DoubleAck(t.Context()); err != nil {
				t.Error(err)
			}
		}
		return false
	})
	f := p.findings(t, 1)
	if f.Stored != 1 || f.Waiting != 0 || len(f.Lost) != 1 || f.Lost[0].ID != lost.ID {
		t.Errorf("%+v", f)
	}
}

// Two reports may have the same id, when clients choose it: the bucket has the
// last one. And one that was put back into the queue is not lost.
func TestAuditOfRepetitions(t *testing.T) {
	p := newPlant(t, "A", "B")
	again := *p.reports[0]
	dump := []byte("another")
	again.Dumps = []crash.Part{crash.NewPart(crash.MinidumpName, dump, crash.Sum(dump))}
	msg, err := queue.Encode(nil, &again, queue.MaxPayload)
	if err != nil {
		t.Fatal(err)
	}
	msg.Subject = queue.ReadySubject(0)
	msg.Header.Set(queue.HeaderMsgID, "again")
	if _, err := p.js.PublishMsg(t.Context(), msg); err != nil {
		t.Fatal(err)
	}
	p.upload(t)
	if f := p.findings(t, 0); f.Reports != 3 || f.Stored != 3 {
		t.Errorf("with a report replaced: %+v", f)
	}
	p.lose(t, p.reports[1])
	p.findings(t, 1)
	if msg, err = queue.Encode(nil, p.reports[1], queue.MaxPayload); err != nil {
		t.Fatal(err)
	}
	msg.Subject = queue.ReadySubject(0)
	msg.Header.Set(queue.HeaderMsgID, "requeued")
	if _, err := p.js.PublishMsg(t.Context(), msg); err != nil {
		t.Fatal(err)
	}
	if f := p.findings(t, 0); f.Waiting != 2 {
		t.Errorf("with a report requeued: %+v", f)
	}
}

// What clients were promised and is nowhere is told.
func TestAuditOfALedger(t *testing.T) {
	p := newPlant(t, "A", "B")
	waiting := p.publish(t, "C", false)
	lost := crash.NewID(time.Now(), crash.Accept)
	path := filepath.Join(t.TempDir(), "ledger")
	text := "CrashID=bp-" + string(p.reports[0].ID) + "\n\nbp-" + string(p.reports[1].ID) + "\n" + string(waiting.ID) + "\n"
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(text)
	if f := p.findings(t, 0, "--ledger", path); f.Ledger != 3 {
		t.Errorf("%+v", f)
	}
	p.findings(t, 0, "--ledger", path, "--until", "30m") // those of other windows too
	write(text + string(lost) + "\n")
	if f := p.findings(t, 1, "--ledger", path); !slices.Equal(f.Unqueued, []crash.ID{lost}) {
		t.Errorf("%+v", f)
	}
	got := crashctl(t, p.environ, "audit", "--since", "1h", "--ledger", path)
	requireWords(t, got.out, "4 id(s) in the ledger: 1 nowhere\n", "nowhere: "+string(lost))
	p.lose(t, p.reports[0])
	next := nextSecond()
	write(text)
	f := p.findings(t, 1, "--ledger", path, "--since", next)
	if len(f.Unqueued) > 0 || len(f.Lost) != 1 || f.Lost[0].ID != p.reports[0].ID {
		t.Errorf("with a report that is lost and outside of the window: %+v", f)
	}
	got = crashctl(t, p.environ, "audit", "--since", next, "--ledger", path)
	_, command, _ := strings.Cut(got.out, "To bring back what is lost: crashctl ")
	if got = crashctl(t, p.environ, strings.Fields(command)...); got.code != 0 || !p.has(t, p.reports[0]) {
		t.Errorf("%q: %+v", command, got)
	}
	// Of what the queue still has, all objects are looked for, in the window or not.
	if err := os.Remove(p.object(layout.Dump(crash.MinidumpName, p.reports[0].ID))); err != nil {
		t.Fatal(err)
	}
	f = p.findings(t, 1, "--ledger", path, "--since", next)
	if len(f.Lost) != 1 || f.Lost[0].ID != p.reports[0].ID || !strings.Contains(f.Lost[0].What, "dump/") {
		t.Errorf("with a dump that is lost and outside of the window: %+v", f)
	}
	write("hello\n")
	if got := crashctl(t, p.environ, "audit", "--since", "1h", "--ledger", path); got.code != 2 || !strings.Contains(got.errors, "line 1") {
		t.Errorf("%+v", got)
	}
}

// A message that is missing in the middle of a stream is told, and one that was
// trimmed is not.
func TestAuditOfGaps(t *testing.T) {
	p := newPlant(t, "A", "B", "C", "D", "E")
	cfg := queue.StreamConfig(0, queue.Config{Replicas: 1, StreamMaxBytes: 64 << 20})
	cfg.DenyDelete = false
	// The server lets nobody take that back, so the stream is made anew.
	s, err := p.js.Stream(t.Context(), cfg.Name)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Purge(t.Context(), jetstream.WithPurgeSequence(3)); err != nil {
		t.Fatal(err)
	}
	if f := p.findings(t, 0); len(f.Gaps) != 0 || len(f.Short) != 1 || !strings.HasPrefix(f.Short[0], "CRASHES_0 has nothing from before 20") {
		t.Errorf("after a trim: %+v", f)
	}
	if err := p.js.DeleteStream(t.Context(), cfg.Name); err != nil {
		t.Fatal(err)
	}
	if _, err := p.js.CreateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if _, err := p.js.CreateConsumer(t.Context(), cfg.Name, queue.ConsumerConfig(0, queue.Config{MaxAckPending: 100})); err != nil {
		t.Fatal(err)
	}
	for range 6 {
		p.publish(t, "F", false)
	}
	if s, err = p.js.Stream(t.Context(), cfg.Name); err != nil {
		t.Fatal(err)
	}
	for _, seq := range []uint64{2, 3, 5} {
		if err := s.DeleteMsg(t.Context(), seq); err != nil {
			t.Fatal(err)
		}
	}
	if f := p.findings(t, 1); !slices.Equal(f.Gaps, []string{"messages 2 to 3 of CRASHES_0", "messages 5 to 5 of CRASHES_0"}) {
		t.Errorf("%+v", f)
	}
}

// What is acknowledged and not stored is not passed over while something else is not
// acknowledged for long, in the window or not.
func TestAuditBehindAHeldReport(t *testing.T) {
	p := newPlant(t)
	p.publish(t, "held", false)
	if err := take(t, p.js, 0).NakWithDelay(time.Hour); err != nil {
		t.Fatal(err)
	}
	if f := p.findings(t, 0); f.Waiting != 1 {
		t.Errorf("one that waits: %+v", f)
	}
	since := nextSecond()
	lost := p.publish(t, "acknowledged", false)
	if err := take(t, p.js, 0).DoubleAck(t.Context()); err != nil {
		t.Fatal(err)
	}
	if f := p.findings(t, 1); len(f.Unsure) != 2 || f.Waiting != 0 || len(f.Lost) != 0 {
		t.Errorf("both: %+v", f)
	}
	got := crashctl(t, p.environ, "audit", "--since", since)
	requireWords(t, got.out, "0 lost, 1 lost or waiting\n", "(lost, or one of 1 that uploaders have in hand)\n", "--id "+string(lost.ID)+" --yes\n")
}

// A report that is held is acknowledged, and waits; it is lost when it is neither held nor
// stored.
func TestAuditOfHeldReports(t *testing.T) {
	p := newPlant(t)
	report := p.publish(t, "A", false)
	msg := take(t, p.js, 0)
	meta, err := msg.Metadata()
	if err != nil {
		t.Fatal(err)
	}
	if err := queue.Hold(t.Context(), p.js, queue.Held{Stream: meta.Stream, Sequence: meta.Sequence.Stream, Stored: meta.Timestamp}); err != nil {
		t.Fatal(err)
	}
	if err := msg.DoubleAck(t.Context()); err != nil {
		t.Fatal(err)
	}
	if f := p.findings(t, 0, "--ledger", ledgerOf(t, report)); f.Waiting != 1 || len(f.Lost) != 0 {
		t.Errorf("held: %+v", f)
	}
	references, err := p.js.Stream(t.Context(), queue.HeldStream)
	if err != nil {
		t.Fatal(err)
	}
	if err := references.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if f := p.findings(t, 1); len(f.Lost) != 1 {
		t.Errorf("not held any more: %+v", f)
	}
}

// ledgerOf writes a ledger of these reports and returns its path.
func ledgerOf(t *testing.T, reports ...*crash.Sealed) string {
	t.Helper()
	var ids strings.Builder
	for _, s := range reports {
		ids.WriteString(string(s.ID) + "\n")
	}
	path := filepath.Join(t.TempDir(), "ledger")
	if err := os.WriteFile(path, []byte(ids.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A report that died, was put back and died again is a dead letter, and not lost.
func TestAuditOfWhatDiedTwice(t *testing.T) {
	p := newPlant(t)
	msg, err := queue.Encode(nil, sealed(t, 10), queue.InlineLimit(queue.MaxPayload))
	if err != nil {
		t.Fatal(err)
	}
	msg.Subject = queue.ReadySubject(0)
	msg.Data[len(msg.Data)-1] ^= 1
	if _, err := p.js.PublishMsg(t.Context(), msg); err != nil {
		t.Fatal(err)
	}
	p.upload(t)
	if got := crashctl(t, p.environ, "dead", "requeue", "--all", "--yes"); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	p.upload(t)
	if f := p.findings(t, 0); f.Dead != 2 {
		t.Errorf("%+v", f)
	}
	got := crashctl(t, append(p.environ, "NATS_PARTITIONS=2"), "audit", "--since", "1h")
	if got.code != 2 || !strings.Contains(got.errors, "CRASHES_1 is missing") {
		t.Errorf("without a stream: %+v", got)
	}
}

// What was put back into the queue is not lost, whenever that was.
func TestAuditOfWhatWasRequeuedLater(t *testing.T) {
	p := newPlant(t, "A")
	p.lose(t, p.reports[0])
	until := time.Now().UTC().Truncate(time.Second).Add(time.Second)
	<-time.After(time.Until(until))
	msg, err := queue.Encode(nil, p.reports[0], queue.MaxPayload)
	if err != nil {
		t.Fatal(err)
	}
	msg.Subject = queue.ReadySubject(0)
	msg.Header.Set(queue.HeaderMsgID, "requeued")
	if _, err := p.js.PublishMsg(t.Context(), msg); err != nil {
		t.Fatal(err)
	}
	if f := p.findings(t, 0, "--until", until.Format(time.RFC3339)); f.Reports != 1 || f.Waiting != 1 {
		t.Errorf("%+v", f)
	}
}

// Without a bucket nothing is known.
func TestAuditWithoutABucket(t *testing.T) {
	p := newPlant(t, "A")
	got := crashctl(t, append(p.environ, "S3_BUCKET=misspelt"), "audit", "--since", "1h")
	if got.code != 2 || strings.Contains(got.out, "lost") {
		t.Errorf("%+v", got)
	}
}
