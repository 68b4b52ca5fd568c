package main

import (
	"os"
	"runtime/debug"

	"github.com/yagi-crash/yagi/pkg/settings"
)

const (
	// gcPercent is how much garbage may lie beside what is in use. Go's own 100
	// makes ten thousand slow clients cost half as much again (make crowd).
	gcPercent = 75
	// leastHeap is what connections and publishing need with a small budget.
	leastHeap settings.Bytes = 256 << 20
)

// boundHeap has the garbage collector keep the process within three times the
// budget for reports, which is three quarters of the machine when it is not set.
// Who sets Go's own variables is left alone.
func boundHeap(budget settings.Bytes) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(int64(max(3*budget, leastHeap)))
	}
}
