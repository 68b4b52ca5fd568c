package queue

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	// shortWait is how long a pull that is not to wait waits at a consumer that left an
	// earlier one unanswered. nats-server answers such a pull in any case, and one that
	// is not to wait at all (no_wait) not while as many messages are unacknowledged as
	// may be (max_ack_pending; 2.15.2).
	shortWait = 10 * time.Millisecond
	// shortFor is how long it does so. Then one pull finds out.
	shortFor = 30 * time.Second
	// silentFor is how long nobody asks a consumer that left two pulls unanswered, and
	// then another one. Each blocks one of the few pullers for answerWait.
	silentFor = 5 * time.Second
)

// ErrUnanswered means that a consumer does not answer pulls: the permission to publish
// them is missing, for example.
var ErrUnanswered = errors.New("pulls are not answered")

// answers remembers which consumers do not answer pulls. Its methods, and those of what
// it has, may be called from any number of goroutines.
type answers struct {
	mu sync.Mutex
	by map[string]*answering
}

// of returns what is known of a stream's consumer.
func (a *answers) of(stream, consumer string) *answering {
	consumer += " of " + stream
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.by == nil {
		a.by = map[string]*answering{}
	}
	if a.by[consumer] == nil {
		a.by[consumer] = &answering{consumer: consumer}
	}
	return a.by[consumer]
}

// answering is how a consumer answers pulls.
type answering struct {
	consumer string
	mu       sync.Mutex
	missed   bool      // the last pull was not answered
	short    time.Time // until then pulls do not do without a wait
	err      error     // nil: it answers
	retry    time.Time // with err, when the next pull may go
}

// pull is how a consumer is asked.
type pull struct {
	wait   time.Duration // of the server; 0: it does not wait
	second bool          // an earlier one was not answered
}

func (p pull) request() []byte {
	if p.wait == 0 {
		return []byte(`{"batch":1,"no_wait":true}`)
	}
	return fmt.Appendf(nil, `{"batch":1,"expires":%d}`, p.wait.Nanoseconds())
}

// begin returns how to ask for a message that may take wait, or why not to ask now.
func (a *answering) begin(wait time.Duration, now time.Time) (pull, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		if now.Before(a.retry) {
			return pull{}, a.err
		}
		a.retry = now.Add(silentFor) // for the others
	}
	how := pull{wait, a.missed}
	switch {
	case wait > 0:
	case a.err != nil || now.Before(a.short):
		how.wait = shortWait
	case !a.short.IsZero():
		a.short = now.Add(shortFor) // for the others
	}
	return how, nil
}

// answered notes that the consumer has answered a pull.
func (a *answering) answered() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.missed, a.err = false, nil
}

// unanswered notes that it has not, and returns an error if it should have.
func (a *answering) unanswered(how pull, now time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.missed, a.short = true, now.Add(shortFor)
	if a.err == nil && (!how.second || how.wait == 0) {
		return nil
	}
	a.err = fmt.Errorf("%w by consumer %s: its leader or the permission to publish them is missing", ErrUnanswered, a.consumer)
	a.retry = now.Add(silentFor)
	return a.err
}
