package trim

import (
	"context"
	"testing"
	"time"

	"github.com/yagi-crash/yagi/pkg/queue"
)

// still is a stream in which nothing happens: messages 1 to 100, one a minute, all
// stored, and none of them is kept for replays.
type still struct {
	v      View
	blind  bool // finds no message
	purged uint64
	purges int
}

func newStill() *still {
	now := time.Now()
	return &still{v: View{
		Asked: now, Answered: now, Server: now,
		First: 1, Last: 100, FirstAt: now.Add(-100 * time.Minute), LastAt: now.Add(-time.Minute),
		Messages: 100, Bytes: 100, MaxBytes: 110, // 91 % full
		Floor: 90, FloorOf: queue.Consumer,
		Pending: &queue.Stored{Sequence: 91, Time: now.Add(-10 * time.Minute)},
	}}
}

func (s *still) View(context.Context) (View, error) { return s.v, nil }

func (s *still) Since(_ context.Context, t time.Time) (*queue.Stored, error) {
	for seq := s.v.First; seq <= s.v.Last && !s.blind; seq++ {
		if at := s.v.FirstAt.Add(time.Duration(seq-1) * time.Minute); !at.Before(t) {
			return &queue.Stored{Sequence: seq, Time: at}, nil
		}
	}
	return nil, nil
}

func (s *still) Purge(_ context.Context, upTo uint64) error {
	s.purged = upTo
	s.purges++
	return nil
}

// What a trimmer that just started removes from a stream that is short of room.
func TestByClock(t *testing.T) {
	t.Parallel()
	margin := queue.ReadyDeadline + ClockSkew
	for name, c := range map[string]struct {
		change func(*still)
		purged uint64
		fails  bool
	}{
		// 12 messages are more than 80 % of 110, and one for good measure. Message 91
		// came ten minutes ago, and 80 eleven minutes before that.
		"room is short":                    {func(*still) {}, 13, false},
		"room is very short":               {func(s *still) { s.v.MaxBytes = 20 }, 79, false},
		"an old report waits":              {func(s *still) { s.v.Pending.Time = s.v.FirstAt.Add(margin + 5*time.Minute) }, 5, false},
		"a very old report waits":          {func(s *still) { s.v.Pending.Time = s.v.FirstAt }, 0, false},
		"there is room":                    {func(s *still) { s.v.MaxBytes = 1000 }, 0, false},
		"the consumer is behind the clock": {func(s *still) { s.v.Floor, s.v.MaxBytes = 20, 20 }, 20, false},
		"nothing waits": {func(s *still) {
			s.v.Floor, s.v.Idle, s.v.Pending, s.v.MaxBytes = 100, true, nil, 10
		}, 89, false}, // message 90 is eleven minutes old
		"a report waits that the leader does not find": {func(s *still) { s.v.Pending = nil }, 0, false},
		"a report came from the future":                {func(s *still) { s.v.Pending.Time = s.v.Server.Add(time.Second) }, 0, false},
		"a replay is behind":                           {func(s *still) { s.v.Floor, s.v.FloorOf = 50, "replay-x" }, 0, false},
		"the server's clock is ahead":                  {func(s *still) { s.v.Server = s.v.Server.Add(2 * ClockSkew) }, 0, true},
		"the server's clock is behind":                 {func(s *still) { s.v.Server = s.v.Server.Add(-2 * ClockSkew) }, 0, true},
		"the leader cannot read what it has":           {func(s *still) { s.blind = true }, 0, true},
		"the stream is empty": {func(s *still) {
			s.v.First, s.v.Messages, s.v.Bytes, s.v.Idle, s.v.Pending, s.v.Floor = 101, 0, 0, true, nil, 100
		}, 0, false},
	} {
		s := newStill()
		c.change(s)
		trimmer := New(24 * time.Hour)
		trimmer.floors = []floorAt{{s.v.Asked.Add(-Staleness - 1), s.v.Floor}} // it has looked before
		r, err := trimmer.Step(t.Context(), s)
		if (err != nil) != c.fails || s.purged != c.purged || (s.purges > 0) != (c.purged > 0) {
			t.Errorf("%s: purged up to %d, error %v; want up to %d, an error: %t", name, s.purged, err, c.purged, c.fails)
		}
		if r.UpTo != c.purged {
			t.Errorf("%s: says that it trimmed up to %d, which was %d", name, r.UpTo, c.purged)
		}
	}
}

// A report may have been held a moment ago, of which not every leader knows: a floor counts
// once it has lasted.
func TestFloorMustLast(t *testing.T) {
	t.Parallel()
	s := newStill()
	trimmer := New(24 * time.Hour)
	step := func() uint64 {
		s.purged = 0
		if _, err := trimmer.Step(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		return s.purged
	}
	pass := func(d time.Duration) {
		s.v.Asked, s.v.Answered, s.v.Server = s.v.Asked.Add(d), s.v.Answered.Add(d), s.v.Server.Add(d)
	}
	if got := step(); got != 0 {
		t.Errorf("just started: purged up to %d", got)
	}
	pass(Staleness + 1)
	if got := step(); got == 0 {
		t.Error("nothing is purged although the floor has lasted")
	}
	trimmer = New(24 * time.Hour)
	s.v.Floor = 3
	step()
	pass(2 * Staleness)
	s.v.Floor = 90
	if got := step(); got > 3 {
		t.Errorf("a floor that has just risen: purged up to %d, want 3 at most", got)
	}
}

// A trimmer that has watched for long does not ask for the time.
func TestByMemory(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*still)
		purged uint64
	}{
		"all is stored": {func(s *still) {
			s.v.Floor, s.v.Idle, s.v.Pending = 100, true, nil
		}, 89},
		"strays are left": {func(s *still) {
			s.v.Floor, s.v.Idle, s.v.Pending = 95, true, nil
		}, 89},
		"a report waits":                       {func(*still) {}, 79},
		"one waits that the leader lacks":      {func(s *still) { s.v.Pending = nil }, 79},
		"one waits that the consumers lack":    {func(s *still) { s.v.Idle = true }, 79},
		"a replay has finished, and is behind": {func(s *still) { s.v.Floor, s.v.FloorOf, s.v.Idle, s.v.Pending = 90, "replay-x", true, nil }, 79},
		"the server's clock is off":            {func(s *still) { s.v.Server = s.v.Server.Add(time.Hour) }, 79},
		"the stream never had a message in it": {func(s *still) {
			s.v.First, s.v.Last, s.v.Messages, s.v.Bytes = 0, 0, 0, 0
			s.v.Floor, s.v.Idle, s.v.Pending = 0, true, nil
		}, 0},
	} {
		s := newStill()
		c.change(s)
		s.v.MaxBytes = 10 // short of room, which changes nothing
		trimmer := New(0)
		for n := range s.v.Last {
			at := s.v.Asked.Add(-time.Duration(s.v.Last-1-n) * time.Minute)
			trimmer.history.add(View{Asked: at, Answered: at, Last: n + 1})
		}
		_, err := trimmer.Step(t.Context(), s)
		if err != nil || s.purged != c.purged || (s.purges > 0) != (c.purged > 0) {
			t.Errorf("%s: purged up to %d, error %v; want up to %d", name, s.purged, err, c.purged)
		}
	}
}
