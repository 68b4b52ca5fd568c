package transport

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

const (
	// writeTimeout is how long a client may take to read what is written to it.
	writeTimeout = 10 * time.Second
	// readSize is how much of a head net/http reads at a time.
	readSize = 4096
	// unknown is the length of a body that Conn does not follow to its end.
	unknown = -1
)

// errHead ends net/http's reading of a head that was refused here, or of one
// whose connection was evicted. net/http writes no answer to such an error.
var errHead error = &net.OpError{Op: "read", Net: "tcp", Err: errors.New("head is not read to its end")}

// Conn is a client's connection. It follows the framing of what arrives: it scans
// heads, counts the bytes of bodies, and lets no read go beyond the end of either.
// All that is not said here is TCP's own, for net/http looks for some of it.
type Conn struct {
	*net.TCPConn

	l *Listener
	// Under the listener's lock:
	state      state
	since      time.Time // in that state
	prev, next *Conn

	told bool // to continue, which net/http is about to say again

	mu     sync.Mutex // for what follows; not held while reading
	inBody bool       // else in a head
	body   int64      // bytes of the body that are to come, or unknown
	early  int64      // bytes read since the head's end, while body is unknown
	first  byte       // of the early ones, the last
	head   scanner
	odd    bool            // of the head before this body
	held   []byte          // read, and not passed on
	buffer *[readSize]byte // of held
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	n, next, ok := c.readHeld(p)
	if !ok {
		var err error
		if n, err = c.TCPConn.Read(c.limit(p)); n <= 0 || err != nil {
			return n, err
		}
		n, next = c.follow(p[:n])
	}
	if next == gone {
		c.refuseHead()
		return 0, errHead
	}
	if next == fresh { // nothing new
		return n, nil
	}
	stays, wasIdle := c.l.advance(c, next)
	if !stays {
		return 0, errHead
	}
	if wasIdle && next == head { // net/http begins to count with the fourth byte
		return n, c.SetReadDeadline(time.Now().Add(c.l.cfg.HeaderTimeout))
	}
	return n, nil
}

// readHeld reads what is held, if there is something.
func (c *Conn) readHeld(p []byte) (n int, next state, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.held) == 0 {
		return 0, fresh, false
	}
	n, next = c.frame(p[:copy(c.limited(p), c.held)])
	if c.held = c.held[n:]; len(c.held) == 0 {
		c.l.buffers.Put(c.buffer)
		c.buffer, c.held = nil, nil
	}
	return n, next, true
}

// follow takes what was read, and returns how much of it is passed on. The rest
// is held.
func (c *Conn) follow(p []byte) (n int, next state) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, next = c.frame(p)
	if n < len(p) {
		c.buffer = c.l.buffers.Get().(*[readSize]byte)
		c.held = c.buffer[:copy(c.buffer[:], p[n:])]
	}
	return n, next
}

func (c *Conn) limit(p []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.limited(p)
}

// limited cuts p to what a read may fill.
func (c *Conn) limited(p []byte) []byte {
	switch {
	case !c.inBody:
		return p[:min(len(p), readSize)]
	case c.body != unknown:
		return p[:min(int64(len(p)), c.body)]
	}
	return p
}

// frame takes what is about to be passed on, and returns how much of it may be: no
// more than to a head's end. The state is what the connection comes to by it: head,
// busy, gone where the head has too many lines, or fresh for what it was.
func (c *Conn) frame(p []byte) (n int, next state) {
	switch {
	case c.inBody && c.body == unknown:
		c.early += int64(len(p))
		c.first = p[len(p)-1]
		return len(p), fresh
	case c.inBody:
		c.body -= int64(len(p))
		c.inBody = c.body > 0
		return len(p), fresh
	}
	end := c.head.scan(p)
	switch {
	case c.head.lines > c.l.cfg.HeaderLines+1:
		return len(p), gone
	case end >= 0:
		c.odd = c.head.odd
		c.inBody, c.body, c.early, c.head = true, unknown, 0, scanner{}
		return end, busy
	case c.head.begun():
		return len(p), head
	}
	return len(p), fresh
}

// Of returns the connection of a request whose server has ConnContext, or nil. All
// methods for handlers may be called on nil.
func Of(ctx context.Context) *Conn {
	c, _ := ctx.Value(connKey{}).(*Conn)
	return c
}

type connKey struct{}

// ConnContext is the hook of the http.Server that serves the listener.
func (l *Listener) ConnContext(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// Body says how long the body of the request is whose head was read. Its handler
// has to say so before it reads, unless the connection is closed afterwards.
func (c *Conn) Body(length int64) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.inBody || c.body != unknown || length < 0 {
		return
	}
	c.body = length - c.early
	c.inBody = c.body > 0
	if c.body < 0 { // without a body net/http reads ahead, a byte at the most
		c.head.scan([]byte{c.first})
	}
}

// Ambiguous reports whether the request's head has lines that readers take
// differently: bare LF, or folded ones (RFC 9112 §2.2, §5.2). What follows such a
// request must not be taken for another one.
func (c *Conn) Ambiguous() bool {
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.odd
}

// Answered says that the request in progress has its answer, written or about to
// be: from now on the connection may be evicted.
func (c *Conn) Answered() {
	if c != nil {
		c.l.move(c, answered)
	}
}

// rest is for the end of a request on a connection that is kept, and reports
// whether it may be.
func (c *Conn) rest() bool {
	c.mu.Lock()
	c.inBody = false
	begun := len(c.held) > 0 || c.head.begun()
	c.mu.Unlock()
	if begun {
		return c.l.move(c, head)
	}
	return c.l.move(c, idle)
}

// cut closes a connection whose slot is given back already. It may be nil.
func (c *Conn) cut() {
	if c != nil {
		_ = c.TCPConn.Close() // its error is of no use to anyone
	}
}

// Close implements net.Conn, and gives the slot back.
func (c *Conn) Close() error {
	c.l.mu.Lock()
	c.l.leave(c)
	c.l.mu.Unlock()
	return c.TCPConn.Close()
}
