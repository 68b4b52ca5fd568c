package intake

import (
	"bytes"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// replyTimeout is how long a client may take to read what is written to it.
const replyTimeout = 10 * time.Second

// door is the listener that clients come through. It bounds how many are
// connected at once; further ones wait in the kernel's accept queue. (The
// listener of golang.org/x/net/netutil does so too, but hides CloseWrite, which
// net/http needs so that a refused client comes to read why.)
type door struct {
	net.Listener
	places chan struct{} // one is taken by each connection, and by Accept
	closed chan struct{}
	shut   func()
	open   prometheus.Gauge
}

// newDoor takes a TCP listener.
func newDoor(l net.Listener, places int, open prometheus.Gauge) *door {
	closed := make(chan struct{})
	return &door{
		Listener: l, places: make(chan struct{}, places), open: open,
		closed: closed, shut: sync.OnceFunc(func() { close(closed) }),
	}
}

// Accept waits for a place, and then for a client. Its error is net.ErrClosed
// or the listener's.
func (d *door) Accept() (net.Conn, error) {
	select {
	case d.places <- struct{}{}:
	case <-d.closed:
		return nil, net.ErrClosed
	}
	c, err := d.Listener.Accept()
	if err != nil {
		<-d.places
		return nil, err
	}
	d.open.Inc()
	return &clientConn{TCPConn: c.(*net.TCPConn), leave: sync.OnceFunc(func() {
		d.open.Dec()
		<-d.places
	})}, nil
}

// Close ends the listener, and an Accept that waits for a place.
func (d *door) Close() error {
	d.shut()
	return d.Listener.Close()
}

// clientConn is a client's connection. All that is not said here is TCP's own,
// for net/http looks for some of it.
type clientConn struct {
	*net.TCPConn
	leave func()
}

// Close gives the place back.
func (c *clientConn) Close() error {
	defer c.leave()
	return c.TCPConn.Close()
}

// Write writes p within replyTimeout. A reply of net/http's own gets its length:
// clients depend on it.
func (c *clientConn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(replyTimeout)); err != nil {
		return 0, err
	}
	reply, ok := withLength(p)
	if !ok {
		return c.TCPConn.Write(p)
	}
	if _, err := c.TCPConn.Write(reply); err != nil {
		return 0, err
	}
	return len(p), nil
}

// withLength tells whether p is a reply that net/http writes when it cannot make
// a request of what has come (400, 431, 501, 505), and returns it with its
// length. Such a reply is one write, with these headers and no others:
// errorHeaders in net/http/server.go.
func withLength(p []byte) (reply []byte, ok bool) {
	const errorHeaders = "\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
	status, body, ok := bytes.Cut(p, []byte(errorHeaders))
	if !ok || !bytes.HasPrefix(status, []byte("HTTP/1.1 ")) || bytes.IndexByte(status, '\n') >= 0 {
		return nil, false
	}
	return fmt.Appendf(nil, "%s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", status, len(body), body), true
}
