package devnats

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
)

const stream = "KEPT"

// start runs a server until the test ends.
func start(t *testing.T, cfg Config) *Server {
	t.Helper()
	cfg.Log = zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel)
	s, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

func connect(t *testing.T, s *Server) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(s.URL())
	if err != nil {
		t.Fatalf("connecting to %s: %v", s.URL(), err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func publish(t *testing.T, js jetstream.JetStream, body string) {
	t.Helper()
	if _, err := js.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{
		Name: stream, Subjects: []string{"kept.>"}, Storage: jetstream.FileStorage, MaxBytes: 10 << 30,
	}); err != nil {
		t.Fatalf("making the stream: %v", err)
	}
	if _, err := js.Publish(t.Context(), "kept.report", []byte(body)); err != nil {
		t.Fatalf("publishing: %v", err)
	}
}

// ask reads one page of the monitoring endpoint.
func ask(t *testing.T, s *Server, page string, into any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.MonitorURL()+page, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(into); err != nil {
		t.Fatalf("reading %s: %v", page, err)
	}
}

// What was acknowledged is there for the next server on the same folder and
// address.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	first := start(t, Config{Addr: "127.0.0.1:0", Dir: dir})
	publish(t, connect(t, first), "report")
	first.Stop()
	first.Stop() // Stopping again does nothing.

	second := start(t, Config{Addr: strings.TrimPrefix(first.URL(), "nats://"), Dir: dir})
	if second.URL() != first.URL() {
		t.Errorf("second server at %s, want %s", second.URL(), first.URL())
	}
	kept, err := connect(t, second).Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	msg, err := kept.GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(msg.Data); got != "report" {
		t.Errorf("message after the restart = %q, want %q", got, "report")
	}
}

// Stop ends the service, not only the Server value.
func TestStop(t *testing.T) {
	s := start(t, Config{Addr: "127.0.0.1:0", MonitorAddr: "127.0.0.1:0", Dir: t.TempDir()})
	s.Stop()
	for _, url := range []string{s.URL(), s.MonitorURL()} {
		_, addr, _ := strings.Cut(url, "://")
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Errorf("%s is still taken: %v", url, err)
			continue
		}
		l.Close()
	}
}

// Two servers on one folder would both hand out the same sequence numbers.
func TestFolderIsExclusive(t *testing.T) {
	dir := t.TempDir()
	first := start(t, Config{Addr: "127.0.0.1:0", Dir: dir})

	second, err := Start(t.Context(), Config{Addr: "127.0.0.1:0", Dir: dir})
	if err == nil {
		second.Stop()
		t.Fatal("a second server started on the same folder")
	}
	if !strings.Contains(err.Error(), dir) {
		t.Errorf("error %q does not name the folder %s", err, dir)
	}

	first.Stop()
	start(t, Config{Addr: "127.0.0.1:0", Dir: dir})
}

// nats-server reports a taken address through its logger alone. Start has to
// hear it, and must leave the folder free.
func TestAddressInUse(t *testing.T) {
	taken := start(t, Config{Addr: "127.0.0.1:0", MonitorAddr: "127.0.0.1:0", Dir: t.TempDir()})
	client := strings.TrimPrefix(taken.URL(), "nats://")
	monitor := strings.TrimPrefix(taken.MonitorURL(), "http://")

	dir := t.TempDir()
	for name, cfg := range map[string]Config{
		"client":  {Addr: client, Dir: dir},
		"monitor": {Addr: "127.0.0.1:0", MonitorAddr: monitor, Dir: dir},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Start(t.Context(), cfg)
			if err == nil {
				s.Stop()
				t.Fatal("two servers on one address")
			}
			if !strings.Contains(err.Error(), "address already in use") {
				t.Errorf("error = %q, want it to say that the address is in use", err)
			}
		})
	}
	start(t, Config{Addr: "127.0.0.1:0", Dir: dir})
}

// The server is the version that Yagi is built against, takes the messages that
// intake sends and syncs before it acknowledges.
func TestSettings(t *testing.T) {
	s := start(t, Config{Addr: "127.0.0.1:0", MonitorAddr: "127.0.0.1:0", Dir: t.TempDir()})

	var server struct {
		Version    string `json:"version"`
		MaxPayload int    `json:"max_payload"`
	}
	ask(t, s, "/varz", &server)
	if server.Version != "2.15.2" {
		t.Errorf("version = %s, want 2.15.2", server.Version)
	}
	if server.MaxPayload != 8<<20 {
		t.Errorf("max_payload = %d, want 8 MiB", server.MaxPayload)
	}

	var store struct {
		Config struct {
			SyncAlways bool  `json:"sync_always"`
			MaxStore   int64 `json:"max_storage"`
		} `json:"config"`
	}
	ask(t, s, "/jsz", &store)
	if !store.Config.SyncAlways {
		t.Error("sync_always is off: an acknowledged message could be lost with the power")
	}
	if store.Config.MaxStore != 64<<30 {
		t.Errorf("max_storage = %d, want 64 GiB", store.Config.MaxStore)
	}
}

// Whoever changes the working directory does not move the streams.
func TestRelativeFolder(t *testing.T) {
	home := t.TempDir()
	t.Chdir(home)
	s := start(t, Config{Addr: "127.0.0.1:0", Dir: "queue"})
	t.Chdir(t.TempDir())

	publish(t, connect(t, s), "report")
	streams := filepath.Join(home, "queue", "jetstream", "$G", "streams", stream)
	if _, err := os.Stat(streams); err != nil {
		t.Error(err)
	}
}
