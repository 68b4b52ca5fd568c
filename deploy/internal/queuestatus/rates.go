package queuestatus

import (
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Rates is how many reports come and go, between two looks.
type Rates struct {
	// InPerSecond is what intake publishes; chunks are no reports.
	InPerSecond float64 `json:"in_per_second"`
	// OutPerSecond is what leaves the backlog: reports that are stored, and dead
	// letters.
	OutPerSecond float64 `json:"out_per_second"`
}

// flow is what tells, in two looks, how many reports came to a partition and
// went. Its zero value is not known.
type flow struct {
	at     time.Time // on the clock of the stream's leader
	leader string    // whose clock that is
	// When the stream and the consumer were made.
	stream, consumer time.Time

	// Of the stream: its sequences, and how many reports (not chunks) it has,
	// stored ones too.
	first, last, reports uint64
	// Of the consumer: how often it has ever delivered a report, the sequences
	// that it has come to, and its backlog.
	delivered, reached, floor uint64
	backlog                   Backlog
}

func newFlow(subject string, s *jetstream.StreamInfo, c *jetstream.ConsumerInfo) flow {
	f := flow{
		at:        s.TimeStamp,
		stream:    s.Created,
		consumer:  c.Created,
		first:     s.State.FirstSeq,
		last:      s.State.LastSeq,
		reports:   s.State.Subjects[subject],
		delivered: c.Delivered.Consumer,
		reached:   c.Delivered.Stream,
		floor:     c.AckFloor.Stream,
		backlog:   *backlog(c),
	}
	if s.Cluster != nil {
		f.leader = s.Cluster.Leader
	}
	return f
}

// follows says that counters can be compared: they are of the same stream and
// consumer, on the same clock, and none went back. They do when a server was
// killed before it had written them, and when somebody resets a consumer.
func (f *flow) follows(before *flow) bool {
	return !before.at.IsZero() && f.at.After(before.at) && f.leader == before.leader &&
		f.stream.Equal(before.stream) && f.consumer.Equal(before.consumer) &&
		f.first >= before.first && f.last >= before.last &&
		f.delivered >= before.delivered && f.reached >= before.reached && f.floor >= before.floor
}

// came returns how many reports were published since before, which f follows.
//
// A stream from which nothing was trimmed has so many more of them. What was
// trimmed cannot be told apart into reports and chunks; then the consumer knows:
// what it has delivered and what it has yet to deliver. But that counts a report
// again with each delivery, and so it is of use only while none comes again.
func (f *flow) came(before *flow) (n uint64, ok bool) {
	now, then := f.reports, before.reports
	if f.first != before.first {
		now, then = f.delivered+f.backlog.Pending, before.delivered+before.backlog.Pending
		if f.backlog.Redelivered+before.backlog.Redelivered > 0 {
			return 0, false
		}
	}
	return now - then, now >= then
}

func (f *flow) since(before *flow) *Rates {
	if !f.follows(before) {
		return nil
	}
	in, ok := f.came(before)
	if !ok {
		return nil
	}
	// The stream and the consumer are asked one after the other, so that a few
	// reports may be seen to go before they are seen to come.
	out := max(0, float64(in)+float64(before.backlog.Depth)-float64(f.backlog.Depth))
	seconds := f.at.Sub(before.at).Seconds()
	return &Rates{InPerSecond: float64(in) / seconds, OutPerSecond: out / seconds}
}

// Since returns the rates between an earlier look and this one; nil means that
// they are not known, because a partition was not there or did not answer, or
// because its counters cannot be compared.
func (s *Status) Since(before *Status) *Rates {
	earlier := map[int]*flow{}
	for i := range before.Partitions {
		earlier[before.Partitions[i].Partition] = &before.Partitions[i].flow
	}
	var sum *Rates
	for i := range s.Partitions {
		p := &s.Partitions[i]
		if p.Stream.State == Missing {
			continue
		}
		then := earlier[p.Partition]
		if then == nil {
			return nil
		}
		r := p.flow.since(then)
		if r == nil {
			return nil
		}
		if sum == nil {
			sum = &Rates{}
		}
		sum.InPerSecond += r.InPerSecond
		sum.OutPerSecond += r.OutPerSecond
	}
	return sum
}
