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
	// brokenFor is how long the trouble is remembered when no more reports come:
	// longer than a report takes that fails again.
	brokenFor = 30 * time.Second
)

// promises knows whether reports are being promised. What the server says of a
// stream does not tell: it may be full, without a quorum, or on a disk that failed.
type promises struct {
	mu    sync.Mutex
	since time.Time // the first of the failures in a row began; zero: the last report was promised
	last  time.Time // the last of them ended
	err   error     // why
}

// note is told how the publishing of a report went that began then.
func (p *promises) note(began time.Time, err error) {
	refusal, _ := errors.AsType[*crash.Refusal](err)
	if refusal != nil && refusal.Status != http.StatusServiceUnavailable {
		return // the report's own fault
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
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
	if p.since.IsZero() || p.last.Sub(p.since) < brokenAfter || time.Since(p.last) > brokenFor {
		return nil
	}
	return fmt.Errorf("no report was promised for %s: %w", p.last.Sub(p.since).Round(time.Second), p.err)
}
