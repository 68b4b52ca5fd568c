// Package trim decides how much of a stream's beginning nobody needs any more,
// and removes it. Uploaded reports stay in the stream for a while, so that they
// can be replayed; what comes after that is the trimmer's.
//
// Any number of uploaders may trim the same stream: each decides for itself, and
// removing what is gone already does nothing. What it must never do is remove a
// message of a report that is not uploaded yet. Such a report's ready message
// lies above every consumer's ack floor, which the server knows; but its chunks
// may lie far below it, among those of reports that are uploaded, and some of
// them may have no ready message yet. How far down they can lie is bounded by
// time alone: queue.ReadyDeadline.
package trim

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/yagi-crash/yagi/pkg/queue"
)

const (
	// Staleness is how far behind an answer about a stream may be. A leader that
	// lost its peers goes on answering until it notices, within some 10 s.
	Staleness = time.Minute
	// ClockSkew is how far the server's clock may be from ours for the times of
	// messages to be believed.
	ClockSkew = time.Minute
	// pressure is the share of its limit above which a stream gives up what it
	// keeps for replays, oldest first.
	pressure = 0.8
	// rateOver is the time over which the rate of arrival is averaged.
	rateOver = 5 * time.Minute
)

// View is what the servers say about a stream, the stream itself first.
type View struct {
	// Asked and Answered are the times, on our clock, of the question about the
	// stream and of its answer; Server is the time on the clock of its leader.
	Asked, Answered, Server time.Time

	Created time.Time
	// First and Last are sequences. First is Last+1 when all messages are gone, and
	// both are 0 when there never was one.
	First, Last     uint64
	FirstAt, LastAt time.Time // when they were stored, on the server's clock
	Messages        uint64
	Bytes           uint64
	MaxBytes        int64 // 0 or less is no limit

	// Floor is the sequence up to which every durable consumer has acknowledged, and
	// no report is held.
	Floor uint64
	// FloorOf is the consumer that has that floor, the lowest, or queue.HeldStream.
	FloorOf string
	// Held is when the first report that is held was stored in the stream; zero: none is.
	Held time.Time
	// Idle is whether the consumers say that there is nothing above the floor
	// that they wait for.
	Idle bool
	// Pending is the first ready message above the uploaders' floor, as the
	// stream's leader has it; nil when there is none. A consumer's own word does
	// not suffice: its server may have yet to catch up with the stream.
	Pending *queue.Stored

	// Unsafe is why the floor is no evidence: the stream or the uploaders' consumer is not
	// as it should be, there are messages that no consumer is for, or references to held
	// reports may be lost.
	Unsafe []queue.Difference
}

// Stream is a stream to trim.
type Stream interface {
	// View asks the leaders.
	View(ctx context.Context) (View, error)
	// Since returns the first message that was stored at t or later, or nil.
	Since(ctx context.Context, t time.Time) (*queue.Stored, error)
	// Purge removes every message up to a sequence, that one too.
	Purge(ctx context.Context, upTo uint64) error
}

// Trimmer trims one stream. Make one with New and keep it: it trims by what it
// remembers. It must not be used by two goroutines at once.
type Trimmer struct {
	window  time.Duration
	history history
	floors  []floorAt // of the last Staleness, and the one before; oldest first
}

// floorAt is a floor, and when it was asked for.
type floorAt struct {
	asked time.Time
	floor uint64
}

// New returns a trimmer that keeps uploaded reports for window, as long as there
// is room for them. It trims once it has watched the stream for a little longer
// than queue.ReadyDeadline, and earlier only when room is short.
func New(window time.Duration) *Trimmer {
	return &Trimmer{window: window}
}

// Result is what a step found and did.
type Result struct {
	View View
	// Trimmed is how many messages were removed, and UpTo the last of them.
	Trimmed, UpTo uint64
	// Pressed is whether the stream is short of room.
	Pressed bool
	// BufferLeft is how long the stream can go on taking reports at the present
	// rate with no uploader at work: an estimate, from the mean size of a
	// message. It is math.MaxInt64 when nothing arrives, and negative when there
	// is no telling yet, or no limit.
	BufferLeft time.Duration
}

// Step looks at the stream and removes what nobody needs. The error says which
// question was not answered; nothing was removed then that is still needed.
func (t *Trimmer) Step(ctx context.Context, s Stream) (Result, error) {
	v, err := s.View(ctx)
	if err != nil {
		return Result{}, err
	}
	t.history.add(v)
	r := Result{View: v, Pressed: v.pressed()}
	floor := t.lowestFloor(v)
	safe := t.safe(v, floor)
	r.BufferLeft = t.bufferLeft(v, safe)
	if err := v.evidence(); err != nil {
		return r, err
	}
	if safe == 0 && r.Pressed {
		if safe, err = t.safeByClock(ctx, s, v, floor); err != nil {
			return r, err
		}
	}
	if v.Messages == 0 || safe < v.First {
		return r, nil
	}
	wanted, err := t.wanted(ctx, s, v)
	if err != nil {
		return r, err
	}
	upTo := min(safe, wanted)
	if upTo < v.First {
		return r, nil
	}
	if err := s.Purge(ctx, upTo); err != nil {
		return r, fmt.Errorf("removing messages up to %d: %w", upTo, err)
	}
	r.Trimmed, r.UpTo = upTo-v.First+1, upTo
	return r, nil
}

