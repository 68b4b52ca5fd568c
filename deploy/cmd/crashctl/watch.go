package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/yagi-crash/yagi/deploy/internal/queuestatus"
)

// view is what a watcher shows after each look.
type view struct {
	Time time.Time `json:"time"`
	*queuestatus.Status
	// Rates are those since the look before; null when they are not known.
	Rates *queuestatus.Rates `json:"rates"`
	// Drain is how the backlog goes; null when there is none, or nobody knows.
	Drain *drain `json:"drain"`

	every time.Duration
	err   error // why there was no look; then the status says nothing else
}

// watcher looks again and again, over one connection as long as it lasts.
type watcher struct {
	session *session
	cfg     Config
	every   time.Duration

	js    jetstream.JetStream // nil without a connection
	last  *queuestatus.Status // of the last look, or nil
	drain tracker
}

// watch shows how the queue is until ctx ends. Then it ends as the last look would
// have by itself; one that ctx has cut short does not count.
func (s *session) watch(ctx context.Context, cfg Config, every time.Duration, show func(*view) error) error {
	w := &watcher{session: s, cfg: cfg, every: every}
	defer w.disconnect()
	tick := time.NewTicker(every)
	defer tick.Stop()
	last := queuestatus.Nothing(errors.New("nobody has looked"))
	for {
		v := w.look(ctx)
		if ctx.Err() != nil {
			break
		}
		last = v.Status
		if err := show(v); err != nil {
			return fmt.Errorf("printing the status: %w", err)
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	return verdictOf(last)
}

func (w *watcher) look(ctx context.Context) *view {
	found, err := w.ask(ctx)
	v := &view{Time: time.Now(), Status: found, every: w.every, err: err}
	if err != nil {
		w.last, v.Status = nil, w.session.without(ctx, err, w.cfg)
		return v
	}
	if w.last != nil {
		v.Rates = found.Since(w.last)
	}
	if v.Rates == nil {
		w.drain.restart()
	}
	if b := found.Total.Backlog; b != nil {
		v.Drain = w.drain.see(v.Time, b.Depth)
	}
	w.last = found
	return v
}

func (w *watcher) ask(ctx context.Context) (*queuestatus.Status, error) {
	if w.js != nil && !w.js.Conn().IsConnected() {
		w.disconnect()
	}
	if w.js == nil {
		js, err := w.session.connect(ctx, w.cfg.Queue)
		if err != nil {
			return nil, err
		}
		w.js = js
	}
	found := w.session.read(ctx, w.js, w.cfg)
	// What was asked while the connection broke is not worth much.
	if !w.js.Conn().IsConnected() {
		return nil, fmt.Errorf("the connection to NATS at %s is lost", masked(w.cfg.Queue))
	}
	return found, nil
}

func (w *watcher) disconnect() {
	if w.js != nil {
		w.js.Conn().Close()
		w.js = nil
	}
}
