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
	"sync"
)

// Ports are taken from below the range that Linux gives to clients (32768 and
// up, /proc/sys/net/ipv4/ip_local_port_range) and above most services'.
const (
	lowest   = 20_000
	highest  = 32_000
	attempts = 100
)

// Finder finds addresses. Its methods may be called from any number of goroutines; the
// zero value is ready.
type Finder struct {
	mu   sync.Mutex
	last int
}

// next returns one port after the other, so that none is given out twice before all of
// them were.
func (f *Finder) next() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.last == 0 {
		f.last = lowest + rand.IntN(highest-lowest) // other processes do the same
	}
	if f.last++; f.last >= highest {
		f.last = lowest
	}
	return f.last
}

// Addr returns a host:port on 127.0.0.1 that nobody listened on a moment ago, and
// another one each time. The error is the last reason for which none could be taken.
func (f *Finder) Addr(ctx context.Context) (string, error) {
	var why error
	for range attempts {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(f.next()))
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
		if err != nil {
			why = err
			continue
		}
		return addr, l.Close()
	}
	return "", fmt.Errorf("finding a free port: %w", errors.Join(why, ctx.Err()))
}