// evidence returns an error when a message up to the floor may be one that was promised
// and never stored, for which the consumers have no use. Its text stays the same for as
// long as the cause does.
func (v *View) evidence() error {
	if len(v.Unsafe) == 0 {
		return nil
	}
	return fmt.Errorf("what is acknowledged is no evidence of what is stored: %s", v.Unsafe[0])
}

// lowestFloor returns the lowest of the floors within Staleness. A report that is held
// at this moment is acknowledged to its consumer, which knows at once, while the leader
// of the references may be one that lost its peers and has yet to notice.
func (t *Trimmer) lowestFloor(v View) uint64 {
	if n := len(t.floors); n > 0 && v.Last < t.floors[n-1].floor { // another stream
		t.floors = nil
	}
	for len(t.floors) > 1 && v.Asked.Sub(t.floors[1].asked) > Staleness {
		t.floors = t.floors[1:]
	}
	t.floors = append(t.floors, floorAt{v.Asked, v.Floor})
	return slices.MinFunc(t.floors, func(a, b floorAt) int { return cmp.Compare(a.floor, b.floor) }).floor
}

// safe returns the sequence up to which nobody needs a message, with all that is up to
// floor acknowledged; 0 is none.
func (t *Trimmer) safe(v View, floor uint64) uint64 {
	if floor == v.Floor && v.Idle && v.Pending == nil && v.FloorOf == queue.Consumer {
		// No report waits at all, but for those of the last moment, of which the
		// leader may not know yet. What is left are strays: chunks of reports that
		// were never finished.
		floor = max(floor, v.Last)
	}
	return t.history.bound(floor)
}

// safeByClock is safe for a trimmer whose memory does not reach back to what is
// below the floor, since it was started after that came, in a stream that is short
// of room. It goes by the times of the messages, if the server's clock can be
// believed now; whether it could when they were stored, nobody knows.
func (t *Trimmer) safeByClock(ctx context.Context, s Stream, v View, floor uint64) (uint64, error) {
	if v.Server.Sub(v.Answered.Round(0)).Abs() > ClockSkew {
		return 0, fmt.Errorf("room is short, and the server's clock differs from this machine's by more than %v", ClockSkew)
	}
	from := v.Server
	switch p := v.Pending; {
	case v.Asked.Sub(t.floors[0].asked) <= Staleness: // not watched for long enough to know what is held
		return 0, nil
	case v.FloorOf != queue.Consumer: // what a replay has yet to read begins earlier than Pending
		return 0, nil
	case p == nil && !v.Idle: // reports wait, and the leader does not find them
		return 0, nil
	case p != nil && p.Time.After(v.Server):
		return 0, nil
	case p != nil:
		from = p.Time
	}
	upTo, err := before(ctx, s, v, from.Add(-queue.ReadyDeadline-ClockSkew))
	return min(floor, upTo), err
}

// wanted returns the sequence up to which messages are not kept for replays any
// more.
func (t *Trimmer) wanted(ctx context.Context, s Stream, v View) (uint64, error) {
	upTo := v.excess()
	if t.window > 0 && v.Server.Sub(v.FirstAt) < t.window+t.window/100 {
		return upTo, nil // the hundredth spares looking for every single message
	}
	old, err := before(ctx, s, v, v.Server.Add(-t.window))
	return max(upTo, old), err
}

// before returns the last sequence before the first message that was stored at a
// time or later.
func before(ctx context.Context, s Stream, v View, t time.Time) (uint64, error) {
	next, err := s.Since(ctx, t)
	switch {
	case err != nil:
		return 0, err
	case next != nil:
		return next.Sequence - 1, nil
	case v.LastAt.Before(t):
		return v.Last, nil
	}
	// The server says so of a message that it cannot read, too.
	return 0, fmt.Errorf("the stream's leader finds no message since %v, and should find number %d", t, v.Last)
}

func (v *View) pressed() bool {
	return v.MaxBytes > 0 && float64(v.Bytes) > pressure*float64(v.MaxBytes)
}

// excess returns the sequence up to which messages have to go for the stream to
// have room again, if all are of one size.
func (v *View) excess() uint64 {
	if !v.pressed() {
		return 0
	}
	share := 1 - pressure*float64(v.MaxBytes)/float64(v.Bytes)
	return min(v.First+uint64(share*float64(v.Messages)), v.Last)
}

func (t *Trimmer) bufferLeft(v View, safe uint64) time.Duration {
	rate, ok := t.history.perSecond(rateOver)
	if !ok || v.MaxBytes <= 0 {
		return -1
	}
	if rate == 0 || v.Messages == 0 {
		return math.MaxInt64
	}
	size := float64(v.Bytes) / float64(v.Messages)
	needed := size * float64(v.Last-min(max(safe, v.First-1), v.Last))
	left := max(0, float64(v.MaxBytes)-needed) / (rate * size)
	if left > math.MaxInt64/float64(2*time.Second) {
		return math.MaxInt64
	}
	return time.Duration(left * float64(time.Second))
}
