package intake

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// errNoSlot means that a report in chunks waited too long for slots.
var errNoSlot = errors.New("no slot to publish")

// patience is the time that a report in chunks has: one timeout for waiting, in all, and
// another one for everything else. It is not safe for concurrent use.
type patience struct {
	cancel context.CancelFunc // of the context
	timer  *time.Timer        // calls cancel
	since  time.Time          // when the timer was started
	left   time.Duration      // of the timer then
	wait   time.Duration      // left for waiting
}

// newPatience returns a context that ends after the timeout, waits excluded. close must
// be called.
func newPatience(ctx context.Context, timeout time.Duration) (context.Context, *patience) {
	ctx, cancel := context.WithCancel(ctx)
	return ctx, &patience{cancel: cancel, timer: time.AfterFunc(timeout, cancel), since: time.Now(), left: timeout, wait: timeout}
}

func (p *patience) close() {
	p.timer.Stop()
	p.cancel()
}

// during runs acquire, which waits, with the time that is left for waiting. Its errors
// wrap errGiveUp and errNoSlot.
func (p *patience) during(ctx context.Context, acquire func(context.Context) error) error {
	if !p.timer.Stop() {
		return fmt.Errorf("%w: %w: %w", errGiveUp, errNoSlot, context.DeadlineExceeded)
	}
	began := time.Now()
	p.left -= began.Sub(p.since)
	ctx, cancel := context.WithTimeout(ctx, p.wait)
	defer cancel()
	err := acquire(ctx)
	p.since = time.Now()
	p.wait -= p.since.Sub(began)
	p.timer.Reset(max(p.left, 0))
	if err != nil {
		return fmt.Errorf("%w: %w: %w", errGiveUp, errNoSlot, err)
	}
	return nil
}
