package breakpad

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/yagi-crash/yagi/pkg/crash"
)

// sealed returns compressed reports whose decoders are bounded together.
func sealed(t *testing.T, n int, decoders *Decoders) (all []*crash.Sealed) {
	t.Helper()
	wire := packed(t, field("a", "1")+file("b", "application/octet-stream", noise(100_000))+file("c", "application/octet-stream", "2")+end, openZstd)
	for range n {
		report, err := parseWith(decoders, request(formData, "zstd", strings.NewReader(wire), int64(len(wire))))
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := report.Seal()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, sealed)
	}
	return all
}

// A bounded number of reports keep a decoder; others wait for it, no longer than they
// may, and get it when one yields, which then waits in turn.
func TestDecodersAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		decoders := NewDecoders(1)
		reports := sealed(t, heldZstd+1, decoders)
		var releases []func()
		for _, r := range reports[:heldZstd] {
			release, err := Hold(t.Context(), r, false)
			if err != nil {
				t.Fatal(err)
			}
			releases = append(releases, release)
			if err := Yield(t.Context(), r); err != nil { // to nobody
				t.Fatal(err)
			}
		}
		last := reports[heldZstd]
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := Hold(ctx, last, false); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		got := make(chan func(), 1)
		go func() {
			release, err := Hold(t.Context(), last, false)
			if err != nil {
				t.Error(err)
			}
			got <- release
		}()
		synctest.Wait()
		yielded := make(chan error, 1)
		go func() { yielded <- Yield(t.Context(), reports[0]) }()
		release := <-got
		if synctest.Wait(); len(yielded) > 0 {
			t.Error("a report that yields does not wait")
		}
		for _, r := range reports { // held, yielding or not: all can be read
			if err := r.Verify(); err != nil {
				t.Error(err)
			}
		}
		release()
		if err := <-yielded; err != nil {
			t.Error(err)
		}
		for _, release := range releases {
			release()
			release() // as a deferred one may be after a failed yield
		}
		if n := len(decoders.zstd.used) + len(decoders.brief.used) + len(decoders.flate.used); n != 0 {
			t.Errorf("%d slots are in use", n)
		}
	})
}
