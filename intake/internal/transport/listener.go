// Package transport is the connections of crash clients: how many there are, which
// of them are evicted for others, how a request's head may arrive, and how they end.
//
// net/http serves what this package accepts. It bounds what net/http cannot: the
// number of connections, the header lines of a head while they arrive, and the
// time of an unfinished head at the end of the process.
package transport

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// unusedTimeout is how long Drain waits for the first byte of a request: it may be
// in flight.
const unusedTimeout = time.Second

// Config is the limits of a Listener.
type Config struct {
	// Connections is how many may be open before newcomers evict others.
	Connections int
	// HeaderLines is how many lines a header may have; a head with more is
	// answered 431 while it arrives.
	HeaderLines int
	// HeaderTimeout is how long a head may take.
	HeaderTimeout time.Duration
}

// Reserve returns how many connections may be open beyond Connections while those
// have a request in progress or have just been opened, and how many heads may be
// unfinished at a time: a tenth of Connections, and 64.
func (c Config) Reserve() int { return c.Connections/10 + 64 }

// Listener is a limit listener of TCP connections. When it is full, a newcomer evicts
// the connection that has been idle or unfinished (its head or body has not come) the
// longest, but none that has a request in progress. One from which there is something
// to read is skipped unless all have something.
type Listener struct {
	net.Listener

	cfg     Config
	metrics *metrics
	close   func() error
	closed  chan struct{}
	changed chan struct{} // holds a token after a connection left or became evictable
	buffers sync.Pool     // of *[readSize]byte: what was read beyond a head's end

	mu       sync.Mutex
	open     int
	draining bool
	waiting  [busy]list // by state, longest first
}

// New takes a TCP listener, and registers its metrics.
func New(tcp net.Listener, cfg Config, reg prometheus.Registerer) *Listener {
	closed := make(chan struct{})
	return &Listener{
		Listener: tcp, cfg: cfg, metrics: newMetrics(reg),
		closed: closed, changed: make(chan struct{}, 1),
		buffers: sync.Pool{New: func() any { return new([readSize]byte) }},
		close: sync.OnceValue(func() error {
			close(closed)
			return tcp.Close()
		}),
	}
}

// Accept waits for a client, and then for a slot. Its error is net.ErrClosed or
// the listener's.
func (l *Listener) Accept() (net.Conn, error) {
	tcp, err := l.Listener.Accept()
	for isFull(err) && l.evictOne() {
		tcp, err = l.Listener.Accept()
	}
	if err != nil {
		return nil, err
	}
	c := &Conn{TCPConn: tcp.(*net.TCPConn), l: l}
	for {
		admitted, retry := l.admit(c)
		if admitted {
			return c, nil
		}
		select {
		case <-l.changed:
		case <-retry:
		case <-l.closed:
			_ = tcp.Close() // its error is of no use to anyone
			return nil, net.ErrClosed
		}
	}
}

// isFull reports whether the process or the machine has no file descriptor left,
// which may be fewer than Connections.
func isFull(err error) bool { return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) }

// admit gives c a slot, which may be another connection's. When there is none,
// retry is when there may be one, or nil.
func (l *Listener) admit(c *Conn) (admitted bool, retry <-chan time.Time) {
	l.mu.Lock()
	victim, admitted, retry := l.enter(c)
	l.mu.Unlock()
	victim.cut()
	return admitted, retry
}

// enter is admit under the lock. It returns the connection whose slot c has taken, or
// nil.
func (l *Listener) enter(c *Conn) (victim *Conn, admitted bool, retry <-chan time.Time) {
	if l.open >= l.cfg.Connections {
		reserved := l.open < l.cfg.Connections+l.cfg.Reserve()
		victim = l.victim(reserved)
		switch {
		case victim != nil:
			l.evict(victim)
		case !reserved && l.anyWaiting():
			return nil, false, time.After(ripe / 10)
		case !reserved:
			return nil, false, nil
		}
	}
	l.open++
	l.metrics.open.Inc()
	c.state, c.since = fresh, time.Now()
	l.waiting[fresh].push(c)
	return victim, true, nil
}

// take ends a connection's state. The caller holds the lock.
func (l *Listener) take(c *Conn) {
	if c.state < busy {
		l.waiting[c.state].remove(c)
	}
}

// leave gives a connection's slot back. The caller holds the lock.
func (l *Listener) leave(c *Conn) {
	if c.state == gone {
		return
	}
	l.take(c)
	c.state = gone
	l.open--
	l.metrics.open.Dec()
	l.signal()
}

func (l *Listener) signal() {
	select {
	case l.changed <- struct{}{}:
	default: // it has been said
	}
}

// move puts a connection into another state, and reports whether it may stay: it
// may not when it was evicted, or is idle while draining.
func (l *Listener) move(c *Conn, to state) bool {
	l.mu.Lock()
	victim := l.put(c, to)
	stays := c.state != gone
	l.mu.Unlock()
	victim.cut()
	return stays
}

// advance is move for what arrives on a connection without a request in progress, and
// nothing else: a busy one may have read the first byte of its next head. It also
// reports whether the connection was idle.
func (l *Listener) advance(c *Conn, to state) (stays, wasIdle bool) {
	l.mu.Lock()
	from := c.state
	var victim *Conn
	if from == fresh || from == head || from == idle {
		victim = l.put(c, to)
	}
	stays = c.state != gone
	l.mu.Unlock()
	victim.cut()
	return stays, from == idle
}

// put puts a connection into another state, and returns one that it evicts, or
// nil. The caller holds the lock, and cuts that one.
func (l *Listener) put(c *Conn, to state) (victim *Conn) {
	if c.state == gone || c.state == to {
		return nil
	}
	l.take(c)
	c.state, c.since = to, time.Now()
	if to == busy {
		return nil
	}
	l.waiting[to].push(c)
	l.signal()
	switch {
	case to == idle && l.draining:
		l.leave(c)
	case to == head && l.waiting[head].n > l.cfg.Reserve():
		victim = cmp.Or(l.silent(head), l.waiting[head].first)
		l.evict(victim)
	}
	return victim
}

// ConnState is the hook of the http.Server that serves the listener.
func (l *Listener) ConnState(conn net.Conn, state http.ConnState) {
	c, ok := conn.(*Conn)
	if ok && state == http.StateIdle && !c.rest() {
		_ = c.Close() // its error is of no use to anyone
	}
}

// Close stops accepting. Connections stay.
func (l *Listener) Close() error { return l.close() }

// Drain stops accepting, closes the connections on which no request begins within
// unusedTimeout, and waits for the others to end, or for the context. A head that has
// begun is waited for as long as a head may take.
func (l *Listener) Drain(ctx context.Context) error {
	if err := l.Close(); err != nil {
		return err
	}
	l.mu.Lock()
	l.draining = true
	l.mu.Unlock()
	unused, overdue := time.NewTimer(unusedTimeout), time.NewTimer(l.cfg.HeaderTimeout)
	defer unused.Stop()
	defer overdue.Stop()
	for l.anyOpen() {
		select {
		case <-l.changed:
		case <-unused.C:
			l.closeAll(idle)
			l.closeAll(fresh)
		case <-overdue.C:
			l.closeAll(head)
			l.closeAll(announced)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (l *Listener) anyOpen() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open > 0
}

// closeAll closes the connections in a state.
func (l *Listener) closeAll(s state) {
	l.mu.Lock()
	var all []*Conn
	for c := l.waiting[s].first; c != nil; c = l.waiting[s].first {
		l.leave(c)
		all = append(all, c)
	}
	l.mu.Unlock()
	for _, c := range all {
		c.cut()
	}
}
