package telemetry

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/yagi-crash/yagi/pkg/visible"
)

const (
	// sinkBytes is how much of the log is kept while nobody reads it; then the oldest
	// lines go. A line has some 500 bytes.
	sinkBytes = 4 << 20
	// sinkPatience is how long the last lines may take to be written at the end.
	sinkPatience = time.Second
)

// Sink is the end of a log that holds nobody up: while its reader does not read, or
// is gone, lines are dropped and counted, and the program goes on. (Zerolog's diode
// drops all that waits when it is full, and counts it only once somebody reads.)
type Sink struct {
	out  io.Writer
	done chan struct{} // closed when the last line is written

	mu      sync.Mutex
	changed *sync.Cond
	lines   [][]byte // that wait, the oldest first
	size    int      // of lines, bytes
	closed  bool
	dropped uint64
}

// OpenLog returns a logger as NewLogger does, whose lines go to out by way of a sink,
// which the caller has to Close. A program whose output is a pipe ends all the same
// when its reader does, unless it ignores SIGPIPE.
func OpenLog(cfg Config, out io.Writer) (zerolog.Logger, *Sink) {
	s := &Sink{out: out, done: make(chan struct{})}
	s.changed = sync.NewCond(&s.mu)
	go s.pump()
	return newLogger(cfg, s, out), s
}

// Write implements io.Writer. It never waits and never fails.
func (s *Sink) Write(p []byte) (int, error) {
	line := append([]byte(nil), p...) // zerolog uses p again
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, line)
	s.size += len(line)
	for s.size > sinkBytes {
		s.pop()
		s.dropped++
	}
	s.changed.Signal()
	return len(p), nil
}

// pop takes the oldest line. The caller has the lock.
func (s *Sink) pop() []byte {
	line := s.lines[0]
	s.lines[0] = nil
	s.lines = s.lines[1:]
	s.size -= len(line)
	return line
}

// pump writes lines until the sink is closed and none is left.
func (s *Sink) pump() {
	defer close(s.done)
	for line := s.next(); line != nil; line = s.next() {
		if _, err := s.out.Write(line); err != nil {
			s.mu.Lock()
			s.dropped++
			s.mu.Unlock()
		}
	}
}

// next waits for a line; nil is the end.
func (s *Sink) next() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.lines) == 0 && !s.closed {
		s.changed.Wait()
	}
	if len(s.lines) == 0 {
		return nil
	}
	return s.pop()
}

// Close returns once the last lines are written, or after a second. Later ones are
// lost.
func (s *Sink) Close() {
	s.mu.Lock()
	s.closed = true
	s.changed.Signal()
	s.mu.Unlock()
	select {
	case <-s.done:
	case <-time.After(sinkPatience):
	}
}

// Register adds the metric log_lines_dropped_total.
func (s *Sink) Register(registry prometheus.Registerer) {
	registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "log_lines_dropped_total", Help: "Lines of the log that nobody read in time, or that could not be written.",
	}, func() float64 {
		s.mu.Lock()
		defer s.mu.Unlock()
		return float64(s.dropped)
	}))
}

// LastWords prints a line, or several, for people, and does not wait for a reader who
// does not read.
func LastWords(out io.Writer, words ...any) {
	printed := make(chan struct{})
	go func() { // ends when somebody reads, or with the process
		defer close(printed)
		_, _ = fmt.Fprintln(visible.Writer(out), words...) // there is nobody else to tell
	}()
	select {
	case <-printed:
	case <-time.After(sinkPatience):
	}
}
