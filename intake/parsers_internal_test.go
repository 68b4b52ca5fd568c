package intake

import (
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/yagi-crash/yagi/intake/internal/breakpad"
)

// Small reports are parsed while large ones use every other window.
func TestSmallReportsAreParsedBesideLargeOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParsers(2)
		for range 4 {
			p.acquire(smallWork + 1)
		}
		var late atomic.Bool
		go func() {
			_, done := p.acquire(smallWork + 1)
			late.Store(true)
			done()
		}()
		for range 10 {
			window, done := p.acquire(smallWork)
			if len(window) != breakpad.WindowSize {
				t.Errorf("a window of %d bytes", len(window))
			}
			done()
		}
		if synctest.Wait(); late.Load() {
			t.Error("five large reports are parsed at a time")
		}
		p.any <- make([]byte, breakpad.WindowSize)
		if synctest.Wait(); !late.Load() {
			t.Error("a large report waits although there is a window")
		}
	})
}
