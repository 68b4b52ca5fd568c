package intake

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/yagi-crash/yagi/pkg/crash"
)

const (
	// brokenAfter is for how long no report may be promised, while some are
	// offered, before that is trouble: longer than one that was unlucky.
	brokenAfter = 5 * time.Second
	// brokenFor is how long the trouble is remembered when no more reports come that
	// would show whether it is over.
	brokenFor = 10 * time.Second
)

// promises knows whether a step of every report goes well: its publishing, of which
// what the server says of a stream does not tell (it may be full, without a quorum,
// or on a disk that failed), or finding room for it.
type promises struct {
	step  string // what becomes of a report there: "promised"
	mu    sync.Mutex
	tried int       // that are at the step
	since time.Time // the first of the failures in a row began; zero: the last report went well
	last  time.Time // the last of them ended
	err   error     // why
}

// begin is told that a report is at the step; ended follows.
func (p *promises) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tried++
}

// ended is told how the step went of a report that began it then.
func (p *promises) ended(began time.Time, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tried--
	refusal, _ := errors.AsType[*crash.Refusal](err)
	switch {
	case refusal != nil && refusal.Status != http.StatusServiceUnavailable:
		return // the report's own fault
	case err == nil:
		p.since = time.Time{}
		return
	}
	if p.since.IsZero() {
		p.since = began
	}
	p.last, p.err = time.Now(), err
}

// check says why no report is being promised.
func (p *promises) check() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	over := p.tried == 0 && time.Since(p.last) > brokenFor
	if p.since.IsZero() || p.last.Sub(p.since) < brokenAfter || over {
		return nil
	}
	return fmt.Errorf("no report was %s for %s: %w", p.step, p.last.Sub(p.since).Round(time.Second), p.err)
}
