package intake

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/yagi-crash/yagi/intake/internal/transport"
)

// slotWait is how long a report waits for one of INTAKE_MAX_CONNECTIONS: less than
// clients wait for an answer, and enough for some of them to end.
const slotWait = 5 * time.Second

// slots bounds how many reports are in progress. There may be more connections, for
// health checks to be answered when all slots are taken.
type slots struct {
	free    *semaphore.Weighted
	waiting chan struct{} // one for each report that waits for a slot
}

// newSlots leaves half of the further connections to health checks.
func newSlots(c transport.Config) *slots {
	return &slots{free: semaphore.NewWeighted(int64(c.Connections)), waiting: make(chan struct{}, c.Reserve()/2)}
}

// acquire waits for a slot. An error means that there is none.
func (s *slots) acquire(ctx context.Context) error {
	if s.free.TryAcquire(1) {
		return nil
	}
	select {
	case s.waiting <- struct{}{}:
		defer func() { <-s.waiting }()
	default:
		return errors.New("INTAKE_MAX_CONNECTIONS reports are in progress, and many wait")
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), slotWait)
	defer cancel()
	if s.free.Acquire(ctx, 1) != nil {
		return fmt.Errorf("INTAKE_MAX_CONNECTIONS reports are in progress, and none ended within %s", slotWait)
	}
	return nil
}
