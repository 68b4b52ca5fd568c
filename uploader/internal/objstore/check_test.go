package objstore_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/uploader/internal/objstore"
)

// A report's object that may not be overwritten is stored all the same if it is the
// same.
func TestRefusedOverwrite(t *testing.T) {
	for _, no := range []answer{
		{http.StatusForbidden, "AccessDenied"},
		{http.StatusForbidden, "RetentionPolicyNotMet"},
		{http.StatusMethodNotAllowed, "MethodNotAllowed"},
		{http.StatusConflict, "ObjectLocked"},
		{http.StatusPreconditionFailed, "PreconditionFailed"},
		{http.StatusBadRequest, "InvalidRequest"},
	} {
		for _, records := range []bool{true, false} {
			f := newFake(t, func(f *fake) { f.once, f.records = &no, records })
			store := f.open(t)
			for range 2 {
				if err := store.Put(t.Context(), object("v1/dump/x", "a dump")); err != nil {
					t.Error(err)
				}
			}
			f.put("v1/dump/x", "b dump")
			if err := store.Put(t.Context(), object("v1/dump/x", "a dump")); err == nil || !strings.Contains(err.Error(), no.code) {
				t.Errorf("other bytes are there, and the PUT returned %v", err)
			}
			f.hear = func(r *http.Request) *answer {
				if r.Method != http.MethodPut {
					return &answer{http.StatusForbidden, "AccessDenied"}
				}
				return nil
			}
			f.put("v1/dump/x", "a dump")
			if err := store.Put(t.Context(), object("v1/dump/x", "a dump")); err == nil || !strings.Contains(err.Error(), no.code) {
				t.Errorf("nobody may look, and the PUT returned %v", err)
			}
		}
	}
}

// What is there already is no proof that the store takes anything.
func TestProbeIsAlwaysAPut(t *testing.T) {
	f := newFake(t, func(f *fake) { f.once = &answer{http.StatusForbidden, "AccessDenied"} })
	store := f.open(t)
	if err := store.Probe(t.Context()); err != nil {
		t.Error(err)
	}
	if err := store.Probe(t.Context()); objstore.Class(err) != objstore.ClassDenied || !objstore.Particular(err) {
		t.Errorf("a probe that may not overwrite returned %v", err)
	}
}

// onlyPut is a store whose keys may put reports, and nothing else but what may says.
func onlyPut(status int, may ...string) func(*fake) {
	return func(f *fake) {
		f.hear = func(r *http.Request) *answer {
			for _, path := range append(may, "/crashes/v1/dump/") {
				if r.Method == http.MethodPut && strings.HasPrefix(r.URL.Path, path) {
					return nil
				}
			}
			return &answer{status, map[int]string{403: "AccessDenied", 404: "NotFound", 405: "MethodNotAllowed", 501: "NotImplemented"}[status]}
		}
	}
}

// Whether the bucket takes reports is asked with no more permissions than that takes.
func TestCheckNeedsNoMoreThanPut(t *testing.T) {
	o := object("v1/dump/x", "a dump")
	for _, status := range []int{403, 404, 405, 501} { // to a HEAD of the bucket
		f := newFake(t, onlyPut(status, "/crashes/v1/probe/"))
		store := f.open(t)
		for range 3 {
			if err := store.Check(t.Context()); err != nil {
				t.Errorf("the bucket takes a probe, and Check returned %v", err)
			}
		}
		if puts := strings.Count(strings.Join(f.heard(), " "), http.MethodPut); puts != 1 {
			t.Errorf("three checks took %d PUTs, want 1", puts)
		}
	}

	f := newFake(t, onlyPut(403))
	store := f.open(t)
	if err := store.Check(t.Context()); err == nil {
		t.Error("nothing was stored, HEAD and probe are refused, and Check says healthy")
	}
	last := o
	last.Part.Name = crash.RawCrashName
	if err := store.Put(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if err := store.Check(t.Context()); err == nil {
		t.Error("a dump was stored and no report, HEAD and probe are refused, and Check says healthy")
	}
	if err := store.Put(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	f.heard()
	if err := store.Check(t.Context()); err != nil || len(f.heard()) > 0 {
		t.Errorf("a report was just stored, and Check returned %v", err)
	}
}

// An endpoint that names the bucket has it found neither by HEAD nor by anybody who
// looks for the objects where they should be.
func TestCheckWithABucketInTheEndpoint(t *testing.T) {
	f := newFake(t, onlyPut(404, "/crashes/v1/probe/"))
	var log strings.Builder
	cfg := config()
	cfg.Endpoint, cfg.Log = f.URL, zerolog.New(&log)
	store := open(t, cfg)
	for range 2 {
		if err := store.Check(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if n := strings.Count(log.String(), "its endpoint may name it already"); n != 1 {
		t.Errorf("that is said %d times, want once: %s", n, log.String())
	}
}

// The SDK's warnings are events of the log.
func TestSDKWarnsThroughTheLog(t *testing.T) {
	f := newFake(t, nil)
	var log strings.Builder
	cfg := config()
	cfg.Endpoint, cfg.Log = f.URL, zerolog.New(&log)
	client, err := objstore.Client(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	client.Options().Logger.Logf("WARN", "a %s", "warning")
	if got := log.String(); !strings.Contains(got, `"level":"warn"`) || !strings.Contains(got, `"a warning"`) {
		t.Errorf("the log has %s", got)
	}
}
