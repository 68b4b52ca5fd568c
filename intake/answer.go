package intake

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/yagi-crash/yagi/intake/internal/transport"
	"github.com/yagi-crash/yagi/pkg/crash"
)

// retryAfter is what a client that is answered 503 is asked to wait, seconds.
const retryAfter = "60"

// submit answers the post of a report: it is where a report's outcome becomes a status,
// a line in the log and a count.
type submit struct {
	receiver receiver
	pace     pace
	metrics  *metrics
	log      zerolog.Logger
	draining *atomic.Bool // connections are closed after their answer
}

// reply is what a client gets.
type reply struct {
	status int
	body   string
	result string // for the metrics
	reason crash.Reason
}

// ServeHTTP implements http.Handler.
func (s *submit) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if hasHiddenBody(r) {
		s.serveHidden(w, r)
		return
	}
	control := http.NewResponseController(w)
	s.answer(r, control, func(a reply) { s.send(w, r, control, a) })
}

// answer has the report received, replies, and says what came of it.
func (s *submit) answer(r *http.Request, conn deadliner, send func(reply)) {
	start := time.Now()
	s.metrics.requests.Inc()
	defer s.metrics.requests.Dec()
	answered := false
	defer func() {
		if !answered { // it panicked, which the handler around this one answers
			s.metrics.reports.WithLabelValues(resultRefused, string(crash.ReasonInternal)).Inc()
		}
	}()
	body := s.pace.body(r.Body, conn, s.metrics.bytes)
	verdict, err := s.receiver.receive(r, body)
	a := replyTo(verdict, err)
	took := time.Since(start)
	s.count(a, body.read.Load(), took)
	answered = true
	send(a)
	transport.Of(r.Context()).Answered()
	body.leave(a.status, r)
	s.tell(verdict, a, err, body.read.Load(), took)
}

func (s *submit) count(a reply, size int64, took time.Duration) {
	s.metrics.reports.WithLabelValues(a.result, string(a.reason)).Inc()
	s.metrics.seconds.WithLabelValues(a.result).Observe(took.Seconds())
	if a.result == resultQueued {
		s.metrics.size.Observe(float64(size))
	}
}

// replyTo says what a report's outcome is answered with.
func replyTo(v verdict, err error) reply {
	var refusal *crash.Refusal
	switch {
	case errors.As(err, &refusal):
		return reply{refusal.Status, "Discarded=" + string(refusal.Reason), resultRefused, refusal.Reason}
	case err != nil:
		return reply{http.StatusInternalServerError, "", resultRefused, crash.ReasonInternal}
	case v.ruling.Outcome == crash.Reject:
		return reply{http.StatusOK, "Discarded=rule_" + v.ruling.Rule, resultRejected, ""}
	}
	result := resultQueued
	if v.ruling.Outcome == crash.FakeAccept {
		result = resultFaked
	}
	return reply{http.StatusOK, "CrashID=bp-" + string(v.id) + "\n", result, ""}
}

// send writes the reply. Lines end in LF and the length is always announced,
// because clients depend on both. A connection whose request was not read to
// its end, or was chunked, is closed: what follows on it might be taken for a
// request (a proxy and Go may differ on where such a body ends).
func (s *submit) send(w http.ResponseWriter, r *http.Request, control *http.ResponseController, a reply) {
	h := w.Header()
	h.Set("Content-Type", "text/plain")
	h.Set("Content-Length", strconv.Itoa(len(a.body)))
	if a.status >= 400 || r.ContentLength < 0 || s.draining.Load() {
		h.Set("Connection", "close")
	}
	if a.status == http.StatusServiceUnavailable {
		h.Set("Retry-After", retryAfter)
	}
	// A client that is gone shows as an error of the write, which nobody is left
	// to hear of.
	w.WriteHeader(a.status)
	_, _ = io.WriteString(w, a.body)
	_ = control.Flush()
}

// tell writes the report's one event. It never holds what a client sent beside
// sizes, and never a client's address.
func (s *submit) tell(v verdict, a reply, err error, size int64, took time.Duration) {
	level := zerolog.InfoLevel
	if a.status >= http.StatusInternalServerError && !errors.Is(err, transport.ErrEvicted) { // who sent nothing
		level = zerolog.ErrorLevel
	}
	s.log.WithLevel(level).Err(err).
		Str("crash_id", string(v.id)).
		Str("rule", v.ruling.Rule).
		Int("dumps", v.dumps).
		Int("annotations", v.annotations).
		Str("result", a.result).
		Int("status", a.status).
		Int64("body_bytes", size).
		Dur("took_ms", took).
		Msg("report")
}
