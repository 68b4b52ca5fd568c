package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/yagi-crash/yagi/deploy/internal/queuestatus"
	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/devstack/devnats"
	"github.com/yagi-crash/yagi/pkg/queue"
)

// outcome is what a run of crashctl left behind.
type outcome struct {
	code        int
	out, errors string
}

// crashctl runs the command as main does.
func crashctl(t *testing.T, environ []string, args ...string) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), args, environ, &stdout, &stderr)
	return outcome{code, stdout.String(), stderr.String()}
}

// start runs a server that syncs always, and returns the settings for it.
func start(t *testing.T, settings ...string) (js jetstream.JetStream, environ []string) {
	t.Helper()
	s, err := devnats.Start(t.Context(), devnats.Config{
		Addr: "127.0.0.1:0", MonitorAddr: "127.0.0.1:0", Dir: t.TempDir(), MaxStore: 1 << 30,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	environ = []string{"NATS_URL=" + s.URL(), "NATS_MONITOR_URL=" + s.MonitorURL(), "NATS_STREAM_MAX_BYTES=64MiB"}
	return connect(t, s.URL()), append(environ, settings...)
}

// applied is start, with the streams made by the command.
func applied(t *testing.T, settings ...string) (js jetstream.JetStream, environ []string) {
	t.Helper()
	js, environ = start(t, settings...)
	if got := crashctl(t, environ, "stream", "apply", "--yes"); got.code != 0 {
		t.Fatalf("stream apply --yes: %+v", got)
	}
	return js, environ
}

// startServer runs a server with settings that devnats does not offer.
func startServer(t *testing.T, opts *server.Options) *server.Server {
	t.Helper()
	s := newServer(t, opts)
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server is not ready after 10 s")
	}
	return s
}

// newServer starts one, which need not be ready yet.
func newServer(t *testing.T, opts *server.Options) *server.Server {
	t.Helper()
	opts.Host, opts.Port, opts.NoSigs = "127.0.0.1", server.RANDOM_PORT, true
	if opts.StoreDir == "" {
		opts.StoreDir = t.TempDir()
	}
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return s
}

func connect(t *testing.T, url string) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// publish puts a report with a dump of so many bytes into partition p, as
// intake does, and returns when the server stored it.
func publish(t *testing.T, js jetstream.JetStream, p, size int) time.Time {
	t.Helper()
	report := &crash.Report{
		ID:       crash.NewID(time.Now(), crash.Accept),
		Received: time.Now().UTC(),
	}
	dump := make([]byte, size)
	report.Dumps = []crash.Part{crash.NewPart("upload_file_minidump", dump, crash.Sum(dump))}
	sealed, err := report.Seal()
	if err != nil {
		t.Fatal(err)
	}
	msg, err := queue.Encode(nil, sealed, queue.InlineLimit(queue.MaxPayload))
	if err != nil {
		t.Fatal(err)
	}
	msg.Subject = queue.ReadySubject(p)
	return store(t, js, queue.StreamName(p), msg)
}

func publishChunk(t *testing.T, js jetstream.JetStream, p int) time.Time {
	t.Helper()
	return store(t, js, queue.StreamName(p), &nats.Msg{Subject: queue.ChunkSubject(p), Data: []byte("piece")})
}

func store(t *testing.T, js jetstream.JetStream, stream string, msg *nats.Msg) time.Time {
	t.Helper()
	ack, err := js.PublishMsg(t.Context(), msg)
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	var kept *jetstream.RawStreamMsg
	eventually(t, "the message is with whoever answers", func() bool { // a replica may, which lags behind
		kept, err = s.GetMsg(t.Context(), ack.Sequence)
		return err == nil || !errors.Is(err, jetstream.ErrMsgNotFound)
	})
	if err != nil {
		t.Fatal(err)
	}
	return kept.Time
}

// take gets a report as an uploader does.
func take(t *testing.T, js jetstream.JetStream, p int) jetstream.Msg {
	t.Helper()
	consumer, err := js.Consumer(t.Context(), queue.StreamName(p), queue.Consumer)
	if err != nil {
		t.Fatal(err)
	}
	msg, err := consumer.Next()
	if err != nil {
		t.Fatal(err)
	}
	return msg
}

// readStatus runs crashctl status --json and reads what it prints.
func readStatus(t *testing.T, environ []string, wantCode int) queuestatus.Status {
	t.Helper()
	got := crashctl(t, environ, "status", "--json")
	var s queuestatus.Status
	d := json.NewDecoder(strings.NewReader(got.out))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		t.Fatalf("reading %q: %v", got.out, err)
	}
	if got.code != wantCode || got.errors != "" {
		t.Errorf("exit code %d, want %d; stderr %q; attention %q; cannot tell %q", got.code, wantCode, got.errors, s.Attention, s.CannotTell)
	}
	return s
}

// requireOne fails unless exactly one line is there, with all of the words.
func requireOne(t *testing.T, lines []string, words ...string) {
	t.Helper()
	if len(lines) != 1 {
		t.Fatalf("%q, want one line with %q", lines, words)
	}
	for _, w := range words {
		if !strings.Contains(lines[0], w) {
			t.Errorf("%q does not say %q", lines[0], w)
		}
	}
}

func requireWords(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%q does not say %q", text, w)
		}
	}
}
