// Package freeport finds addresses for servers that tests start, kill and start
// again. Port 0 will not do for those: the kernel hands the port of a server
// that is gone to the next client that connects anywhere.
package freeport

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports are taken from below the range that Linux gives to clients (32768 and
// up, /proc/sys/net/ipv4/ip_local_port_range) and above most services'.
const (
	lowest   = 20_000
	highest  = 32_000
	attempts = 100
)

// Addr returns a host:port on 127.0.0.1 that nobody listened on a moment ago.
// The error is the last reason for which none could be taken.
func Addr(ctx context.Context) (string, error) {
	var why error
	for range attempts {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(lowest+rand.IntN(highest-lowest)))
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
		if err != nil {
			why = err
			continue
		}
		return addr, l.Close()
	}
	return "", fmt.Errorf("finding a free port: %w", errors.Join(why, ctx.Err()))
}
