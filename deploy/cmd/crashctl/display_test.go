package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/yagi-crash/yagi/deploy/internal/queuestatus"
	"github.com/yagi-crash/yagi/pkg/queue"
)

// hostile is a text that retitles a terminal, erases its screen (by ESC, and by C1 as
// a character and as a byte), reads backwards, overwrites its line and forges a line.
const hostile = "x\x1b]0;title\a\x1b[2J\u009b2J\x9b2J\u202e\u2066\u2028\r\b\x7f\nforged: all is well\n"

// requireHarmless fails when a terminal would obey something of a text, or when a line
// of it is not crashctl's.
func requireHarmless(t *testing.T, what, text string) {
	t.Helper()
	for _, r := range text {
		if r != '\n' && r != '\t' && !unicode.IsGraphic(r) {
			t.Errorf("%s prints %U: %q", what, r, text)
			return
		}
	}
	if !utf8.ValidString(text) {
		t.Errorf("%s prints bytes that are not UTF-8: %q", what, text)
	}
	if strings.HasPrefix(text, "forged") || strings.Contains(text, "\nforged") {
		t.Errorf("%s prints a line that is not its own: %q", what, text)
	}
}

// Whatever a dead letter says of itself, it does nothing to the terminal that shows
// it, and long texts are cut.
func TestHostileDeadLetters(t *testing.T) {
	js, environ := applied(t)
	s := sealed(t, 10)
	msg, err := queue.Encode(nil, s, queue.InlineLimit(queue.MaxPayload))
	if err != nil {
		t.Fatal(err)
	}
	oneLine := strings.NewReplacer("\n", " ", "\r", " ").Replace(hostile) // a header is one line
	for name, value := range map[string]string{
		queue.HeaderDeadClass: oneLine, queue.HeaderDeadCause: oneLine + strings.Repeat("long", 10_000), queue.HeaderDeadStream: oneLine,
		queue.HeaderDeadSequence: "7", queue.HeaderDeadDelivered: "1", queue.HeaderDeadAt: "2026-11-23T00:00:00Z",
	} {
		msg.Header.Set(name, value)
	}
	traversal := strings.NewReplacer("upload_file_minidump", `../../\u001b[2Jescaped`).Replace(msg.Header.Get(queue.HeaderManifest))
	other := &nats.Msg{Header: nats.Header{}, Data: msg.Data}
	for name := range msg.Header {
		other.Header.Set(name, msg.Header.Get(name))
	}
	other.Header.Set(queue.HeaderManifest, traversal)
	other.Header.Set(queue.HeaderMsgID, "other")
	for i, m := range []*nats.Msg{msg, other} {
		m.Subject = "crashdlq.0.ready." + []string{"1.1", "2.2"}[i]
		if _, err := js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	for _, args := range [][]string{
		{"dead", "list"},
		{"dead", "list", "--json"},
		{"dead", "show", "--all"},
		{"dead", "save", "--all", "--dir", dir},
		{"dead", "requeue", "--all"},
		{"dead", "drop", "--all"},
		{"dead", "show", "--class", hostile},
		{"dead", "show", hostile},
		{"status"},
		{"status", "--json"},
	} {
		got := crashctl(t, environ, args...)
		requireHarmless(t, strings.Join(args, " "), got.out)
		requireHarmless(t, strings.Join(args, " "), got.errors)
		if args[len(args)-1] == "--json" && !json.Valid([]byte(got.out)) {
			t.Errorf("%v: %q is not JSON", args, got.out)
		}
		for l := range strings.Lines(got.out) {
			if len(l) > mostLine+100 && args[len(args)-1] != "--json" {
				t.Errorf("%v: a line has %d bytes", args, len(l))
			}
		}
	}
	requireWords(t, crashctl(t, environ, "dead", "show", "1").out, `x\u001b]0;title\u0007`, "more characters)")
	requireFiles(t, dir)
}

// requireFiles fails when a file was saved elsewhere than in a folder of dir.
func requireFiles(t *testing.T, dir string) {
	t.Helper()
	folders, err := os.ReadDir(dir)
	if err != nil || len(folders) != 2 {
		t.Fatalf("%v, %v, want two folders", folders, err)
	}
	for _, f := range folders {
		files, err := os.ReadDir(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			requireHarmless(t, "a file's name", file.Name())
			if !file.Type().IsRegular() {
				t.Errorf("%s is no file", file.Name())
			}
		}
	}
}

// Nor does what servers, intakes, uploaders and stores answer.
func TestHostileAnswers(t *testing.T) {
	s := startServer(t, &server.Options{ServerName: "n\x1b]0;title\a\u202e", JetStream: true})
	answers := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := json.Marshal(hostile)
		switch r.URL.Path {
		case "/__heartbeat__":
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte(`{"errors":[{"name":` + string(text) + `,"msg":` + string(text) + `}]}`))
		case "/submit":
			w.WriteHeader(http.StatusMethodNotAllowed)
			_, _ = w.Write([]byte("Discarded=" + hostile))
		case "/varz":
			_, _ = w.Write([]byte(`{"server_name":` + string(text) + `,"jetstream":{"config":{"sync_interval":120000000000}}}`))
		case "/metrics":
			_, _ = w.Write([]byte(hostile))
		default: // the store
			w.WriteHeader(http.StatusConflict)
			_, _ = w.Write([]byte(`<Error><Code>Bad&#x9b;2J</Code><Message>&#x202e;&#x9b;2J&#10;forged: all is well</Message></Error>`))
		}
	}))
	defer answers.Close()
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL_S3": answers.URL, "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s",
	} {
		t.Setenv(name, value)
	}
	environ := []string{
		"NATS_URL=" + s.ClientURL(), "NATS_MONITOR_URL=" + answers.URL, "INTAKE_URL=" + answers.URL, "UPLOADER_URL=" + answers.URL, "S3_BUCKET=crashes",
	}
	if got := crashctl(t, environ, "stream", "apply", "--yes"); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	js := connect(t, s.ClientURL())
	if _, err := js.CreateConsumer(t.Context(), queue.StreamName(0), jetstream.ConsumerConfig{Durable: "d\u009b2J\u202e", AckPolicy: jetstream.AckExplicitPolicy}); err != nil {
		t.Fatal(err)
	}
	publish(t, js, 0, 100)
	for _, args := range [][]string{
		{"status"},
		{"status", "--json"},
		{"audit", "--since", "1h"},
		{"probe", "--yes", "--url", answers.URL},
		{"load", "--url", answers.URL, "--count", "1"},
		{"rules", "check", hostile},
		{"load", "--url", "http://" + hostile},
		{"audit", "--since", hostile},
		{hostile},
		{"audit", "--since", "1h", "--ledger", "/dev/null" + hostile},
	} {
		got := crashctl(t, environ, args...)
		requireHarmless(t, strings.Join(args, " "), got.out)
		requireHarmless(t, strings.Join(args, " "), got.errors)
	}
	requireWords(t, crashctl(t, environ, "status").out, `\u001b]0;title`, `d\u009b2J`)
}

