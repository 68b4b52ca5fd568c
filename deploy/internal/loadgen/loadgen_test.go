package loadgen

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/yagi-crash/yagi/deploy/internal/submit"
	"github.com/yagi-crash/yagi/pkg/crash"
)

// collector is an HTTP server that takes apart every post, and answers it.
type collector struct {
	t      *testing.T
	url    string
	answer func(w http.ResponseWriter, n int) // after n posts; nil promises

	mu       sync.Mutex
	posts    int
	encoded  int
	dumps    map[crash.Digest]int // their sizes
	promised []string
}

func collect(t *testing.T, answer func(w http.ResponseWriter, n int)) *collector {
	t.Helper()
	c := &collector{t: t, answer: answer, dumps: map[crash.Digest]int{}}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	c.url = server.URL
	return c
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	dump, err := readPost(r)
	if err != nil {
		c.t.Errorf("reading a post: %v", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.posts++
	c.dumps[crash.Sum(dump)] = len(dump)
	if r.Header.Get("Content-Encoding") == "gzip" {
		c.encoded++
	}
	if c.answer != nil {
		c.answer(w, c.posts)
		return
	}
	c.promise(w)
}

func (c *collector) promise(w io.Writer) {
	id := crash.NewID(time.Now(), crash.Accept)
	c.promised = append(c.promised, string(id))
	_, _ = io.WriteString(w, "CrashID=bp-"+string(id)+"\n")
}

// readPost is strict: it knows what a crash client sends, and nothing else.
func readPost(r *http.Request) (dump []byte, err error) {
	if r.Method != http.MethodPost || r.URL.Path != "/submit" || r.ContentLength <= 0 {
		return nil, fmt.Errorf("%s %s with %d bytes", r.Method, r.URL.Path, r.ContentLength)
	}
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/form-data" {
		return nil, fmt.Errorf("type %q: %w", kind, err)
	}
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		if body, err = gzip.NewReader(body); err != nil {
			return nil, err
		}
	}
	form := multipart.NewReader(body, params["boundary"])
	var fields []string
	for {
		part, err := form.NextRawPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		text, err := io.ReadAll(part)
		if err != nil {
			return nil, err
		}
		if part.FileName() == "" {
			fields = append(fields, part.FormName())
			continue
		}
		if dump != nil || part.FormName() != "upload_file_minidump" || part.Header.Get("Content-Type") != "application/octet-stream" {
			return nil, fmt.Errorf("the file %s of type %s", part.FormName(), part.Header.Get("Content-Type"))
		}
		dump = text
	}
	if !slices.Equal(fields, []string{"ProductName", "Version", "YagiLoad"}) || !bytes.HasPrefix(dump, []byte("MDMP")) {
		return nil, fmt.Errorf("fields %q and a dump of %d bytes", fields, len(dump))
	}
	rest, err := io.ReadAll(r.Body)
	if len(rest) > 0 {
		return nil, fmt.Errorf("%d bytes behind the form", len(rest))
	}
	return dump, err
}

func (c *collector) config() Config {
	c.t.Helper()
	u, err := submit.URL(c.url)
	if err != nil {
		c.t.Fatal(err)
	}
	return Config{URL: u, Connections: 4, Size: Size{1000, 1000}, Product: "Test", RequestTimeout: 20 * time.Second}
}

