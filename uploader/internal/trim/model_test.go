package trim

import (
	"context"
	"maps"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/yagi-crash/yagi/pkg/queue"
)

// model is a partition of a queue with everybody who has to do with it: intakes
// that publish reports, the uploaders' consumer, replays, and trimmers. There is
// one true time; clocks differ from it. Answers may be as stale as the package
// says that they can be, and those of consumers far more.
type model struct {
	t    *rapid.T
	now  time.Time     // true
	skew time.Duration // of the server's clock, now

	messages []message // sequence 1 first; none leaves the list
	first    uint64    // sequence of the first message that is still there
	bytes    uint64    // of those that are

	reports   []*report
	consumers map[string]*consumer
	trimmers  []*machine
	past      []moment // what stale answers are made of, oldest first

	hiding bool // ready messages go to a subject that nobody reads
	hidden int  // how many did

	purged int // how many messages went
}

type message struct {
	stamp time.Time // on the server's clock
	ready *report   // nil for a chunk
	size  uint64
}

// report is one publishing of a report; a requeue is another.
type report struct {
	begun  time.Time // when its first chunk was stored
	chunks []uint64
	ready  uint64 // 0 until it is stored
	given  bool   // up, so nothing was promised
	held   bool   // acknowledged, and not in the bucket
	stored bool   // in the bucket, and acknowledged
	hidden bool   // on a subject that nobody reads
}

// needed is whether somebody waits for the report, or will.
func (r *report) needed() bool { return !r.given && !r.stored }

// consumer is a durable consumer.
type consumer struct {
	since time.Time // true
	start uint64    // nothing up to here is its business
	acked map[uint64]bool
}

// moment is how a leader saw things.
type moment struct {
	at        time.Time
	last      uint64
	hidden    int
	consumers map[string]standing
	held      uint64 // the first ready message of a held report; 0: there is none
}

type standing struct {
	floor uint64
	idle  bool
}

// machine is an uploader's trimmer, with a clock of its own.
type machine struct {
	*Trimmer

	m    *model
	skew time.Duration
}

func newModel(t *rapid.T) *model {
	m := &model{t: t, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), first: 1}
	m.consumers = map[string]*consumer{queue.Consumer: {since: m.now, acked: map[uint64]bool{}}}
	for range 3 {
		m.trimmers = append(m.trimmers, m.newMachine())
	}
	m.note()
	return m
}

func (m *model) newMachine() *machine {
	window := rapid.SampledFrom([]time.Duration{0, time.Minute, 24 * time.Hour}).Draw(m.t, "window")
	skew := time.Duration(rapid.IntRange(-40, 40).Draw(m.t, "skew")) * time.Second
	return &machine{Trimmer: New(window), m: m, skew: skew}
}

func (m *model) last() uint64 { return uint64(len(m.messages)) }

// note keeps how things stand for later stale answers.
func (m *model) note() {
	at := moment{at: m.now, last: m.last(), hidden: m.hidden, consumers: map[string]standing{}}
	for name, c := range m.consumers {
		at.consumers[name] = m.standing(c)
	}
	for _, r := range m.reports {
		if r.held && (at.held == 0 || r.ready < at.held) {
			at.held = r.ready
		}
	}
	m.past = append(m.past, at)
	for len(m.past) > 1 && !m.past[1].at.After(m.now.Add(-lag)) {
		m.past = m.past[1:]
	}
}

// standing is what nats-server computes (moveAckFloor in its consumer.go): with
// nothing out, all that was delivered is below the floor; what is not delivered
// is above it.
func (m *model) standing(c *consumer) standing {
	floor := c.start
	for seq := floor + 1; seq <= m.last(); seq++ {
		if r := m.messages[seq-1].ready; r != nil && !c.acked[seq] {
			return standing{floor: floor}
		}
		if c.acked[seq] {
			floor = seq // over the chunks before it too
		}
	}
	return standing{floor: floor, idle: true}
}

// lag is how far behind a consumer may be: the server that leads it can be one
// that has yet to catch up with the stream.
const lag = 30 * time.Minute

// stale draws how things were within Staleness, as a stream's leader may say.
func (m *model) stale(what string) moment {
	return m.as(rapid.SampledFrom([]time.Duration{0, 0, 0, 0, Staleness / 2, Staleness}).Draw(m.t, what))
}