// What is drawn on a terminal has crashctl's own control sequences, and no others.
func TestHostileStatusOnATerminal(t *testing.T) {
	var out terminal
	v := &view{Status: queuestatus.Nothing(errors.New(hostile)), err: errors.New(hostile)}
	for range 2 {
		if err := (&status{}).show(display{&out})(v); err != nil {
			t.Fatal(err)
		}
	}
	text, own := strings.CutPrefix(out.String(), home+erase)
	if !own || strings.Count(text, home+erase) != 1 {
		t.Errorf("%q does not redraw", out.String())
	}
	requireHarmless(t, "the screen", strings.ReplaceAll(text, home+erase, ""))
}

// A variable that is misspelt is told once, to people; what Kubernetes sets, and what
// is for others, is not.
func TestMisspeltSettings(t *testing.T) {
	_, environ := applied(t)
	environ = append(environ, "NATS_PARTITION=2", "INTAKE_PORT=tcp://10.0.0.1:8000", "NATS_CONTEXT=ops", "INTAKE_ADDR=:8000", "UPLOADER_UR\x1b=x")
	got := crashctl(t, environ, "status")
	requireHarmless(t, "a warning", got.errors)
	if want := "warning: NATS_PARTITION: is not a setting; did you mean NATS_PARTITIONS?\n"; !strings.HasPrefix(got.errors, want) || strings.Count(got.errors, "warning:") != 2 {
		t.Errorf("stderr %q, want %q and one more", got.errors, want)
	}
	if got := crashctl(t, environ, "status", "--json"); got.errors != "" {
		t.Errorf("with --json: stderr %q", got.errors)
	}
}

// An error is one line, whatever is in it; a list of problems has a line for each.
func TestErrorsAreOneLine(t *testing.T) {
	var out bytes.Buffer
	sayError(display{&out}, errors.Join(errors.New("first"), errors.New("se\x1bcond\nforged")))
	if got := out.String(); got != `crashctl: first; se\u001bcond; forged`+"\n" {
		t.Errorf("printed %q", got)
	}
	if got := crashctl(t, []string{"NATS_PARTITIONS=0", "NATS_REPLICAS=4"}, "status"); strings.Count(got.errors, "\n") != 4 {
		t.Errorf("printed %q, want a line for each problem", got.errors)
	}
}