func load(t *testing.T, ctx context.Context, cfg Config) *Summary {
	t.Helper()
	s, err := Run(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func requireOutcomes(t *testing.T, s *Summary, want ...Outcome) {
	t.Helper()
	if !slices.Equal(s.Outcomes, want) {
		t.Errorf("outcomes %+v, want %+v", s.Outcomes, want)
	}
}

// Every report is one that a crash client could send, and unlike all others;
// the ledger has the ids of those that were promised, and no others.
func TestLoadSendsDistinctReports(t *testing.T) {
	for _, zip := range []bool{false, true} {
		c := collect(t, nil)
		var ledger bytes.Buffer
		cfg := c.config()
		cfg.Count, cfg.Size, cfg.Ledger, cfg.Gzip = 300, Size{16, 100_000}, &ledger, zip
		s := load(t, t.Context(), cfg)
		requireOutcomes(t, s, Outcome{"200 CrashID", true, 300})
		if s.Sent != 300 || s.Answered != 300 || s.Errors != 0 || s.Latency.Measured != 300 || len(c.dumps) != 300 {
			t.Errorf("%+v; %d different dumps", s, len(c.dumps))
		}
		sizes := 0
		for _, size := range c.dumps {
			sizes += size
		}
		if mean := sizes / 300; mean < 40_000 || mean > 60_000 || int(s.Bytes) < sizes {
			t.Errorf("%d bytes a dump, %d in bodies", mean, s.Bytes)
		}
		if zip != (c.encoded == 300) {
			t.Errorf("%d posts were compressed, want all: %t", c.encoded, zip)
		}
		got := strings.Fields(ledger.String())
		slices.Sort(got)
		slices.Sort(c.promised)
		if !slices.Equal(got, c.promised) || !strings.HasSuffix(ledger.String(), "\n") {
			t.Errorf("the ledger has %d ids, want the %d that were promised", len(got), len(c.promised))
		}
	}
}

// The same seed gives the same reports, another one others.
func TestLoadSeed(t *testing.T) {
	c := collect(t, nil)
	for seed, want := range []int{10, 20, 30} {
		for range 2 {
			cfg := c.config()
			cfg.Count, cfg.Seed = 10, uint64(seed)
			load(t, t.Context(), cfg)
			if len(c.dumps) != want {
				t.Errorf("seed %d: %d different dumps, want %d", seed, len(c.dumps), want)
			}
		}
	}
}

func TestLoadKeepsTheRate(t *testing.T) {
	c := collect(t, nil)
	var seen []Progress
	cfg := c.config()
	cfg.Rate, cfg.For = 100, 1500*time.Millisecond
	cfg.Progress = func(p Progress) { seen = append(seen, p) }
	s := load(t, t.Context(), cfg)
	if s.Sent != 150 || s.NotSent != 0 || c.posts != 150 {
		t.Errorf("sent %d, not sent %d, came %d, want 150, 0, 150", s.Sent, s.NotSent, c.posts)
	}
	if s.ReportsPerSecond < 90 || s.ReportsPerSecond > 102 {
		t.Errorf("%.1f reports a second, want 100", s.ReportsPerSecond)
	}
	if len(seen) != 1 || seen[0].Sent < 80 || seen[0].Sent > 105 || seen[0].Rate < 80 || seen[0].Errors != 0 {
		t.Errorf("progress %+v, want that of a second", seen)
	}
}

// Each kind of answer is counted for itself. Only promises get into the ledger,
// and a closed connection is followed by another one.
func TestLoadCountsAnswers(t *testing.T) {
	var c *collector
	c = collect(t, func(w http.ResponseWriter, n int) {
		switch n % 6 {
		case 0:
			w.Header().Set("Connection", "close")
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, "Discarded=unavailable")
		case 1:
			_, _ = io.WriteString(w, "Discarded=rule_test")
		case 2:
			_, _ = io.WriteString(w, "CrashID=bp-"+string(crash.NewID(time.Now(), crash.FakeAccept))+"\n")
		case 3:
			w.WriteHeader(http.StatusBadGateway)
			_, _ = io.WriteString(w, "<html>")
		case 4:
			panic(http.ErrAbortHandler)
		default:
			c.promise(w)
		}
	})
	var ledger bytes.Buffer
	cfg := c.config()
	cfg.Count, cfg.Ledger = 60, &ledger
	s := load(t, t.Context(), cfg)
	requireOutcomes(t, s,
		Outcome{"200 CrashID", true, 10},
		Outcome{"200 CrashID, for show", true, 10},
		Outcome{"200 Discarded=rule_test", true, 10},
		Outcome{"502 without CrashID or Discarded", false, 10},
		Outcome{"503 Discarded=unavailable", false, 10},
		Outcome{"connection closed without an answer", false, 10},
	)
	if s.Sent != 60 || s.Answered != 50 || s.Errors != 30 || strings.Count(ledger.String(), "\n") != 10 {
		t.Errorf("%+v, ledger %q", s, ledger.String())
	}
}

// An intake that answers before it has read the body gets the next one whole.
func TestLoadEarlyAnswers(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, "Discarded=unavailable")
	}))
	t.Cleanup(server.Close)
	c := &collector{t: t, url: server.URL}
	cfg := c.config()
	cfg.Count, cfg.Size = 40, Size{200_000, 200_000}
	if s := load(t, t.Context(), cfg); s.Errors != 40 || s.Outcomes[0].Text != "503 Discarded=unavailable" {
		t.Errorf("%+v", s)
	}
}

