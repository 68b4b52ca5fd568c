package intake

import "github.com/yagi-crash/yagi/intake/internal/breakpad"

const (
	// parsersPerCore is how many reports of any size are parsed at a time, per core:
	// enough to have work while some of them wait for the disk.
	parsersPerCore = 2
	// smallWork is the largest work of a small report, in bytes to read.
	smallWork = 8 << 20
)

// parsers holds the windows to parse with, of breakpad.WindowSize bytes each, and so
// bounds how many reports are parsed at a time. A third of them is for small reports
// only, so that expensive reports do not delay them.
type parsers struct{ any, small chan []byte }

func newParsers(cores int) parsers {
	p := parsers{make(chan []byte, parsersPerCore*cores), make(chan []byte, cores)}
	for _, windows := range []chan []byte{p.any, p.small} {
		for range cap(windows) {
			windows <- make([]byte, breakpad.WindowSize)
		}
	}
	return p
}

// acquire waits for a window for a report of so much work, in bytes. The wait is
// bounded by the time that parsing takes. release must be called once.
func (p parsers) acquire(work int64) (window []byte, release func()) {
	small := p.small
	if work > smallWork {
		small = nil // never ready
	}
	select {
	case window = <-p.any:
		return window, func() { p.any <- window }
	case window = <-small:
		return window, func() { p.small <- window }
	}
}
