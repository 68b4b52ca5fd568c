package transport

import (
	"bytes"
	"errors"
	"time"
)

const (
	// announcement is how many bytes of a body must have arrived for its request to be
	// in progress.
	announcement = 512
	// shortBody is how long to wait for more, after the first byte of a body that may be
	// shorter than that.
	shortBody = time.Second
)

// ErrEvicted is the error of a request whose connection was closed to admit another one.
var ErrEvicted = errors.New("the connection was evicted")

// AwaitBody waits for the first bytes of the body of the request whose head was read.
// Until then the connection may be evicted, for it costs a client nothing to announce a
// body. It is called after Body, and before the body is read; a length of 0 or less
// means unknown. Its errors are ErrEvicted, that of the deadline, and TCP's; where a body
// of unknown length ends is for Read to say.
func (c *Conn) AwaitBody(length int64, deadline time.Time) error {
	if c == nil || c.hasBegun(length) {
		return nil
	}
	if !c.l.move(c, announced) {
		return ErrEvicted
	}
	err := c.readAhead(length, deadline)
	if !c.l.move(c, busy) {
		return ErrEvicted
	}
	return err
}

// hasBegun reports whether enough of a body is held, or there is no need to wait for it.
func (c *Conn) hasBegun(length int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	arrived := c.early + int64(len(c.held))
	switch {
	case !c.inBody:
		return true
	case length > 0:
		return arrived >= min(announcement, length)
	}
	return arrived >= announcement || bytes.HasSuffix(c.held, []byte("\r\n\r\n")) // behind the last chunk
}

// goOn is what net/http writes when a body is first read whose client asks.
const goOn = "HTTP/1.1 100 Continue\r\n\r\n"

// Continue tells a client that waits for 100 Continue to send its body. net/http does not
// do so once more.
func (c *Conn) Continue() {
	if c == nil || c.hasBegun(1) { // it has not waited
		return
	}
	_, err := c.Write([]byte(goOn)) // fails on a connection that is gone, which reading tells
	c.told = err == nil
}

// readAhead reads what Read will return, until the body has begun.
func (c *Conn) readAhead(length int64, deadline time.Time) error {
	some := make([]byte, announcement)
	for short := false; !c.hasBegun(length); {
		begun := c.anyArrived()
		if begun && !short && length <= 0 {
			short, deadline = true, time.Now().Add(shortBody)
		}
		if err := c.SetReadDeadline(deadline); err != nil {
			return err
		}
		n, err := c.TCPConn.Read(some)
		c.hold(some[:n])
		switch {
		case err != nil && short:
			return nil
		case err != nil:
			return err
		}
	}
	return nil
}

// anyArrived reports whether some of the body has.
func (c *Conn) anyArrived() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.early > 0 || len(c.held) > 0
}

// hold keeps what was read for Read, behind what it keeps already.
func (c *Conn) hold(p []byte) {
	if len(p) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.buffer == nil {
		c.buffer = c.l.buffers.Get().(*[readSize]byte)
	}
	n := copy(c.buffer[:], c.held)
	c.held = c.buffer[:n+copy(c.buffer[n:], p)]
}
