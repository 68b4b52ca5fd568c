package devs3

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
)

// listener knows the connections that it has accepted, so that they can be
// closed. The HTTP server above it closes idle ones when it shuts down, but
// takes a connection on which nothing has come yet for a busy one (fasthttp
// v1.73.0, serveConnCounted), and browsers and HTTP clients open such
// connections in advance.
type listener struct {
	net.Listener
	close func() error

	mu    sync.Mutex
	conns map[*conn]struct{}
}

// conn is a connection that its listener forgets when it is closed.
type conn struct {
	net.Conn
	from *listener
}

// listen takes an address, host:port, with a free port for port 0.
func listen(ctx context.Context, addr string) (*listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &listener{Listener: l, close: sync.OnceValue(l.Close), conns: make(map[*conn]struct{})}, nil
}

// url is the address as a client on the same machine would give it.
func (l *listener) url() string {
	addr := *l.Addr().(*net.TCPAddr)
	if addr.IP.IsUnspecified() {
		addr.IP = net.IPv4(127, 0, 0, 1)
	}
	return "http://" + addr.String()
}

func (l *listener) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: accepted, from: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[c] = struct{}{}
	return c, nil
}

// Close stops accepting. Closing again, or closing nothing, does nothing.
func (l *listener) Close() error {
	if l == nil {
		return nil
	}
	return l.close()
}

// closeConnections closes what is still open. The listener has to be closed.
func (l *listener) closeConnections() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		c.Conn.Close()
	}
}

// Read ends a connection that closeConnections has closed as its client would
// have. The gateway prints any other end to stderr as an internal error.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if errors.Is(err, net.ErrClosed) {
		err = io.EOF
	}
	return n, err
}

func (c *conn) Close() error {
	c.from.mu.Lock()
	delete(c.from.conns, c)
	c.from.mu.Unlock()
	return c.Conn.Close()
}
