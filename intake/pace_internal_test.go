package intake

import (
	"errors"
	"io"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/yagi-crash/yagi/pkg/crash"
)

// trickle yields a byte each time it is asked, after a while.
type trickle struct{ every time.Duration }

func (t trickle) Read(p []byte) (int, error) {
	timer := time.NewTimer(t.every)
	defer timer.Stop()
	<-timer.C
	p[0] = 'x'
	return 1, nil
}

// deadlines is a connection that lets deadlines be set, to no effect.
type deadlines struct{}

func (deadlines) SetReadDeadline(time.Time) error { return nil }

// A client below the least rate is given up after a window, however it spreads
// its bytes; one above it may take as long as it likes.
func TestLeastRate(t *testing.T) {
	for name, c := range map[string]struct {
		every time.Duration // per byte
		slow  bool
	}{
		"1 byte a second":    {time.Second, true},
		"999 bytes a second": {time.Second / 999, true},
		"1,001 a second":     {time.Second / 1001, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := pace{stall: time.Minute, minRate: 1000, window: 30 * time.Second}
				body := p.body(io.NopCloser(trickle{c.every}), deadlines{}, prometheus.NewCounter(prometheus.CounterOpts{Name: "x"}))
				start := time.Now()
				_, err := io.CopyN(io.Discard, iotest.OneByteReader(body), int64(100*time.Second/c.every))
				refusal, _ := errors.AsType[*crash.Refusal](err)
				if c.slow && (refusal == nil || refusal.Reason != crash.ReasonTooSlow || time.Since(start) > 35*time.Second) {
					t.Errorf("after %s: %v, want too_slow after 30 s", time.Since(start), err)
				}
				if !c.slow && err != nil {
					t.Errorf("after %s: %v", time.Since(start), err)
				}
			})
		})
	}
}
