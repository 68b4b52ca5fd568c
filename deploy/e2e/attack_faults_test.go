//go:build faults

package e2e

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	// connections is INTAKE_MAX_CONNECTIONS.
	connections = 200
	// attackLasts is how long each attack lasts, and attackers how many connections it
	// has at a time.
	attackLasts = 6 * time.Second
	attackers   = connections + 50
	// honestShare is the part of honest posts that must be answered CrashID=.
	honestShare = 0.99
)

// attack is what an attacker sends on one connection. It then waits for the other side
// to close, or for the end.
type attack struct {
	name string
	// send writes to the connection, slowly if it likes.
	send func(ctx context.Context, conn net.Conn) error
	n    int // connections at a time; 0: attackers, or E2E_ATTACKERS
}

const submitHead = "POST /submit HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=%s\r\n%sContent-Length: %d\r\n\r\n"

// attacks are cheap requests, and some that send more than they get.
func attacks(t *testing.T) []attack {
	t.Helper()
	bomb := gzipBomb(t, 95<<20)
	dashes := bytes.Repeat([]byte("-"), 8<<20)
	return []attack{
		{name: "announces 25 MiB and sends nothing", send: func(_ context.Context, c net.Conn) error {
			_, err := fmt.Fprintf(c, submitHead, "B", "", 25<<20)
			return err
		}},
		{name: "stalls before the end of 4 MiB", n: 20, send: func(_ context.Context, c net.Conn) error {
			if _, err := fmt.Fprintf(c, submitHead, "B", "", 4<<20); err != nil {
				return err
			}
			_, err := c.Write(make([]byte, 4<<20-1))
			return err
		}},
		{name: "asks for 100 Continue and sends nothing", send: func(_ context.Context, c net.Conn) error {
			_, err := fmt.Fprintf(c, submitHead, "B", "Expect: 100-continue\r\n", 25<<20)
			return err
		}},
		{name: "begins a chunk of HTTP 1.0", send: func(_ context.Context, c net.Conn) error {
			_, err := io.WriteString(c, "POST /submit HTTP/1.0\r\nContent-Type: multipart/form-data; boundary=B\r\nTransfer-Encoding: chunked\r\n\r\n1")
			return err
		}},
		{name: "sends 2 kB of 100", send: func(_ context.Context, c net.Conn) error {
			_, err := fmt.Fprintf(c, submitHead+"%s", "B", "", 100_000, strings.Repeat("x", 2000))
			return err
		}},
		{name: "sends a byte now and then", send: func(ctx context.Context, c net.Conn) error {
			if _, err := fmt.Fprintf(c, submitHead, "B", "", 25<<20); err != nil {
				return err
			}
			for ctx.Err() == nil {
				if _, err := c.Write([]byte("-")); err != nil {
					return err
				}
				rest(ctx, 300*time.Millisecond)
			}
			return nil
		}},
		{name: "inflates a thousand times", n: 24, send: func(_ context.Context, c net.Conn) error {
			_, err := fmt.Fprintf(c, submitHead+"%s", "B", "Content-Encoding: gzip\r\n", len(bomb), bomb)
			return err
		}},
		{name: "is all dashes", n: 8, send: func(_ context.Context, c net.Conn) error {
			if _, err := fmt.Fprintf(c, submitHead, "-", "", len(dashes)); err != nil {
				return err
			}
			_, err := c.Write(dashes)
			return err
		}},
		{name: "sends nothing", send: func(context.Context, net.Conn) error { return nil }},
		{name: "leaves its head unfinished", send: func(_ context.Context, c net.Conn) error {
			_, err := io.WriteString(c, "POST /submit HTTP/1.1\r\nHost: x\r\n"+strings.Repeat("a:b\r\n", 50))
			return err
		}},
		{name: "stays idle", send: func(_ context.Context, c net.Conn) error {
			_, err := io.WriteString(c, "GET /__lbheartbeat__ HTTP/1.1\r\nHost: x\r\n\r\n")
			return err
		}},
	}
}

// gzipBomb is a body of so many bytes that are all the same.
func gzipBomb(t *testing.T, size int) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := io.CopyN(z, zeros{}, int64(size)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// run keeps n attackers connected until ctx ends.
func (a *attack) run(ctx context.Context, addr string, n int) {
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			for ctx.Err() == nil {
				a.once(ctx, addr)
				rest(ctx, 50*time.Millisecond)
			}
		})
	}
	all.Wait()
}

func (a *attack) once(ctx context.Context, addr string) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if a.send(ctx, conn) == nil {
		_, _ = io.Copy(io.Discard, conn)
	}
}

// Honest clients are served during attacks by cheap requests, with few connections and
// little room, and intake stays within its memory.
func TestHonestClientsDuringAttacks(t *testing.T) {
	s := startSystem(t, "INTAKE_MAX_CONNECTIONS="+strconv.Itoa(connections), "INTAKE_MEMORY_BUDGET=32MiB", "INTAKE_SPOOL_BUDGET=64MiB")
	addr := strings.TrimPrefix(s.url, "http://")
	book := newLedger()
	many := int(number(t, "E2E_ATTACKERS", attackers))
	for _, a := range attacks(t) {
		n := cmp.Or(a.n, many)
		t.Run(strings.ReplaceAll(a.name, " ", "_"), func(t *testing.T) {
			ctx, end := context.WithTimeout(t.Context(), attackLasts)
			defer end()
			var attack sync.WaitGroup
			attack.Go(func() { a.run(ctx, addr, n) })
			took := s.honest(ctx, t, book)
			attack.Wait()
			slices.Sort(took)
			t.Logf("%d honest posts, p50 %v, p99 %v", len(took), took[len(took)/2], took[len(took)*99/100])
		})
	}
	book.audit(t, s.bucket, time.Minute)
	peak := peakRSS(t, s.intake.cmd.Process.Pid)
	t.Logf("intake's peak RSS is %d MiB", peak>>20)
	if peak > 320<<20 {
		t.Errorf("intake's peak RSS is %d MiB, want at most 320", peak>>20)
	}
}

// honest posts reports of 2 kB, 400 kB and 3 MB until ctx ends, and returns how long each
// took that was promised.
func (s *system) honest(ctx context.Context, t *testing.T, book *ledger) (took []time.Duration) {
	t.Helper()
	var mu sync.Mutex
	var refused []string
	var all sync.WaitGroup
	for i, size := range []int{2_000, 400_000, 3_000_000} {
		all.Go(func() {
			c := newClient(s.url, uint64(time.Now().UnixNano()), i)
			for n := 0; ctx.Err() == nil || n == 0; n++ {
				dump := c.bytes(size)
				began := time.Now()
				id, err := c.post(context.WithoutCancel(ctx), dump) // the last ones are in progress when it ends
				mu.Lock()
				if err == nil {
					took = append(took, time.Since(began).Round(time.Millisecond))
					book.enter(id, dump)
				} else {
					refused = append(refused, strconv.Itoa(size)+" bytes: "+err.Error())
				}
				mu.Unlock()
				rest(ctx, 50*time.Millisecond)
			}
		})
	}
	all.Wait()
	if share := float64(len(took)) / float64(len(took)+len(refused)); share < honestShare {
		t.Errorf("%.1f %% of %d honest posts were promised: %q", 100*share, len(took)+len(refused), refused)
	}
	if len(took) == 0 {
		t.Fatal("no honest post was promised")
	}
	return took
}
