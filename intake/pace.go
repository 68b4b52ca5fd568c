package intake

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/yagi-crash/yagi/intake/internal/transport"
	"github.com/yagi-crash/yagi/pkg/crash"
)

// rateWindow is the time over which a body's rate is measured: clients on bad
// networks pause.
const rateWindow = 30 * time.Second

// pace is how slowly a body may come. There is no limit on its whole time.
type pace struct {
	stall   time.Duration // longest time without a byte
	minRate int64         // bytes a second, over window
	window  time.Duration
}

// pacedBody reads a request's body and gives up on a client that stalls.
type pacedBody struct {
	io.ReadCloser
	pace  pace
	conn  deadliner
	count prometheus.Counter
	told  bool // the client need not ask whether to send it
	ended bool // read to its end

	read   atomic.Int64 // bytes
	asked  atomic.Int64 // when the read in progress began, Unix nanoseconds; 0: no read is
	before atomic.Int64 // nanoseconds in earlier reads

	mu          sync.Mutex // of the read deadline, while the body is read
	interrupted bool
	whole       bool // read to its end, guarded by mu

	waited     time.Duration // for the client, in this window
	windowRead int64
}

// deadliner is a connection, or what net/http lets of one be seen.
type deadliner interface{ SetReadDeadline(time.Time) error }

func (p pace) body(src io.ReadCloser, conn deadliner, count prometheus.Counter) *pacedBody {
	return &pacedBody{ReadCloser: src, pace: p, conn: conn, count: count, ended: src == http.NoBody}
}

// Read implements io.Reader. Its errors are io.EOF, a refusal with status 408,
// or the cause without the client's address, which net's errors carry.
func (b *pacedBody) Read(p []byte) (int, error) {
	start := time.Now()
	if err := b.expect(start.Add(b.pace.stall)); err != nil {
		return 0, err
	}
	b.asked.Store(start.UnixNano())
	n, err := b.ReadCloser.Read(p)
	took := time.Since(start)
	b.read.Add(int64(n))
	b.asked.Store(0)
	b.before.Add(int64(took))
	b.waited += took
	b.count.Add(float64(n))
	var network net.Error
	switch {
	case err == nil:
		return n, b.tooSlow(n)
	case errors.Is(err, io.EOF):
		b.ended = true
		b.mu.Lock()
		defer b.mu.Unlock()
		b.whole = true
		return n, io.EOF // itself: readers compare with ==
	case errors.As(err, &network) && network.Timeout():
		return n, refuseSlow(errors.New("body stalled"))
	}
	return n, brokenOff(err)
}

// begin waits for the body's first bytes. A client that asks first is told to send them if
// there seems to be room; otherwise Read tells it, once there is. Its errors are refusals.
func (b *pacedBody) begin(r *http.Request, room func() bool) error {
	asks := r.ProtoAtLeast(1, 1) && r.Header.Get("Expect") != ""
	if asks && !room() {
		return nil
	}
	b.told = true
	conn := transport.Of(r.Context())
	if asks {
		conn.Continue()
	}
	err := conn.AwaitBody(r.ContentLength, time.Now().Add(b.pace.stall))
	switch {
	case errors.Is(err, transport.ErrEvicted):
		return crash.Unavailable(err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return refuseSlow(errors.New("body did not begin"))
	case errors.Is(err, io.EOF) && r.ContentLength <= 0: // Read tells what its framing lacks
		return nil
	case err != nil:
		return crash.Malformed(crash.ReasonInvalidPayloadStructure, brokenOff(err))
	}
	return nil
}

// Progress implements arrival.
func (b *pacedBody) Progress(now time.Time) (size int64, waited time.Duration, waits bool) {
	waited = time.Duration(b.before.Load())
	asked := b.asked.Load()
	if asked != 0 {
		waited += now.Sub(time.Unix(0, asked))
	}
	return b.read.Load(), waited, asked != 0
}

// errInterrupted is the error of reads after Interrupt.
var errInterrupted = errors.New("reading the body was interrupted")

// expect sets the deadline of the next read.
func (b *pacedBody) expect(deadline time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.interrupted {
		return errInterrupted
	}
	return b.conn.SetReadDeadline(deadline)
}

// Interrupt makes the current read and all later ones fail, and returns true, unless the
// body was read to its end. It may be called from any goroutine.
func (b *pacedBody) Interrupt() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.whole {
		b.interrupted = true
		_ = b.conn.SetReadDeadline(time.Unix(1, 0)) // fails on a connection that is gone
	}
	return b.interrupted
}

// tooSlow measures the rate once a window. Only the time that was spent waiting
// for the client counts.
func (b *pacedBody) tooSlow(n int) error {
	b.windowRead += int64(n)
	if b.waited < b.pace.window {
		return nil
	}
	if float64(b.windowRead) < float64(b.pace.minRate)*b.waited.Seconds() {
		return refuseSlow(errors.New("body below the least rate"))
	}
	b.waited, b.windowRead = 0, 0
	return nil
}

// leave is for a body that was refused before its end: it is read on for a
// while, so that a client that is still sending comes to read the reply. Neither
// this nor net/http, which reads on by itself, waits longer than LingerTime.
func (b *pacedBody) leave(status int, r *http.Request) {
	if b.ended || b.conn.SetReadDeadline(time.Now().Add(transport.LingerTime)) != nil {
		return
	}
	asks := !b.told && b.read.Load() == 0 && r.Header.Get("Expect") != "" // and sends nothing
	if status != http.StatusRequestTimeout && !asks {
		_, _ = io.CopyN(io.Discard, b.ReadCloser, transport.LingerBytes)
	}
}

func refuseSlow(cause error) *crash.Refusal {
	return &crash.Refusal{Reason: crash.ReasonTooSlow, Status: http.StatusRequestTimeout, Err: cause}
}

// brokenOff says why a body has no more, in words of ours: net's errors hold the
// client's address, and those of net/http what the client sent.
func brokenOff(err error) error {
	if refusal, ok := errors.AsType[*crash.Refusal](err); ok {
		return refusal
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return errors.New("body is not framed as HTTP has it")
}
