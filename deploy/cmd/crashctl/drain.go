package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/yagi-crash/yagi/deploy/internal/queuestatus"
)

const (
	// drainWindow is the time over which the drain of a backlog is measured. It
	// has room for a few looks, and a drain that stops is seen to have stopped
	// once the window has passed.
	drainWindow = 30 * time.Second
	// barWidth is the width of the bar in letters.
	barWidth = 24
)

// drain is how the backlog goes.
type drain struct {
	// PeakDepth is the largest depth since the watch began.
	PeakDepth uint64 `json:"peak_depth"`
	// PerSecond is by how much the depth falls, below 0 when it rises; null when
	// there is nothing yet to compare it with.
	PerSecond *float64 `json:"per_second"`
	// ETASeconds is how long it takes to be gone at that rate; null when it is
	// not draining.
	ETASeconds *queuestatus.Seconds `json:"eta_seconds"`

	depth uint64
}

// tracker remembers the depths of the last looks.
type tracker struct {
	peak  uint64
	looks []depthAt // within the window, oldest first
}

type depthAt struct {
	at    time.Time
	depth uint64
}

// restart forgets the depths: what comes next does not continue them. A consumer
// may have been made anew, and then the depth has leapt.
func (t *tracker) restart() { t.looks = nil }

// see returns how the backlog goes; nil when there is none.
func (t *tracker) see(at time.Time, depth uint64) *drain {
	t.peak = max(t.peak, depth)
	t.looks = append(t.looks, depthAt{at, depth})
	// The window always has two looks, however far apart they are.
	for len(t.looks) > 2 && at.Sub(t.looks[1].at) >= drainWindow {
		t.looks = t.looks[1:]
	}
	if depth == 0 {
		return nil
	}
	d := &drain{PeakDepth: t.peak, depth: depth}
	first := t.from()
	if took := at.Sub(first.at).Seconds(); took > 0 {
		d.PerSecond = new((float64(first.depth) - float64(depth)) / took)
		if *d.PerSecond > 0 {
			d.ETASeconds = new(queuestatus.Seconds(float64(depth) / *d.PerSecond))
		}
	}
	return d
}

// from is the look that the drain is measured from: the last peak in the window, since
// a backlog that has begun to fall goes as fast as that; or the first look while it
// rises.
func (t *tracker) from() depthAt {
	peak := 0
	for i, look := range t.looks {
		if look.depth >= t.looks[peak].depth {
			peak = i
		}
	}
	if peak == len(t.looks)-1 {
		peak = 0
	}
	return t.looks[peak]
}

// String is a bar of what is done since the peak, and when the rest will be.
func (d *drain) String() string {
	done := 1 - float64(d.depth)/float64(d.PeakDepth)
	full := int(done * barWidth)
	bar := strings.Repeat("#", full) + strings.Repeat(".", barWidth-full)
	return fmt.Sprintf("[%s] %.0f%%, %s of %s left, %s", bar, 100*done, comma(d.depth), comma(d.PeakDepth), d.outlook())
}

func (d *drain) outlook() string {
	switch {
	case d.PerSecond == nil:
		return "its rate is not known yet"
	case d.ETASeconds == nil:
		return "not draining"
	default:
		return fmt.Sprintf("gone in about %s", d.ETASeconds)
	}
}
