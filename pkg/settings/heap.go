package settings

import (
	"os"
	"runtime/debug"
)

// BoundHeap has the garbage collector keep the process within a limit, in bytes, and
// let percent of what is in use lie beside it as garbage. Whoever sets Go's own
// variables, GOMEMLIMIT and GOGC, is left alone.
func BoundHeap(limit int64, percent int) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(limit)
	}
}
