//go:build faults

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var errStill = errors.New("not yet")

// Under load, intakes are stopped and started again one after the other, as in a
// rollout. Clients go where a load balancer sends them, by /__lbheartbeat__ and
// readiness, and heed Connection: close: no request fails.
func TestRollout(t *testing.T) {
	s := startSystem(t)
	type tier struct {
		process    *process
		url, admin string
	}
	var tiers []*tier
	for range 2 {
		admin := freeAddr(t)
		p, url := s.newIntake(t, "INTAKE_ADMIN_ADDR="+admin, "INTAKE_LAME_DUCK=2s")
		awaitHealthy(t, url)
		tiers = append(tiers, &tier{p, url, "http://" + admin})
	}
	balancer := newBalancer(t, tiers[0].url, tiers[1].url)
	balancer.follow(t, []string{tiers[0].admin + "/readyz", tiers[1].admin + "/readyz"})
	book := newLedger()
	ctx, stopPosting := context.WithCancel(t.Context())
	defer stopPosting()
	var clients sync.WaitGroup
	for n := range 8 {
		clients.Go(func() {
			c := newClient("http://balanced", 26, n)
			c.http.Transport = balancer.transport()
			postUntil(ctx, c, book)
		})
	}
	for range 2 {
		for _, tier := range tiers {
			s.morePromises(t, book, 30)
			tier.process.signal(syscall.SIGTERM)
			<-tier.process.ended()
			if code := tier.process.exitCode(); code != 0 {
				t.Errorf("an intake ended with code %d", code)
			}
			s.morePromises(t, book, 30)
			tier.process.start()
			awaitHealthy(t, tier.url)
			eventually(t, "waiting for the load balancer", 20*time.Second, func() error {
				if balancer.ready() < 2 {
					return errStill
				}
				return nil
			})
		}
	}
	stopPosting()
	clients.Wait()
	t.Logf("%d reports promised", book.size())
	if len(book.refused) > 0 {
		t.Errorf("requests failed: %v", book.refused)
	}
	book.audit(t, s.bucket, time.Minute)
	if n := uint64(book.size()); ready(t, s.jetStream(t)) != n {
		t.Errorf("%d reports in the queue, %d promised", ready(t, s.jetStream(t)), n)
	}
}

// balancer sends new connections to those that are ready, one after the other.
type balancer struct {
	hosts []string

	mu   sync.Mutex
	ok   []bool
	next int
}

func newBalancer(t *testing.T, urls ...string) *balancer {
	t.Helper()
	b := &balancer{ok: make([]bool, len(urls))}
	for i, url := range urls {
		b.hosts, b.ok[i] = append(b.hosts, strings.TrimPrefix(url, "http://")), true
	}
	return b
}

// follow asks each page every 200 ms, until the test ends.
func (b *balancer) follow(t *testing.T, pages []string) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var following sync.WaitGroup
	for i, page := range pages {
		following.Go(func() {
			for ; ctx.Err() == nil; rest(ctx, 200*time.Millisecond) {
				ok := isOK(ctx, page)
				b.mu.Lock()
				b.ok[i] = ok
				b.mu.Unlock()
			}
		})
	}
	t.Cleanup(func() { stop(); following.Wait() })
}

func isOK(ctx context.Context, url string) bool {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return false
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK
}

func (b *balancer) ready() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, ok := range b.ok {
		if ok {
			n++
		}
	}
	return n
}

// pick returns the next one that is ready.
func (b *balancer) pick() (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range b.hosts {
		b.next = (b.next + 1) % len(b.hosts)
		if b.ok[b.next] {
			return b.hosts[b.next], nil
		}
	}
	return "", errors.New("none is ready")
}

// transport dials where the balancer says.
func (b *balancer) transport() *http.Transport {
	var dialer net.Dialer
	return &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		host, err := b.pick()
		if err != nil {
			return nil, fmt.Errorf("balancing: %w", err)
		}
		return dialer.DialContext(ctx, network, host)
	}}
}
