package intake

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/rs/zerolog"

	"github.com/yagi-crash/yagi/intake/internal/throttle"
	"github.com/yagi-crash/yagi/pkg/crash"
)

const (
	// retryAfter is what a client that is answered 503 is asked to wait,
	// seconds.
	retryAfter = "60"
	// replyTimeout is how long a client may take to read a reply.
	replyTimeout = 10 * time.Second
	// After a refusal that came before the body's end, this much more is read,
	// for no longer than this: a client that is still sending when the
	// connection closes would never see the reply.
	lingerBytes = 32 << 20
	lingerTime  = 2 * time.Second
)

// submit answers POST /submit: it is where a report's outcome becomes a status,
// a line in the log and a count.
type submit struct {
	receiver receiver
	pace     pace
	metrics  *metrics
	log      zerolog.Logger
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
	start := time.Now()
	s.metrics.requests.Inc()
	defer s.metrics.requests.Dec()
	answered := false
	defer func() {
		if !answered { // it panicked, which the handler around this one answers
			s.metrics.reports.WithLabelValues(resultRefused, string(crash.ReasonInternal)).Inc()
		}
	}()
	control := http.NewResponseController(w)
	body := s.pace.body(r.Body, control, s.metrics.bytes)
	paced := r.WithContext(r.Context()) // net/http needs its own body back in r
	paced.Body = body

	report, ruling, err := s.receiver.receive(paced)
	a := replyTo(report, ruling, err)
	took := time.Since(start)
	s.count(a, body.read, took)
	answered = true
	send(w, r, control, a)
	body.leave(a.status, r)
	s.tell(report, a, err, body.read, took)
}

func (s *submit) count(a reply, size int64, took time.Duration) {
	s.metrics.reports.WithLabelValues(a.result, string(a.reason)).Inc()
	s.metrics.seconds.WithLabelValues(a.result).Observe(took.Seconds())
	if a.result == resultQueued {
		s.metrics.size.Observe(float64(size))
	}
}

// replyTo says what a report's outcome is answered with.
func replyTo(report *crash.Report, ruling throttle.Ruling, err error) reply {
	var refusal *crash.Refusal
	switch {
	case errors.As(err, &refusal):
		return reply{refusal.Status, "Discarded=" + string(refusal.Reason), resultRefused, refusal.Reason}
	case err != nil:
		return reply{http.StatusInternalServerError, "", resultRefused, crash.ReasonInternal}
	case ruling.Outcome == crash.Reject:
		return reply{http.StatusOK, "Discarded=rule_" + ruling.Rule, resultRejected, ""}
	}
	result := resultQueued
	if ruling.Outcome == crash.FakeAccept {
		result = resultFaked
	}
	return reply{http.StatusOK, "CrashID=bp-" + string(report.ID) + "\n", result, ""}
}

// send writes the reply. Lines end in LF and the length is always announced,
// because clients depend on both. A connection whose request was not read to
// its end, or was chunked, is closed: what follows on it might be taken for a
// request (a proxy and Go may differ on where such a body ends).
func send(w http.ResponseWriter, r *http.Request, control *http.ResponseController, a reply) {
	h := w.Header()
	h.Set("Content-Type", "text/plain")
	h.Set("Content-Length", strconv.Itoa(len(a.body)))
	if a.status >= 400 || r.ContentLength < 0 {
		h.Set("Connection", "close")
	}
	if a.status == http.StatusServiceUnavailable {
		h.Set("Retry-After", retryAfter)
	}
	// Neither can fail on a connection of net/http's; a client that is gone
	// shows as an error of the write, which nobody is left to hear of.
	_ = control.SetWriteDeadline(time.Now().Add(replyTimeout))
	w.WriteHeader(a.status)
	_, _ = io.WriteString(w, a.body)
	_ = control.Flush()
}

// tell writes the report's one event. It never holds what a client sent beside
// sizes, and never a client's address.
func (s *submit) tell(report *crash.Report, a reply, err error, size int64, took time.Duration) {
	level := zerolog.InfoLevel
	if a.status >= http.StatusInternalServerError {
		level = zerolog.ErrorLevel
	}
	if report == nil {
		report = &crash.Report{}
	}
	s.log.WithLevel(level).Err(err).
		Str("crash_id", string(report.ID)).
		Str("rule", report.Metadata.ThrottleRule).
		Int("dumps", len(report.Dumps)).
		Int("annotations", len(report.Annotations)).
		Str("result", a.result).
		Int("status", a.status).
		Int64("body_bytes", size).
		Dur("took_ms", took).
		Msg("report")
}
