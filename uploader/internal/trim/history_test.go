package trim

import (
	"math"
	"testing"
	"time"

	"github.com/yagi-crash/yagi/pkg/queue"
)

// watch returns the history of a stream that grew by perMinute messages, looked
// at every minute.
func watch(minutes int, perMinute uint64) (h history, now time.Time) {
	now = time.Now()
	for range minutes {
		now = now.Add(time.Minute)
		h.add(View{Asked: now, Answered: now, Last: uint64(len(h.samples)+1) * perMinute})
	}
	return h, now
}

func TestBound(t *testing.T) {
	t.Parallel()
	span := uint64((queue.ReadyDeadline + Staleness) / time.Minute)
	h, now := watch(30, 100) // 100 after the first minute, 3000 after the last
	for floor, want := range map[uint64]uint64{
		0:                        0,
		99:                       0,
		100:                      0, // the time before the first look is unknown
		100 * span:               0,
		100 * (span + 1):         100,
		100*(span+2) - 1:         100,
		100 * (span + 2):         200,
		3000:                     3000 - 100*span,
		math.MaxUint64:           3000 - 100*span,
		100*(span+1) + 100_000_0: 3000 - 100*span,
	} {
		if got := h.bound(floor); got != want {
			t.Errorf("with floor %d the bound is %d, want %d", floor, got, want)
		}
	}

	// A stream that was made anew, or lost its end, gives its sequences to other
	// messages: what was known of them is wrong.
	for what, v := range map[string]View{
		"made anew":    {Created: now, Last: 3100},
		"lost its end": {Last: 2999},
	} {
		h, _ := watch(30, 100)
		v.Asked, v.Answered = now, now
		h.add(v)
		if got := h.bound(math.MaxUint64); got != 0 {
			t.Errorf("the stream was %s, and the bound is %d, want 0", what, got)
		}
	}
}

// However long a stream is watched, what is remembered is bounded, and serves.
func TestHistoryIsBounded(t *testing.T) {
	t.Parallel()
	const minutes, perMinute = 3 * samplesKept, 100
	span := perMinute * uint64((queue.ReadyDeadline+Staleness)/time.Minute)
	for what, first := range map[string]func(minute int) uint64{
		"nothing is trimmed": func(int) uint64 { return 1 },
		"all is trimmed":     func(minute int) uint64 { return uint64(minute) * perMinute },
	} {
		var h history
		now := time.Now()
		for i := range minutes {
			now = now.Add(time.Minute)
			h.add(View{Asked: now, Answered: now, First: first(i), Last: uint64(i+1) * perMinute})
			if n := len(h.samples); n > samplesKept {
				t.Fatalf("%s: %d samples are kept, want %d at the most", what, n, samplesKept)
			}
		}
		const last = minutes * perMinute
		if got := h.bound(last); got != last-span {
			t.Errorf("%s: the bound is %d below the end, want %d", what, last-got, span)
		}
		if what == "all is trimmed" {
			if n := len(h.samples); n > 100 {
				t.Errorf("%d samples are kept of what is gone", n)
			}
			continue
		}
		if got := h.bound(last / 2); got > last/2-span || got < last/2-4*span {
			t.Errorf("half way through, the bound is %d below, want %d and little more", last/2-got, span)
		}
	}
}

func TestBufferLeft(t *testing.T) {
	t.Parallel()
	trimmer := New(time.Hour)
	h, now := watch(30, 60) // one a second
	trimmer.history = h
	v := View{Asked: now, Answered: now, First: 1, Last: 1800, Messages: 1800, Bytes: 1_800_000, MaxBytes: 3_600_000}
	for safe, want := range map[uint64]time.Duration{
		0:    1800 * time.Second, // every message is needed
		900:  2700 * time.Second,
		1800: time.Hour,
	} {
		if got := trimmer.bufferLeft(v, safe); got.Round(time.Second) != want {
			t.Errorf("with %d messages that can go, %v is left, want %v", safe, got, want)
		}
	}
	v.MaxBytes = 0
	if got := trimmer.bufferLeft(v, 0); got >= 0 {
		t.Errorf("without a limit %v is left, want no telling", got)
	}
	v.MaxBytes = 3_600_000
	trimmer.history, _ = watch(30, 0)
	if got := trimmer.bufferLeft(v, 0); got != math.MaxInt64 {
		t.Errorf("when nothing arrives %v is left, want for ever", got)
	}
	trimmer.history, _ = watch(1, 60)
	if got := trimmer.bufferLeft(v, 0); got >= 0 {
		t.Errorf("after one look %v is left, want no telling", got)
	}
}
