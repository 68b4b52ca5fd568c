package queue

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// unackedTimeout is how long a server may take nothing of what was sent to it. While
// a write to one that is frozen blocks, nats.go sends no pings and so does not notice.
const unackedTimeout = 8 * time.Second

// dialer has the kernel end a connection whose other end takes nothing
// (TCP_USER_TIMEOUT, RFC 5482).
func dialer() *net.Dialer {
	return &net.Dialer{
		Timeout: dialTimeout,
		Control: func(_, _ string, c syscall.RawConn) error {
			var failed error
			err := c.Control(func(fd uintptr) {
				failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unackedTimeout.Milliseconds()))
			})
			if err != nil {
				return err
			}
			return failed
		},
	}
}
