package telemetry

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/rs/zerolog"

	"github.com/yagi-crash/yagi/pkg/settings"
)

func TestConfig(t *testing.T) {
	var cfg Config
	if err := settings.Load(nil, &cfg); err != nil || cfg != (Config{Level: "info", Format: "json"}) {
		t.Errorf("defaults = %+v, %v", cfg, err)
	}
	err := settings.Load([]string{"LOG_LEVEL=fatal", "LOG_FORMAT=xml"}, &cfg)
	want := `reading the settings:
LOG_LEVEL: "fatal" is not trace, debug, info, warn or error
LOG_FORMAT: "xml" is not json or console`
	if err == nil || err.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
}

func TestLoggerJSON(t *testing.T) {
	var out bytes.Buffer
	log := NewLogger(Config{Level: "warn"}, &out)
	log.Info().Msg("hidden")
	log = log.With().Str("tier", "intake").Logger()
	before := time.Now()
	log.Warn().Msg("shown")
	var event struct{ Time, Level, Tier, Message string }
	if err := json.Unmarshal(out.Bytes(), &event); err != nil {
		t.Fatalf("reading %q: %v", &out, err)
	}
	if event.Level != "warn" || event.Tier != "intake" || event.Message != "shown" {
		t.Errorf("event = %+v", event)
	}
	at, err := time.Parse("2006-01-02T15:04:05.000Z", event.Time)
	if err != nil || at.Before(before.Add(-time.Millisecond)) || at.After(time.Now()) {
		t.Errorf("time = %q, %v; want now in UTC with milliseconds", event.Time, err)
	}
}

func TestLoggerLevels(t *testing.T) {
	for level, want := range map[string]int{"trace": 5, "debug": 4, "info": 3, "": 3, "warn": 2, "error": 1, "fatal": 3} {
		var out bytes.Buffer
		log := NewLogger(Config{Level: level}, &out)
		log.Trace().Msg("")
		log.Debug().Msg("")
		log.Info().Msg("")
		log.Warn().Msg("")
		log.Error().Msg("")
		if got := bytes.Count(out.Bytes(), []byte("\n")); got != want {
			t.Errorf("level %q logs %d of 5 events, want %d", level, got, want)
		}
	}
}

func TestLoggerConsole(t *testing.T) {
	var out bytes.Buffer
	log := NewLogger(Config{Format: "console"}, &out)
	log.Info().Int("n", 1).Msg("hello")
	fields := strings.Fields(out.String())
	if len(fields) != 4 || strings.Join(fields[1:], " ") != "INF hello n=1" {
		t.Fatalf("line = %q, want a time and uncoloured text", &out)
	}
	if _, err := time.Parse("15:04:05.000", fields[0]); err != nil {
		t.Error(err)
	}
}

func TestReadBuild(t *testing.T) {
	const source = "https://github.com/yagi-crash/yagi"
	linked := &debug.BuildInfo{
		Main:     debug.Module{Version: "v1.0.0"},
		Settings: []debug.BuildSetting{{Key: "vcs", Value: "git"}, {Key: "vcs.revision", Value: "abc"}},
	}
	for _, tt := range []struct {
		name, file string
		linked     *debug.BuildInfo
		want       Build
	}{
		{"nothing", "", nil, Build{Source: source}},
		{"linked", "", linked, Build{Source: source, Version: "v1.0.0", Commit: "abc"}},
		{"file", `{"source":"s","version":"2","commit":"def","build":"b"}`, linked, Build{"s", "2", "def", "b"}},
		{"partial file", `{"version":"2"}`, linked, Build{Source: source, Version: "2", Commit: "abc"}},
		{"broken file", `{"version":"2"`, linked, Build{Source: source, Version: "v1.0.0", Commit: "abc"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if tt.file != "" {
				if err := os.WriteFile(filepath.Join(dir, "version.json"), []byte(tt.file), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if got := readBuild(filepath.Join(dir, "program"), tt.linked); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
	if got := ReadBuild(); got.Source != source {
		t.Errorf("this program's build = %+v", got)
	}
}

func TestAdmin(t *testing.T) {
	var ready error
	admin := Admin{
		Registry: NewRegistry(Build{Version: "v1", Commit: "abc"}),
		Ready:    func() error { return ready },
	}
	server := httptest.NewServer(admin.Handler())
	defer server.Close()

	res, body := get(t, server.URL+"/readyz")
	if res.StatusCode != 200 || body != "ready\n" || res.ContentLength != 6 {
		t.Errorf("/readyz = %s, %q, Content-Length %d", res.Status, body, res.ContentLength)
	}
	ready = errors.New("draining")
	res, body = get(t, server.URL+"/readyz")
	if res.StatusCode != 503 || body != "draining\n" || res.ContentLength != 9 {
		t.Errorf("/readyz = %s, %q, Content-Length %d", res.Status, body, res.ContentLength)
	}
	if got := res.Header.Get("Content-Type"); got != "text/plain; charset=utf-8" {
		t.Errorf("/readyz is %q", got)
	}
	_, body = get(t, server.URL+"/metrics")
	for _, want := range []string{`yagi_build_info{commit="abc",version="v1"} 1`, "go_goroutines ", "process_start_time_seconds "} {
		if !strings.Contains(body, want) {
			t.Errorf("/metrics has no %s", want)
		}
	}
	if res, _ = get(t, server.URL+"/debug/pprof/cmdline"); res.StatusCode != 404 {
		t.Errorf("pprof without being asked for = %s", res.Status)
	}
}

func TestAdminPProf(t *testing.T) {
	server := httptest.NewServer(Admin{Registry: NewRegistry(Build{}), PProf: true}.Handler())
	defer server.Close()
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/goroutine", "/debug/pprof/cmdline", "/debug/pprof/symbol", "/readyz"} {
		if res, _ := get(t, server.URL+path); res.StatusCode != 200 {
			t.Errorf("%s = %s", path, res.Status)
		}
	}
}

// get returns a reply and its body; it fails the test when there is none.
func get(t *testing.T, url string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

// What comes from outside does not reach the terminal of whoever reads the log.
func TestConsoleShowsNothingThatATerminalObeys(t *testing.T) {
	const hostile = "a\x1b]0;title\a\u009b2J\u202e\rb\x7f"
	var out bytes.Buffer
	log := NewLogger(Config{Format: "console"}, &out)
	log.Warn().Err(errors.New(hostile)).Str("cause", hostile).Strs("all", []string{hostile}).
		Dict("settings", zerolog.Dict().Str("NATS_URL", hostile)).Msg(hostile)
	log.Info().Str("long", strings.Repeat("x", 100_000)).Msg("cut")
	LastWords(&out, "intake:", errors.New(hostile))
	for _, r := range out.String() {
		if r != '\n' && !unicode.IsGraphic(r) {
			t.Fatalf("%U is in %q", r, out.String())
		}
	}
	if n := strings.Count(out.String(), "title"); n != 6 {
		t.Errorf("%d of 6 texts are there:\n%s", n, &out)
	}
	if out.Len() > 30_000 {
		t.Errorf("a long text is not cut: %d bytes", out.Len())
	}
}
