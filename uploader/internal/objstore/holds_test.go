package objstore_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/layout"
	"github.com/yagi-crash/yagi/uploader/internal/objstore"
)

// open returns a store of the fake.
func (f *fake) open(t *testing.T) *objstore.Store {
	t.Helper()
	cfg := config()
	cfg.Endpoint = f.URL
	return open(t, cfg)
}

func TestHolds(t *testing.T) {
	for name, store := range map[string]struct {
		change func(*fake)
		asks   string // what a comparison takes
	}{
		"that records the SHA-256": {func(*fake) {}, "HEAD"},
		"that records none":        {func(f *fake) { f.records = false }, "HEAD GET"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, store.change)
			s := f.open(t)
			o := object("v1/dump/x", "a dump")
			if err := s.Put(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			f.heard()
			if held, err := s.Holds(t.Context(), o); !held || err != nil {
				t.Errorf("what was put: %v, %v", held, err)
			}
			var methods []string
			for _, request := range f.heard() {
				method, _, _ := strings.Cut(request, " ")
				methods = append(methods, method)
			}
			if got := strings.Join(methods, " "); got != store.asks {
				t.Errorf("it asked with %s, want %s", got, store.asks)
			}
			for what, other := range map[string]layout.Object{
				"other bytes":    object("v1/dump/x", "b dump"),
				"fewer bytes":    object("v1/dump/x", "a dum"),
				"more bytes":     object("v1/dump/x", "a dump."),
				"another object": object("v1/dump/y", "a dump"),
			} {
				if held, err := s.Holds(t.Context(), other); held || err != nil {
					t.Errorf("%s: %v, %v", what, held, err)
				}
			}
		})
	}
}

// The same against a store that was not written for this test.
func TestHoldsInVersitygw(t *testing.T) {
	s := open(t, config())
	o := object("v1/dump/holds", "a dump")
	if held, err := s.Holds(t.Context(), o); held || err != nil {
		t.Errorf("before the PUT: %v, %v", held, err)
	}
	if err := s.Put(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	for body, want := range map[string]bool{"a dump": true, "b dump": false} {
		if held, err := s.Holds(t.Context(), object("v1/dump/holds", body)); held != want || err != nil {
			t.Errorf("%q: %v, %v", body, held, err)
		}
	}
}

func TestHoldsCannotTell(t *testing.T) {
	f := newFake(t, func(f *fake) {
		f.hear = func(r *http.Request) *answer {
			if r.Method == http.MethodPut {
				return nil
			}
			return &answer{http.StatusForbidden, "AccessDenied"}
		}
	})
	if held, err := f.open(t).Holds(t.Context(), object("v1/dump/x", "")); held || objstore.Class(err) != objstore.ClassDenied {
		t.Errorf("without s3:GetObject: %v, %v", held, err)
	}
	cfg := config()
	cfg.Bucket = "missing"
	if held, err := open(t, cfg).Holds(t.Context(), object("v1/dump/x", "")); held || objstore.Class(err) != objstore.ClassNoSuchBucket {
		t.Errorf("without a bucket: %v, %v", held, err)
	}
}

func TestControl(t *testing.T) {
	f := newFake(t, nil)
	s := f.open(t)
	parts := []string{"dump_names", crash.MinidumpName, "memory_report", crash.RawCrashName}
	for _, part := range slices.Concat(parts, parts) { // the same objects again
		if err := s.Control(t.Context(), part); err != nil {
			t.Error(err)
		}
	}
	var got []string
	for _, key := range f.keys() {
		if !layout.IsProbe(key) {
			t.Errorf("%s is not a key of a probe", key)
		}
		got = append(got, key[:strings.LastIndexByte(key, '-')])
	}
	want := []string{"v1/dump/yagi-probe", "v1/dump_names/yagi-probe", "v1/memory_report/yagi-probe", "v1/raw_crash/probe/yagi"}
	if !slices.Equal(got, want) {
		t.Errorf("the objects are %q, want %q", got, want)
	}
}

// Where nothing may be overwritten, each call needs an object of its own; a store that
// refuses objects of that kind refuses them all.
func TestControlIsNotAnOverwrite(t *testing.T) {
	refused := ""
	f := newFake(t, func(f *fake) {
		f.once = &answer{http.StatusForbidden, "AccessDenied"}
		f.hear = func(r *http.Request) *answer {
			if refused != "" && strings.HasPrefix(r.URL.Path, refused) {
				return &answer{http.StatusBadRequest, "InvalidRequest"}
			}
			return nil
		}
	})
	s := f.open(t)
	for range 3 {
		if err := s.Control(t.Context(), crash.MinidumpName); err != nil {
			t.Error(err)
		}
	}
	refused = "/crashes/v1/dump/"
	if err := s.Control(t.Context(), crash.MinidumpName); objstore.Class(err) != objstore.ClassRefused {
		t.Errorf("a store that refuses dumps: %v", err)
	}
	if err := s.Control(t.Context(), crash.RawCrashName); err != nil {
		t.Error(err)
	}
}
