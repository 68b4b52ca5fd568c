package main

import (
	"os"
	"runtime/debug"
)

// gcPercent is how much garbage may lie beside what is in use. Go's own 100 makes
// ten thousand slow clients cost half as much again (make crowd).
const gcPercent = 50

// boundHeap has the garbage collector keep the process within a limit, in bytes.
// Who sets Go's own variables is left alone.
func boundHeap(limit int64) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(limit)
	}
}
