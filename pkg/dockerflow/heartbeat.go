package dockerflow

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// Check asks after one service that this one depends on.
type Check struct {
	// Name is what the heartbeat calls it, such as "nats".
	Name string
	// Probe returns nil when all is well, else what is wrong, which the
	// heartbeat shows to whoever can reach it. It is never run twice at once.
	// It should return when its context ends.
	Probe func(context.Context) error
}

// heartbeat asks all its probes at once.
type heartbeat struct {
	probes  []*probe
	timeout time.Duration
}

func newHeartbeat(checks []Check, timeout time.Duration) *heartbeat {
	h := &heartbeat{timeout: timeout}
	for _, c := range checks {
		h.probes = append(h.probes, &probe{Check: c})
	}
	return h
}

// trouble is one failed check in the reply.
type trouble struct {
	Name string `json:"name"`
	Msg  string `json:"msg"`
}

func (h *heartbeat) serve(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeoutCause(r.Context(), h.timeout, fmt.Errorf("no answer within %v", h.timeout))
	defer cancel()
	runs := make([]*run, len(h.probes))
	for i, p := range h.probes {
		runs[i] = p.start(ctx, h.timeout)
	}
	body := struct {
		Errors []trouble `json:"errors"`
	}{Errors: []trouble{}}
	for i, p := range h.probes {
		if err := runs[i].wait(ctx); err != nil {
			body.Errors = append(body.Errors, trouble{p.Name, err.Error()})
		}
	}
	status := http.StatusOK
	if len(body.Errors) > 0 {
		status = http.StatusServiceUnavailable
	}
	reply(w, status, body)
}

// probe shares one run of a check among all heartbeats that come while it
// lasts. So the service behind is asked no faster than it answers, and a check
// that hangs for good costs one goroutine rather than one a heartbeat.
type probe struct {
	Check

	mu  sync.Mutex
	now *run // the run under way, or nil
}

// start joins the run under way or begins one. A run has its own timeout, and
// does not end with the request that began it, because others may have joined.
func (p *probe) start(ctx context.Context, timeout time.Duration) *run {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now == nil {
		p.now = &run{done: make(chan struct{})}
		go p.do(context.WithoutCancel(ctx), timeout, p.now)
	}
	return p.now
}

func (p *probe) do(ctx context.Context, timeout time.Duration, r *run) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	defer func() {
		if cause := recover(); cause != nil {
			r.err = fmt.Errorf("checking panicked: %v", cause)
		}
		p.mu.Lock()
		p.now = nil
		p.mu.Unlock()
		close(r.done)
	}()
	r.err = p.Probe(ctx)
}

// run is one call of a check.
type run struct {
	done chan struct{} // closed when err is set
	err  error
}

// wait returns what the check said, or an error when ctx ends first. It asks
// for the answer once more then, because ctx may have ended while another
// check was waited for.
func (r *run) wait(ctx context.Context) error {
	select {
	case <-r.done:
	case <-ctx.Done():
		select {
		case <-r.done:
		default:
			return context.Cause(ctx)
		}
	}
	return r.err
}
