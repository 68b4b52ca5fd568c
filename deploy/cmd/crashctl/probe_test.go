package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/yagi-crash/yagi/intake"
	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/layout"
	"github.com/yagi-crash/yagi/uploader"
)

const testRules = `rules:
  - {name: unwanted, when: text("ProductName") == "Unwanted", verdict: reject}
  - {name: shown, when: text("ProductName") == "Shown", verdict: fake_accept}
  - {name: rest, when: true, verdict: accept}
`

// startAll runs all of Yagi but for the uploader, and returns the settings of an
// operator.
func startAll(t *testing.T) (url string, environ []string) {
	t.Helper()
	_, environ = applied(t, "S3_BUCKET=crashes")
	startBucket(t)
	url, _ = startIntake(t, environ)
	return url, environ
}

// startIntake returns the address that clients post to, and what ends it.
func startIntake(t *testing.T, environ []string) (url string, stop func()) {
	t.Helper()
	cfg, err := intake.Load(slices.Concat(environ, []string{
		"INTAKE_ADDR=127.0.0.1:0", "INTAKE_ADMIN_ADDR=127.0.0.1:0", "INTAKE_LAME_DUCK=0s", "NATS_STREAM_MAX_BYTES=64MiB", "INTAKE_THROTTLE_RULES=" + file(t, "rules.yaml", testRules),
	}))
	if err != nil {
		t.Fatal(err)
	}
	front, err := intake.Listen(t.Context(), cfg, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	return "http://" + front.Addr(), background(t, front.Run)
}

func startUploader(t *testing.T, environ []string) {
	t.Helper()
	cfg, err := uploader.Load(append(slices.Clone(environ), "UPLOADER_ADMIN_ADDR=127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	back, err := uploader.Listen(t.Context(), cfg, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	background(t, back.Run)
}

func background(t *testing.T, tier func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- tier(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

type probed struct {
	CrashID crash.ID `json:"crash_id"`
	Keys    []string `json:"keys"`
	Legs    []leg    `json:"legs"`
}

func probeJSON(t *testing.T, environ []string, args ...string) (p probed, code int) {
	t.Helper()
	got := crashctl(t, environ, append([]string{"probe", "--yes", "--json"}, args...)...)
	if err := json.Unmarshal([]byte(got.out), &p); err != nil {
		t.Fatalf("reading %+v: %v", got, err)
	}
	return p, got.code
}

// requireLegs compares the legs' names and states.
func requireLegs(t *testing.T, p probed, want ...string) {
	t.Helper()
	var legs []string
	for _, l := range p.Legs {
		legs = append(legs, l.Name+" "+l.State)
	}
	if !slices.Equal(legs, want) {
		t.Errorf("legs %q, want %q: %+v", legs, want, p)
	}
}

// A report is followed into the bucket, and lies under the keys that are told.
func TestProbe(t *testing.T) {
	url, environ := startAll(t)
	t.Run("nobody uploads", func(t *testing.T) {
		p, code := probeJSON(t, environ, "--url", url, "--wait", "300ms")
		requireLegs(t, p, "connected done", "answered done", "queued done", "in bucket failed")
		if code != exitTrouble || p.Legs[3].Note != "after 300ms: no such object: "+layout.RawCrash(p.CrashID) {
			t.Errorf("exit code %d, %+v", code, p)
		}
	})
	startUploader(t, environ)
	t.Run("all the way", func(t *testing.T) {
		p, code := probeJSON(t, environ, "--url", url)
		requireLegs(t, p, "connected done", "answered done", "queued done", "in bucket done", "checked done")
		if code != 0 || len(p.Keys) != 3 || *p.Legs[3].Seconds <= 0 {
			t.Errorf("exit code %d, %+v", code, p)
		}
		b, err := openBucket(t.Context(), probeConfig{Bucket: "crashes"})
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range p.Keys {
			if sum, _, err := b.Read(t.Context(), key); err != nil || sum == crash.Sum(nil) {
				t.Errorf("%s is empty, or %v", key, err)
			}
		}
		got := crashctl(t, environ, "probe", "--yes", "--url", url)
		requireWords(t, got.out, "connected ", "\nanswered ", " ms  CrashID=bp-", "\nin bucket ", "\nchecked ", "\nkey        v1/raw_crash/")
	})
	t.Run("without a bucket", func(t *testing.T) {
		p, code := probeJSON(t, nil, "--url", url)
		requireLegs(t, p, "connected done", "answered done", "queued done", "in bucket unknown")
		if code != 0 {
			t.Errorf("exit code %d", code)
		}
		requireWords(t, p.Legs[3].Note, "not looked for (S3_BUCKET is not set)")
	})
	t.Run("thrown away by a rule", func(t *testing.T) {
		for product, answer := range map[string]string{"Unwanted": "200 Discarded=rule_unwanted", "Shown": "200 CrashID, for show"} {
			p, code := probeJSON(t, environ, "--url", url, "--product", product)
			requireLegs(t, p, "connected done", "answered failed")
			requireWords(t, p.Legs[1].Note, answer, "--product")
			if code != exitTrouble || len(p.Keys) != 0 {
				t.Errorf("%s: exit code %d, %+v", product, code, p)
			}
		}
	})
	t.Run("load", func(t *testing.T) { requireLoad(t, url, environ) })
}

// requireLoad has a load test put what its ledger says into the queue.
func requireLoad(t *testing.T, url string, environ []string) {
	t.Helper()
	ledger := file(t, "ids", "")
	got := crashctl(t, nil, "load", "--url", url, "--count", "30", "--size", "1kB-400kB", "--gzip", "--ledger", ledger, "--seed", "7")
	requireWords(t, got.out, "sent       30 reports in ", ", seed 7\n", "\n        30 200 CrashID\n", "\nlatency    p50 ")
	requireWords(t, got.errors, "posting reports with dumps of 1 kB-400 kB to "+url+"/submit over 8 connection(s), seed 7, 30 at most\n")
	text, err := os.ReadFile(ledger)
	if err != nil || got.code != 0 {
		t.Fatalf("%v, %+v", err, got)
	}
	b, err := openBucket(t.Context(), probeConfig{Bucket: "crashes"})
	if err != nil {
		t.Fatal(err)
	}
	ids := strings.Fields(string(text))
	if len(ids) != 30 {
		t.Errorf("%d ids in the ledger, want 30", len(ids))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for _, id := range ids {
		j := journey{bucket: b, id: crash.ID(id), at: time.Now()}
		if err := j.await(ctx); err != nil {
			t.Error(err)
		}
	}
	got = crashctl(t, environ, "load", "--url", url, "--count", "3", "--product", "Unwanted", "--json")
	requireWords(t, got.out, `"text": "200 Discarded=rule_unwanted"`, `"count": 3`, `"p99_9"`)
	if got.code != 0 {
		t.Errorf("%+v, want that a rule's decision is well", got)
	}
}

// What lies in the bucket is compared, byte for byte.
func TestProbeComparesTheDump(t *testing.T) {
	files := startBucket(t)
	b, err := openBucket(t.Context(), probeConfig{Bucket: "crashes"})
	if err != nil {
		t.Fatal(err)
	}
	j := journey{bucket: b, id: crash.NewID(time.Now(), crash.Accept), dump: tinyDump()}
	put := func(key, text string) {
		path := filepath.Join(files, filepath.FromSlash(key))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	requireTrouble := func(words string) {
		t.Helper()
		if err := j.check(t.Context()); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%v, want %q", err, words)
		}
	}
	requireTrouble("dump_names")
	put(layout.DumpNames(j.id), `[]`)
	requireTrouble(layout.DumpNames(j.id) + " is not what was sent")
	put(layout.DumpNames(j.id), `["upload_file_minidump"]`)
	requireTrouble("v1/dump/")
	put(layout.Dump(crash.MinidumpName, j.id), strings.Repeat("x", len(j.dump)))
	requireTrouble(layout.Dump(crash.MinidumpName, j.id) + " is not what was sent")
	put(layout.Dump(crash.MinidumpName, j.id), string(j.dump))
	if err := j.check(t.Context()); err != nil {
		t.Error(err)
	}
}

// Without --yes nothing is sent, and what cannot be is told before.
func TestProbeAndLoadRefuse(t *testing.T) {
	var posts atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		posts.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, "Discarded=unavailable")
	}))
	defer server.Close()
	for name, c := range map[string]struct {
		args      []string
		code      int
		out, errs string
		posts     int64
	}{
		"probe without --yes": {[]string{"probe", "--url", server.URL}, 0, "Nothing was sent. To do it: crashctl probe --yes\n", "", 0},
		"load elsewhere":      {[]string{"load", "--url", "http://user:secret@192.0.2.1"}, 0, "would post reports with dumps of 400 kB to http://user:xxxxx@192.0.2.1/submit", "", 0},
		"probe of nobody":     {[]string{"probe", "--yes", "--url", "http://127.0.0.1:1"}, 2, "", "connecting to the intake: dial tcp 127.0.0.1:1: connect: connection refused", 0},
		"load of nobody":      {[]string{"load", "--count", "1", "--url", "http://127.0.0.1:1"}, 2, "1 connection refused", "not one report was answered", 0},
		"probe refused":       {[]string{"probe", "--yes", "--url", server.URL}, 1, "FAILED: 503 Discarded=unavailable\n", "", 1},
		"load refused":        {[]string{"load", "--count", "2", "--url", server.URL + "/submit"}, 1, "2 503 Discarded=unavailable\n", "", 2},
		"no URL":              {[]string{"load", "--url", "127.0.0.1:8000"}, 2, "", "the URL is not one such as", 0},
		"no connections":      {[]string{"load", "--connections", "0"}, 2, "", "--connections: 0 is not from", 0},
		"no size":             {[]string{"load", "--size", "big"}, 2, "", "is not a size", 0},
		"no rate":             {[]string{"load", "--rate=NaN"}, 2, "", "--rate has to be a number, and not negative", 0},
		"endless rate":        {[]string{"load", "--rate=Inf"}, 2, "", "--rate has to be a number, and not negative", 0},
		"no time":             {[]string{"load", "--for", "0s"}, 2, "", "--for, --count and --request-timeout have to be above 0", 0},
		"no reports":          {[]string{"load", "--count", "0"}, 2, "", "--for, --count and --request-timeout have to be above 0", 0},
		"no ledger":           {[]string{"load", "--ledger", t.TempDir() + "/none/ids"}, 2, "", "opening the ledger", 0},
	} {
		posts.Store(0)
		got := crashctl(t, nil, c.args...)
		if got.code != c.code || posts.Load() != c.posts || !strings.Contains(got.out, c.out) || !strings.Contains(got.errors, c.errs) || strings.Contains(got.out+got.errors, "secret") {
			t.Errorf("%s: got %+v after %d posts, want %+v", name, got, posts.Load(), c)
		}
	}
}
