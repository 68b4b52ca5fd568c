package queuestatus

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/dustin/go-humanize"
)

// A difference between copies is told only when so many looks in a row find it,
// with pauses in between: while reports come in and old ones are trimmed, servers
// are apart for moments, and they cannot be asked at the same one.
const (
	copyLooks = 3
	copyPause = time.Second
)

// Copy is what one server has of a stream that several servers have.
type Copy struct {
	Server        string `json:"server"`
	Leads         bool   `json:"leads"`
	Messages      uint64 `json:"messages"`
	Bytes         uint64 `json:"bytes"`
	FirstSequence uint64 `json:"first_sequence"`
	LastSequence  uint64 `json:"last_sequence"`
	// Problem says what it has lost and what to do; empty when it has lost
	// nothing that another one has.
	Problem string `json:"problem"`
}

// holes is how many messages between the first and the last are not there. From
// our streams messages go at the front alone, so that a whole copy has no holes,
// whatever comes in meanwhile.
func (c *Copy) holes() uint64 { return c.LastSequence + 1 - c.first() - c.Messages }

// first is the sequence of the first message; an empty stream may say 0.
func (c *Copy) first() uint64 { return max(1, c.FirstSequence) }

// within is how many messages it has between two sequences, if none is lost
// beyond.
func (c *Copy) within(first, last uint64) uint64 {
	beyond := c.LastSequence - last
	if first > c.first() {
		beyond += first - c.first()
	}
	return c.Messages - min(c.Messages, beyond)
}

// compareCopies looks for servers that have lost messages of a stream. It
// returns what it could not find out.
func compareCopies(ctx context.Context, monitors, names []string) (copies, []error) {
	then, problems := readCopies(ctx, monitors, names)
	now := then
	suspects := slices.Collect(maps.Keys(then))
	for look := range copyLooks {
		if look > 0 {
			if err := wait(ctx, copyPause); err != nil {
				return now, append(problems, fmt.Errorf("whether servers have the same messages: %w", err))
			}
			now, problems = readCopies(ctx, monitors, names)
		}
		suspects = slices.DeleteFunc(suspects, func(id identity) bool { return len(losses(then[id], now[id])) == 0 })
		if len(suspects) == 0 {
			return now, problems
		}
	}
	for _, id := range suspects {
		for _, l := range losses(then[id], now[id]) {
			// Either may still be copying from the other, and then it says so.
			if l.worse.healthy(ctx) && l.better.healthy(ctx) {
				c := now[id][l.worse.Server]
				c.Problem = l.String()
				now[id][l.worse.Server] = c
			}
		}
	}
	return now, problems
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// loss is a copy that lacks what another one has.
type loss struct {
	worse, better copyOf
	what          string
}

// String says what is lost, and how it comes back: nats-server copies what a
// server does not have at all, and never what is lost in between. Removing the
// peer would do so too, but a cluster of three has no other one to take over.
func (l loss) String() string {
	role := "a replica"
	if l.worse.Leads {
		role = "the leader"
	}
	return fmt.Sprintf("%s: %s has lost data; with the others up, stop %s, move %s away and start it again: it then copies the stream from them",
		l.what, role, l.worse.Server, l.worse.folder)
}

// title names a server in a sentence.
func (c *copyOf) title() string {
	if c.Leads {
		return c.Server + ", its leader,"
	}
	return c.Server
}

// losses compares what each server had and has of a stream with the leader's. It
// tells nothing while servers do not agree on who leads.
func losses(then, now map[string]copyOf) []loss {
	var all []loss
	for _, name := range slices.Sorted(maps.Keys(now)) {
		other := now[name]
		leader := now[other.leader]
		before := sides{then[other.leader], then[name]}
		after := sides{leader, other}
		if other.Leads || !leader.Leads || !before.leader.Leads || before.other.leader != other.leader {
			continue
		}
		if l := compare(before, after); l != nil {
			all = append(all, *l)
		}
	}
	return all
}

// sides are the leader's copy and another one, at one look. Those of two looks
// are compared crosswise: what one server still had later than the other had no
// longer is missing there, at whichever moments they were asked.
type sides struct{ leader, other copyOf }

// settled says that the leader believes the other one to have everything.
func (s *sides) settled() bool { return s.leader.caughtUp[s.other.Server] }

// compare returns nil when neither has lost anything, as far as counts can tell.
func compare(then, now sides) *loss {
	settled := then.settled() && now.settled()
	l, o := &now.leader, &now.other
	switch {
	case then.other.holes() > then.leader.holes() && o.holes() > l.holes():
		return fewer(*o, *l, max(o.first(), l.first()))
	case then.other.holes() < then.leader.holes() && o.holes() < l.holes():
		return fewer(*l, *o, max(o.first(), l.first()))
	case then.other.first() > l.first():
		return fewer(*o, *l, l.first())
	case settled && then.leader.first() > o.first():
		return fewer(*l, *o, o.first())
	case settled && then.leader.LastSequence > o.LastSequence && o.LastSequence == then.other.LastSequence:
		return shorter(*o, *l)
	case settled && then.other.LastSequence > l.LastSequence && l.LastSequence == then.leader.LastSequence:
		return shorter(*l, *o)
	case then.sameMessages() && now.sameMessages() && then.other.Bytes < then.leader.Bytes && o.Bytes < l.Bytes:
		return lighter(*o, *l)
	case then.sameMessages() && now.sameMessages() && then.other.Bytes > then.leader.Bytes && o.Bytes > l.Bytes:
		return lighter(*l, *o)
	}
	return nil
}

func (s *sides) sameMessages() bool {
	l, o := &s.leader, &s.other
	return l.Messages == o.Messages && l.first() == o.first() && l.LastSequence == o.LastSequence
}

// fewer compares what both have from a sequence on.
func fewer(worse, better copyOf, first uint64) *loss {
	last := min(worse.LastSequence, better.LastSequence)
	return &loss{worse, better, fmt.Sprintf("server %s has %s messages and %s %s up to the same sequence",
		worse.title(), comma(worse.within(first, last)), better.title(), comma(better.within(first, last)))}
}

func shorter(worse, better copyOf) *loss {
	return &loss{worse, better, fmt.Sprintf("server %s has messages up to sequence %s and %s up to %s",
		worse.title(), comma(worse.LastSequence), better.title(), comma(better.LastSequence))}
}

func lighter(worse, better copyOf) *loss {
	return &loss{worse, better, fmt.Sprintf("server %s has %s bytes and %s %s in the same messages",
		worse.title(), comma(worse.Bytes), better.title(), comma(better.Bytes))}
}

func comma(n uint64) string { return humanize.Comma(int64(n)) }

// of returns the copies of a stream, by the servers' names.
func (all copies) of(s *Stream) []Copy {
	list := []Copy{}
	for id, servers := range all {
		if id.name == s.Name && id.created.Equal(s.created) {
			for _, name := range slices.Sorted(maps.Keys(servers)) {
				list = append(list, servers[name].Copy)
			}
		}
	}
	return list
}
