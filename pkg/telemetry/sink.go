package telemetry

import (
	"io"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/rs/zerolog/diode"
)

const (
	// sinkLines is how many lines wait while nobody reads the log; then the oldest
	// go. One has some 500 bytes.
	sinkLines = 4096
	// sinkPatience is how long the last lines may take to be read at the end.
	sinkPatience = time.Second
)

// Sink is the end of a log that holds nobody up: while its reader does not read, or
// is gone, lines are dropped and counted, and the program goes on.
type Sink struct {
	out     io.Writer
	lines   diode.Writer
	dropped atomic.Uint64
}

// OpenLog returns a logger as NewLogger does, whose lines go to out by way of a sink,
// which the caller has to Close. From then on the process does not end when the
// reader of its output does (SIGPIPE).
func OpenLog(cfg Config, out io.Writer) (zerolog.Logger, *Sink) {
	signal.Ignore(syscall.SIGPIPE)
	s := &Sink{out: out}
	s.lines = diode.NewWriter(sinkEnd{sink: s}, sinkLines, 0, func(missed int) { s.dropped.Add(uint64(missed)) })
	return newLogger(cfg, s.lines, out), s
}

// Close returns once the last lines are read, or after a second. Later ones are lost.
func (s *Sink) Close() {
	closed := make(chan struct{})
	go func() { // ends when somebody reads, or with the process
		defer close(closed)
		_ = s.lines.Close() // never fails
	}()
	select {
	case <-closed:
	case <-time.After(sinkPatience):
	}
}

// Register adds the metric log_lines_dropped_total.
func (s *Sink) Register(registry prometheus.Registerer) {
	registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "log_lines_dropped_total", Help: "Lines of the log that nobody read in time.",
	}, func() float64 { return float64(s.dropped.Load()) }))
}

// sinkEnd counts what cannot be written. It is no io.Closer: the output is not the
// sink's to close.
type sinkEnd struct{ sink *Sink }

// Write implements io.Writer.
func (e sinkEnd) Write(p []byte) (int, error) {
	n, err := e.sink.out.Write(p)
	if err != nil {
		e.sink.dropped.Add(1)
	}
	return n, err
}