// as returns how things were.
func (m *model) as(old time.Duration) moment {
	i := 0
	for i+1 < len(m.past) && !m.past[i+1].at.After(m.now.Add(-old)) {
		i++
	}
	return m.past[i]
}

// publish stores a message.
func (m *model) publish(msg message) uint64 {
	msg.stamp = m.now.Add(m.skew)
	m.messages = append(m.messages, msg)
	m.bytes += msg.size
	return m.last()
}

// publishReady stores the ready message of a report.
func (m *model) publishReady(r *report, size uint64) {
	msg := message{ready: r, size: size}
	if r.hidden = m.hiding; r.hidden {
		msg.ready = nil // to the consumers it is none
		m.hidden++
	}
	r.ready = m.publish(msg)
}

// View implements Stream; every answer in it may be stale by itself.
func (x *machine) View(context.Context) (View, error) {
	m := x.m
	stream := m.stale("stream as of")
	v := View{
		Asked: m.now.Add(x.skew), Answered: m.now.Add(x.skew), Server: m.now.Add(m.skew),
		First: min(m.first, stream.last+1), Last: stream.last,
		Messages: stream.last + 1 - min(m.first, stream.last+1), Bytes: m.bytes, MaxBytes: modelLimit,
		Idle: true, FloorOf: "none",
	}
	if v.Messages > 0 {
		v.FirstAt = m.messages[v.First-1].stamp
		v.LastAt = m.messages[v.Last-1].stamp
	}
	if stream.hidden > 0 {
		v.Unsafe = queue.CheckSubjects(0, map[string]uint64{"hidden": uint64(stream.hidden)})
	}
	uploaders := uint64(0)
	for _, name := range slices.Sorted(maps.Keys(m.consumers)) {
		old := rapid.SampledFrom([]time.Duration{0, 0, 0, Staleness, lag}).Draw(m.t, "consumer as of")
		s, ok := m.as(old).consumers[name]
		if !ok {
			if m.now.Sub(m.consumers[name].since) < Staleness { // not everybody knows it yet
				continue
			}
			s = m.as(0).consumers[name]
		}
		if v.FloorOf == "none" || s.floor < v.Floor || s.floor == v.Floor && name == queue.Consumer {
			v.Floor, v.FloorOf = s.floor, name
		}
		if name == queue.Consumer {
			uploaders = s.floor
		}
		v.Idle = v.Idle && s.idle
	}
	if held := m.stale("held as of").held; held != 0 && held-1 < v.Floor {
		v.Floor, v.FloorOf = held-1, queue.HeldStream
	}
	known := m.stale("pending as of").last
	for seq := max(uploaders+1, m.first); seq <= known; seq++ {
		if m.messages[seq-1].ready != nil {
			v.Pending = &queue.Stored{Sequence: seq, Time: m.messages[seq-1].stamp}
			break
		}
	}
	return v, nil
}

// Since implements Stream. With clocks that were set it may find anything that
// fits.
func (x *machine) Since(_ context.Context, t time.Time) (*queue.Stored, error) {
	m := x.m
	for seq := m.first; seq <= m.last(); seq++ {
		if msg := m.messages[seq-1]; !msg.stamp.Before(t) {
			return &queue.Stored{Sequence: seq, Time: msg.stamp}, nil
		}
	}
	return nil, nil
}

// Purge implements Stream.
func (x *machine) Purge(_ context.Context, upTo uint64) error {
	m := x.m
	for ; m.first <= min(upTo, m.last()); m.first++ {
		m.bytes -= m.messages[m.first-1].size
		m.purged++
	}
	m.check()
	return nil
}

// check is the promise: nothing is gone that somebody waits for.
func (m *model) check() {
	for i, r := range m.reports {
		if !r.needed() {
			continue
		}
		for _, seq := range append(slices.Clone(r.chunks), r.ready) {
			if seq != 0 && seq < m.first {
				m.t.Fatalf("report %d has lost message %d (chunks %d, ready %d): the stream begins at %d",
					i, seq, r.chunks, r.ready, m.first)
			}
		}
	}
	for name, c := range m.consumers {
		if m.now.Sub(c.since) <= Staleness { // a trimmer may not have seen it
			continue
		}
		for _, r := range m.reports {
			for _, seq := range append(slices.Clone(r.chunks), r.ready) {
				if r.ready > c.start && !c.acked[r.ready] && seq < m.first && !r.given {
					m.t.Fatalf("%s has lost message %d: the stream begins at %d", name, seq, m.first)
				}
			}
		}
	}
}
