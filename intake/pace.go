package intake

import (
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/yagi-crash/yagi/pkg/crash"
)

// rateWindow is the time over which a body's rate is measured: clients on bad
// networks pause.
const rateWindow = 30 * time.Second

// pace is how slowly a body may come. There is no limit on its whole time.
type pace struct {
	stall   time.Duration // longest time without a byte
	minRate int64         // bytes a second, over rateWindow
}

// pacedBody reads a request's body and gives up on a client that stalls.
type pacedBody struct {
	io.ReadCloser
	pace    pace
	control *http.ResponseController
	count   prometheus.Counter
	read    int64
	ended   bool // read to its end

	windowStart time.Time
	windowRead  int64
}

func (p pace) body(src io.ReadCloser, control *http.ResponseController, count prometheus.Counter) *pacedBody {
	return &pacedBody{ReadCloser: src, pace: p, control: control, count: count, windowStart: time.Now(), ended: src == http.NoBody}
}

// Read implements io.Reader. Its errors are io.EOF, a refusal with status 408,
// or the cause without the client's address, which net's errors carry.
func (b *pacedBody) Read(p []byte) (int, error) {
	if err := b.control.SetReadDeadline(time.Now().Add(b.pace.stall)); err != nil {
		return 0, err
	}
	n, err := b.ReadCloser.Read(p)
	b.read += int64(n)
	b.count.Add(float64(n))
	var network net.Error
	switch {
	case err == nil:
		return n, b.tooSlow(n)
	case errors.Is(err, io.EOF):
		b.ended = true
		// The server goes on watching the connection, and would take the
		// deadline for the client's end.
		if err := b.control.SetReadDeadline(time.Time{}); err != nil {
			return n, err
		}
		return n, io.EOF // itself: readers compare with ==
	case errors.As(err, &network) && network.Timeout():
		return n, refuseSlow(errors.New("body stalled"))
	}
	return n, withoutAddress(err)
}

// tooSlow measures the rate once a window.
func (b *pacedBody) tooSlow(n int) error {
	b.windowRead += int64(n)
	elapsed := time.Since(b.windowStart)
	if elapsed < rateWindow {
		return nil
	}
	if b.windowRead < b.pace.minRate*int64(elapsed/time.Second) {
		return refuseSlow(errors.New("body below the least rate"))
	}
	b.windowStart, b.windowRead = time.Now(), 0
	return nil
}

// linger reads on for a while, so that the client comes to read the reply.
func (b *pacedBody) linger() {
	if b.control.SetReadDeadline(time.Now().Add(lingerTime)) == nil {
		_, _ = io.CopyN(io.Discard, b.ReadCloser, lingerBytes)
	}
}

func refuseSlow(cause error) *crash.Refusal {
	return &crash.Refusal{Reason: crash.ReasonTooSlow, Status: http.StatusRequestTimeout, Err: cause}
}

func withoutAddress(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}
