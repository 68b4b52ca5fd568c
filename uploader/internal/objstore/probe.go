package objstore

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"strings"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/layout"
)

// newInstance returns a name that no other process and no earlier run has.
func newInstance() string { return strings.ToLower(rand.Text()[:16]) }

const (
	probeText   = "Yagi puts this object to see whether the bucket takes reports.\n"
	controlText = "Yagi puts this object to see whether the bucket takes objects of this kind.\n"
)

// Probe puts an object that says what it is, under the store's own key below
// layout.ProbePrefix. When the store refuses it, the AWS settings are read again for
// whatever follows.
func (s *Store) Probe(ctx context.Context) error {
	err := s.put(ctx, text(layout.Probe(s.instance), probeText))
	if err == nil {
		return nil
	}
	switch Class(err) {
	case ClassDenied, ClassNoSuchBucket, ClassRefused, ClassOther: // other: there may be no keys at all
		return errors.Join(err, s.load(ctx)) // settings that cannot be read leave the old ones
	}
	return err
}

// Control puts a small object beside the objects of a part ("dump_names", the name of
// a dump, or crash.RawCrashName), to tell one report that the store refuses from a
// store that refuses objects of that kind. Errors are those of Put. A store that lets
// nothing be overwritten gets another object at each call.
func (s *Store) Control(ctx context.Context, part string) error {
	last := s.control.Load()
	err := s.put(ctx, text(layout.Control(part, *last), controlText))
	if err == nil || statusOf(err) < http.StatusBadRequest || statusOf(err) >= http.StatusInternalServerError {
		return err
	}
	fresh := newInstance() // the object of the call before may be what is refused
	if again := s.put(ctx, text(layout.Control(part, fresh), controlText)); again != nil {
		return err
	}
	s.control.CompareAndSwap(last, &fresh)
	return nil
}

func text(key, body string) layout.Object {
	return layout.Object{Key: key, ContentType: "text/plain", Part: crash.NewPart("probe", []byte(body), crash.Sum([]byte(body)))}
}
