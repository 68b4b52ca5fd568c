//go:build faults && soak

package e2e

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/queue"
)

// fault is something that happens to the system while clients post.
type fault struct {
	name string
	play func(context.Context, *rand.Rand)
}

// playFaults plays one fault after another, each once in a round and in an order by
// chance, until ctx ends. Every one hits a system that is at work again.
func (m *million) playFaults(ctx context.Context, random *rand.Rand) {
	faults := []fault{
		{"intake killed", func(ctx context.Context, r *rand.Rand) { strike(ctx, m.intake, r) }},
		{"uploader killed", func(ctx context.Context, r *rand.Rand) { strike(ctx, m.uploader, r) }},
		{"leader killed", m.killServer(true)},
		{"server killed", m.killServer(false)},
		{"server frozen", m.freezeServer},
		{"bucket unavailable", m.closeBucket},
	}
	for ctx.Err() == nil {
		for _, i := range random.Perm(len(faults)) {
			rest(ctx, m.quiet/2+time.Duration(random.Int64N(int64(m.quiet))))
			if m.awaitWork(ctx) != nil {
				return
			}
			m.note(faults[i].name)
			faults[i].play(ctx, random)
		}
	}
}

// awaitWork returns once another report was promised, and every server has what the
// leader has: else two faults would come together, and nothing be promised for long.
func (m *million) awaitWork(ctx context.Context) error {
	before := m.book.count().promised
	for ctx.Err() == nil {
		if m.book.count().promised > before && m.caughtUp(ctx) == nil {
			return nil
		}
		rest(ctx, 200*time.Millisecond)
	}
	return ctx.Err()
}

func (m *million) caughtUp(ctx context.Context) error {
	for p := range millionPartitions {
		info, err := m.streamInfo(ctx, p)
		if err != nil {
			return err
		}
		if info.Cluster == nil { // one server
			continue
		}
		for _, r := range info.Cluster.Replicas {
			if r.Offline || !r.Current {
				return errNotCaughtUp
			}
		}
	}
	return nil
}

func (m *million) streamInfo(ctx context.Context, p int) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	s, err := m.js.Stream(ctx, queue.StreamName(p))
	if err != nil {
		return nil, err
	}
	return s.CachedInfo(), nil
}

// strike kills a process and starts it again.
func strike(ctx context.Context, p *process, random *rand.Rand) {
	p.kill()
	rest(ctx, time.Duration(random.Int64N(int64(time.Second))))
	p.start() //nolint:contextcheck // it runs on when ctx ends
}

// killServer kills the leader of a partition, or another server.
func (m *million) killServer(leads bool) func(context.Context, *rand.Rand) {
	return func(ctx context.Context, random *rand.Rand) {
		if p := m.server(ctx, random, leads); p != nil {
			strike(ctx, p, random)
		}
	}
}

// freezeServer has a server say nothing for a while, as if its line were cut.
func (m *million) freezeServer(ctx context.Context, random *rand.Rand) {
	p := m.server(ctx, random, random.IntN(2) == 0)
	if p == nil {
		return
	}
	p.signal(syscall.SIGSTOP)
	defer p.signal(syscall.SIGCONT)
	rest(ctx, 3*time.Second+time.Duration(random.Int64N(int64(9*time.Second))))
}

// server picks one that leads a partition, or that does not lead this one; the only
// one, if there is one; nil without a leader.
func (m *million) server(ctx context.Context, random *rand.Rand, leads bool) *process {
	names := slices.Sorted(maps.Keys(m.servers))
	if len(names) == 1 {
		return m.servers[names[0]]
	}
	info, err := m.streamInfo(ctx, random.IntN(millionPartitions))
	if err != nil || info.Cluster == nil {
		return nil
	}
	if leads {
		return m.servers[info.Cluster.Leader]
	}
	names = slices.DeleteFunc(names, func(n string) bool { return n == info.Cluster.Leader })
	return m.servers[names[random.IntN(len(names))]]
}

// closeBucket has the bucket answer nothing, or 503, for a while.
func (m *million) closeBucket(ctx context.Context, random *rand.Rand) {
	m.front.mode.Store(int32(1 + random.IntN(2)))
	defer m.front.mode.Store(frontOpen)
	rest(ctx, 5*time.Second+time.Duration(random.Int64N(int64(10*time.Second))))
}

func (m *million) note(name string) {
	m.book.mu.Lock()
	defer m.book.mu.Unlock()
	m.faults[name]++
}

func (m *million) played() string {
	m.book.mu.Lock()
	defer m.book.mu.Unlock()
	return fmt.Sprint(m.faults)
}

// Modes of a front.
const (
	frontOpen int32 = iota
	frontCut        // closes connections without an answer
	frontBusy       // answers 503 SlowDown
)

// refusedOne of so many reports is refused for good.
const refusedOne = 5000

// front stands before the bucket.
type front struct {
	server *httptest.Server
	proxy  *httputil.ReverseProxy
	mode   atomic.Int32

	mu      sync.Mutex
	refused map[crash.ID]bool
}

func newFront(t *testing.T) *front {
	t.Helper()
	target, err := url.Parse(suite.s3.Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	f := &front{refused: map[crash.ID]bool{}}
	f.proxy = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // the signature covers it
		},
		Transport:    &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	f.server = httptest.NewServer(f)
	t.Cleanup(f.server.Close)
	return f
}

func (f *front) url() string { return f.server.URL }

func (f *front) refusedReports() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.refused)
}

func (f *front) hasRefused(id crash.ID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.refused[id]
}

// ServeHTTP refuses a report by its id, so that it is refused each time.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch f.mode.Load() {
	case frontCut:
		panic(http.ErrAbortHandler)
	case frontBusy:
		refuse(w, http.StatusServiceUnavailable, "SlowDown")
		return
	}
	id, err := crash.ParseID(path.Base(r.URL.Path))
	key := keyOf(id)
	if err != nil || r.Method != http.MethodPut || binary.BigEndian.Uint32(key[:4])%refusedOne != 0 {
		f.proxy.ServeHTTP(w, r)
		return
	}
	f.mu.Lock()
	f.refused[id] = true
	f.mu.Unlock()
	refuse(w, http.StatusBadRequest, "InvalidArgument")
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("Connection", "close") // the body was not read
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code></Error>", code)
}

// words is bytes, made eight at a time: the test shares the processors.
func (c *client) words(size int) []byte {
	d := make([]byte, 0, size+8)
	for len(d) < size {
		d = binary.LittleEndian.AppendUint64(d, c.random.Uint64())
	}
	return d[:size]
}

var errNotCaughtUp = errors.New("a replica is behind")
