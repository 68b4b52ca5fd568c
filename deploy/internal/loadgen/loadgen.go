// Package loadgen posts crash reports to an intake, each unlike all others, and
// measures how they are answered. With a rate each report has a time at which it
// is due, whatever became of those before it, and its latency is counted from
// then: an intake that stalls for a second has kept everybody waiting who would
// have come in that second, not only those who were connected.
package loadgen

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/yagi-crash/yagi/deploy/internal/submit"
)

const (
	// lateness is what a timer and a busy machine cost anyway; a report sent
	// later than this after it was due had no free connection.
	lateness = 10 * time.Millisecond
	// pause follows a post without an answer when there is no rate: with nobody
	// there, posts fail at once, and the generator would do nothing else.
	pause = 100 * time.Millisecond
)

// Config says what is posted, where, and how fast.
type Config struct {
	URL         *url.URL
	Rate        float64 // reports a second; 0 is as fast as answers come
	Connections int
	Size        Size
	Gzip        bool
	// For and Count end it, whichever comes first; 0 is no end. The reports in
	// hand are waited for.
	For   time.Duration
	Count int64
	// Product is the annotation ProductName of every report.
	Product string
	// Seed decides what is in the reports: the same one gives the same reports.
	Seed uint64
	// RequestTimeout is how long a post may take.
	RequestTimeout time.Duration
	// Ledger gets a line with the id of each report that was promised, before it
	// is counted. It may be nil.
	Ledger io.Writer
	// Progress is called every second. It may be nil.
	Progress func(Progress)
}

// Progress is how far it is.
type Progress struct {
	Elapsed  time.Duration
	Sent     int64
	Answered int64
	Rate     float64 // answers a second, since the progress before
	Errors   int64   // refusals, and posts without an answer
}

// Summary is what came of it all.
type Summary struct {
	Seed     uint64 `json:"seed"`
	Sent     int64  `json:"sent"`
	Answered int64  `json:"answered"`
	// Late is how many reports found no free connection when they were due, and
	// NotSent how many of those found none until the end.
	Late    int64 `json:"late"`
	NotSent int64 `json:"not_sent"`
	// Elapsed goes to the last answer; the rates are of what was answered.
	Elapsed          float64   `json:"elapsed_seconds"`
	Bytes            int64     `json:"bytes"`
	BytesPerSecond   float64   `json:"bytes_per_second"`
	ReportsPerSecond float64   `json:"reports_per_second"`
	Errors           int64     `json:"errors"` // outcomes that are not fine
	Outcomes         []Outcome `json:"outcomes"`
	Latency          Latency   `json:"latency_seconds"`
}

type generator struct {
	cfg      *Config
	client   *submit.Client
	schedule *schedule
	tally    *tally
	ledger   sync.Mutex
}

// Run posts until the end, or until ctx ends, and then waits for the reports in
// hand. The summary is there even with an error, which means that the ledger
// could not be written.
func Run(ctx context.Context, cfg Config) (*Summary, error) {
	g := &generator{
		cfg: &cfg, client: submit.NewClient(cfg.URL, cfg.Connections),
		schedule: &schedule{start: time.Now(), rate: cfg.Rate, count: cfg.Count, span: cfg.For},
		tally:    &tally{outcomes: map[string]*Outcome{}},
	}
	defer g.client.Close()
	connections, posting := errgroup.WithContext(ctx)
	for range cfg.Connections {
		connections.Go(func() error { return g.connection(posting) })
	}
	done := make(chan error, 1)
	go func() { done <- connections.Wait() }()
	stopped, err := g.watch(ctx, done)
	return g.summary(stopped), err
}

// watch tells of the progress until all is done. It returns when sending stopped,
// and the error in done.
func (g *generator) watch(ctx context.Context, done <-chan error) (time.Time, error) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	var stopped time.Time
	var before Progress
	ended := ctx.Done()
	for {
		select {
		case <-ticker.C:
			if g.cfg.Progress != nil {
				before = g.progress(before)
				g.cfg.Progress(before)
			}
		case <-ended:
			// A report that is due at this very moment was not kept from being sent.
			stopped, ended = time.Now().Add(-lateness), nil
		case err := <-done:
			if stopped.IsZero() {
				stopped = time.Now()
			}
			return stopped, err
		}
	}
}

// connection posts one report after another until there are no more. Each is
// made before it is due.
func (g *generator) connection(ctx context.Context) error {
	m, err := newMaker(g.cfg)
	if err != nil {
		return err
	}
	for {
		n, due, ok := g.schedule.take()
		if !ok {
			return nil
		}
		body, err := m.make(n)
		if err != nil {
			return err
		}
		if !await(ctx, time.Until(due)) {
			return nil
		}
		if err := g.post(ctx, body, m.encoding(), due); err != nil {
			return err
		}
	}
}

// post posts a report that was due at a time, or is now. Its error is that of
// the ledger.
func (g *generator) post(ctx context.Context, body []byte, encoding string, due time.Time) error {
	// What has been sent is to be answered, also after Ctrl-C.
	inHand, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.cfg.RequestTimeout)
	defer cancel()
	now := time.Now()
	if due.IsZero() {
		due = now
	}
	g.tally.begin(now.Sub(due))
	answer, err := g.client.Post(inHand, body, encoding)
	took := time.Since(due)
	if err != nil {
		g.tally.fail(err, took)
		if g.cfg.Rate == 0 {
			await(ctx, pause)
		}
		return nil
	}
	if answer.Promised() {
		err = g.enter(answer)
	}
	g.tally.answer(answer, len(body), took)
	return err
}

// enter writes to the ledger, in one write, so that no line is cut off by an end
// of the process.
func (g *generator) enter(a submit.Answer) error {
	if g.cfg.Ledger == nil {
		return nil
	}
	g.ledger.Lock()
	defer g.ledger.Unlock()
	if _, err := io.WriteString(g.cfg.Ledger, string(a.ID)+"\n"); err != nil {
		return fmt.Errorf("writing to the ledger: %w", err)
	}
	return nil
}

// await tells whether ctx lasted that long.
func await(ctx context.Context, wait time.Duration) bool {
	if wait <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (g *generator) progress(before Progress) Progress {
	g.tally.mu.Lock()
	defer g.tally.mu.Unlock()
	p := Progress{
		Elapsed: time.Since(g.schedule.start), Sent: g.tally.sent, Answered: g.tally.answered, Errors: g.tally.troubled,
	}
	p.Rate = float64(p.Answered-before.Answered) / (p.Elapsed - before.Elapsed).Seconds()
	return p
}

func (g *generator) summary(stopped time.Time) *Summary {
	t := g.tally
	t.mu.Lock()
	defer t.mu.Unlock()
	s := &Summary{
		Seed: g.cfg.Seed, Sent: t.sent, Answered: t.answered, Late: t.late,
		NotSent: max(g.schedule.dueBy(stopped)-t.sent, 0),
		Bytes:   t.bytes, Errors: t.troubled, Outcomes: t.list(), Latency: t.latency(),
	}
	if t.sent > 0 {
		s.Elapsed = t.last.Sub(g.schedule.start).Seconds()
		s.ReportsPerSecond = float64(s.Answered) / s.Elapsed
		s.BytesPerSecond = float64(s.Bytes) / s.Elapsed
	}
	return s
}
