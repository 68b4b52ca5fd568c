package uploader

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/yagi-crash/yagi/pkg/queue"
)

// aside is a stream in which reports are set aside, as the last look found it. Its
// methods may be called from any number of goroutines.
type aside struct {
	mu     sync.Mutex
	looked bool
	err    error
}

// saw records what a look found, and returns why nothing may be set aside there; nil is
// nothing.
func (a *aside) saw(stream string, found []queue.Difference, err error) error {
	unsafe := queue.Unsafe(found)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		err = fmt.Errorf("stream %s is missing: crashctl stream apply creates it", stream)
	case errors.Is(err, jetstream.ErrConsumerNotFound):
		err = fmt.Errorf("consumer %s of %s is missing: crashctl stream apply creates it", queue.Consumer, stream)
	case err == nil && len(unsafe) > 0:
		err = fmt.Errorf("what is put there could be lost: %s (crashctl stream apply mends it)", words(unsafe))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.looked, a.err = true, err
	return err
}

// check returns why no report may be set aside there now.
func (a *aside) check() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.looked {
		return errors.New("its stream was not looked at yet")
	}
	return a.err
}

// words says differences on one line.
func words(all []queue.Difference) string {
	var each []string
	for _, d := range all {
		each = append(each, d.String())
	}
	return strings.Join(each, "; ")
}

// heldUnknown is the number of held reports when it is not known.
const heldUnknown = -1

// inspectAside looks at what is set aside: dead letters and held reports.
func (u *Uploader) inspectAside(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, inspectTimeout)
	defer cancel()
	found, err := queue.InspectDeadLetters(ctx, u.js, u.cfg.NATS)
	letters := u.letters.saw(queue.DeadLetterStream, found, err)
	held, err := queue.InspectHeld(ctx, u.js, u.cfg.NATS)
	references := u.references.saw(queue.HeldStream, held.Differences, err)
	if !errors.Is(ctx.Err(), context.Canceled) { // the end
		u.conditions.set("reaching dead letters", letters)
		u.conditions.set("reaching held reports", references)
	}
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		u.held.Store(0)
	case held.Stream == nil:
		u.held.Store(heldUnknown)
	default:
		n := held.Stream.State.Msgs
		u.held.Store(int64(n))
		u.metrics.held.Set(float64(n))
		u.conditions.set("storing every report", u.checkHeld(held.Stream))
	}
}

// checkHeld returns an error when too many reports are held, or one for too long, as the
// first reference's age has it. The text has no number that changes, which would be
// another error each time.
func (u *Uploader) checkHeld(references *queue.StreamInfo) error {
	switch s := references.State; {
	case s.Msgs >= heldAlarm:
		return fmt.Errorf("%d reports or more are held, of at most %d: crashctl status shows how many", heldAlarm, queue.MaxHeld)
	case s.Msgs > 0 && references.Server.Sub(s.FirstTime) >= u.heldTooLong:
		return fmt.Errorf("a report has been held for %v or longer: crashctl status shows why", u.heldTooLong)
	}
	return nil
}

// letters makes dead letters while their stream is safe.
type letters struct {
	*queue.Copier

	stream *aside
}

// Bury is queue.Copier's, and an error while a dead letter could be lost.
func (l *letters) Bury(ctx context.Context, header nats.Header, body []byte, d queue.Death) error {
	if err := l.stream.check(); err != nil {
		return err
	}
	return l.Copier.Bury(ctx, header, body, d)
}
