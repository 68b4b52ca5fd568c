package trim

import (
	"slices"
	"time"

	"github.com/yagi-crash/yagi/pkg/queue"
)

// sample is how far the stream reached when it was asked.
type sample struct {
	asked, answered time.Time
	last            uint64
}

// history remembers, by the uploader's own clock, how far a stream reached when.
// Messages carry a time too, but it is the server's clock, which may be set back
// or forward at any moment, and then says nothing about the order of things.
type history struct {
	created time.Time // of the stream; another one begins its sequences anew
	samples []sample  // in order of time, and so of last
}

const (
	// samplesKept bounds the memory of one stream, 56 bytes a sample: it is a day
	// and a half of them at one every 15 s. Beyond it every second sample goes, so
	// that what is long ago is known in less detail.
	samplesKept = 8192
	// alwaysKept is how long a sample is kept in any case.
	alwaysKept = 2 * (queue.ReadyDeadline + Staleness)
)

// add takes note of what a view says.
func (h *history) add(v View) {
	if n := len(h.samples); !v.Created.Equal(h.created) || n > 0 && v.Last < h.samples[n-1].last {
		*h = history{created: v.Created}
	}
	// Samples of what is gone already are of no use, but for the newest.
	gone := h.count(func(s sample) bool { return s.last < v.First && v.Asked.Sub(s.answered) > alwaysKept })
	h.samples = slices.Delete(h.samples, 0, max(0, gone-1))
	if len(h.samples) == samplesKept {
		odd := false
		h.samples = slices.DeleteFunc(h.samples, func(sample) bool { odd = !odd; return !odd })
	}
	h.samples = append(h.samples, sample{v.Asked, v.Answered, v.Last})
}

// bound returns the highest sequence of which it is certain that nobody needs a
// message up to it, when no report is waited for up to floor, but for those that
// were stored within Staleness. It returns 0 for none.
//
// Say the stream reached i at one moment, and j when ReadyDeadline and Staleness
// had passed since. A report with a chunk up to i has its ready message up to j,
// or none that was promised. With j up to the floor, it is done with.
func (h *history) bound(floor uint64) uint64 {
	j := h.count(func(s sample) bool { return s.last <= floor }) - 1
	if j < 0 {
		return 0
	}
	before := h.samples[j].asked.Add(-queue.ReadyDeadline - Staleness)
	i := h.count(func(s sample) bool { return !s.answered.After(before) }) - 1
	if i < 0 {
		return 0
	}
	return h.samples[i].last
}

// count returns how many samples from the first on have a property that earlier
// ones have whenever later ones do.
func (h *history) count(has func(sample) bool) int {
	n, _ := slices.BinarySearchFunc(h.samples, true, func(s sample, _ bool) int {
		if has(s) {
			return -1
		}
		return 1
	})
	return n
}

// perSecond returns how many messages a second came, over the time up to the
// newest sample that over reaches back, or less when the history is younger.
// ok is false when there is no telling yet.
func (h *history) perSecond(over time.Duration) (rate float64, ok bool) {
	if len(h.samples) < 2 {
		return 0, false
	}
	end := h.samples[len(h.samples)-1]
	since := end.answered.Add(-over)
	start := h.samples[min(h.count(func(s sample) bool { return s.answered.Before(since) }), len(h.samples)-2)]
	return float64(end.last-start.last) / end.answered.Sub(start.answered).Seconds(), true
}