// A stall delays all who would have come in it, not only those who were
// connected: with 1 connection and 100 reports a second, one answer that takes
// 500 ms makes the 50 behind it late.
func TestLoadShowsAStall(t *testing.T) {
	var c *collector
	c = collect(t, func(w http.ResponseWriter, n int) {
		if n == 20 {
			<-time.After(500 * time.Millisecond)
		}
		c.promise(w)
	})
	cfg := c.config()
	cfg.Connections, cfg.Rate, cfg.Count = 1, 100, 150
	s := load(t, t.Context(), cfg)
	if s.Late < 40 || s.Late > 90 || s.NotSent != 0 || s.Sent != 150 {
		t.Errorf("%d late, %d not sent, want about 50 and none", s.Late, s.NotSent)
	}
	if s.Latency.P90 < 0.3 || s.Latency.P50 > 0.2 || s.Latency.Max < 0.5 {
		t.Errorf("latency %+v, want a tenth above 0.3 s", s.Latency)
	}
}

// What no connection was free for is told of, and a post that is waited for in
// vain counts with the time that was waited.
func TestLoadTellsWhatWasNotSent(t *testing.T) {
	c := collect(t, nil)
	hang := make(chan struct{})
	c.answer = func(http.ResponseWriter, int) { <-hang }
	cfg := c.config()
	cfg.Connections, cfg.Rate, cfg.For, cfg.RequestTimeout = 2, 100, 500*time.Millisecond, time.Second
	s := load(t, t.Context(), cfg)
	close(hang)
	requireOutcomes(t, s, Outcome{"no answer in time", false, 2})
	if s.Sent != 2 || s.NotSent != 48 || s.Latency.P50 < 0.9 || s.Latency.Measured != 2 {
		t.Errorf("%+v, want 2 sent, 48 not, and a second of latency", s)
	}
}

// When ctx ends nothing more is sent, and what was sent is waited for.
func TestLoadEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var c *collector
	c = collect(t, func(w http.ResponseWriter, n int) {
		if n == 10 {
			cancel()
			<-time.After(200 * time.Millisecond)
		}
		c.promise(w)
	})
	cfg := c.config()
	cfg.Rate, cfg.For = 50, time.Minute
	s := load(t, ctx, cfg)
	if s.Sent < 10 || s.Sent > 14 || s.Answered != s.Sent || s.Errors != 0 || s.NotSent != 0 {
		t.Errorf("%+v, want what was in hand answered, and no more", s)
	}
}

func TestLoadWithNobodyThere(t *testing.T) {
	c := collect(t, nil)
	cfg := c.config()
	cfg.URL.Host = "127.0.0.1:1"
	cfg.For, cfg.Connections = 250*time.Millisecond, 2
	s := load(t, t.Context(), cfg)
	if s.Answered != 0 || s.Sent < 2 || s.Sent > 8 || s.Outcomes[0].Text != "connection refused" {
		t.Errorf("%+v, want a try now and then, refused", s)
	}
}

type brokenFile struct{}

func (brokenFile) Write([]byte) (int, error) { return 0, errors.New("the disk is full") }

func TestLoadStopsWithoutItsLedger(t *testing.T) {
	c := collect(t, nil)
	cfg := c.config()
	cfg.For, cfg.Ledger = time.Minute, brokenFile{}
	s, err := Run(t.Context(), cfg)
	if err == nil || !strings.Contains(err.Error(), "the disk is full") || s.Sent > 8 {
		t.Errorf("%v after %d reports", err, s.Sent)
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]Size{
		"400kB": {400_000, 400_000}, "100kB-2MB": {100_000, 2_000_000}, "16": {16, 16},
		"15B": {}, "2MB-1MB": {}, "257MiB": {}, "": {}, "1kB-": {}, "much": {},
	} {
		var got Size
		if err := got.UnmarshalText([]byte(text)); (err != nil) != (want == Size{}) || err == nil && got != want {
			t.Errorf("%q: %v, %v, want %v", text, &got, err, &want)
		}
	}
}

// What is sent and what is not are all that was due, whatever the rate: both
// know the same moment as the end.
func TestDueBy(t *testing.T) {
	for _, rate := range []float64{0.1, 1.1, 3, 7, 99.9, 1000} {
		s := &schedule{start: time.Now(), rate: rate, span: 10 * time.Second}
		var want int64
		for {
			if _, _, ok := s.take(); !ok {
				break
			}
			want++
		}
		if got := s.dueBy(s.start.Add(time.Minute)); got != want {
			t.Errorf("at %g a second %d are due, want the %d that are handed out", rate, got, want)
		}
	}
}

func BenchmarkMake(b *testing.B) {
	m, err := newMaker(&Config{Size: Size{400_000, 400_000}, Product: "Test"})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(400_000)
	for n := int64(0); b.Loop(); n++ {
		if _, err := m.make(n); err != nil {
			b.Fatal(err)
		}
	}
}
