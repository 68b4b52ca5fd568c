package queuestatus

import "math"

// total adds up what is known of the partitions that exist.
func total(partitions []Partition) Total {
	sum := Total{Usage: &Usage{}, Backlog: &Backlog{}}
	for _, p := range partitions {
		if p.Stream.State == Missing {
			continue
		}
		sum.Usage = sum.Usage.plus(p.Stream.Usage)
		sum.Backlog = sum.Backlog.plus(p.Consumer.Backlog)
	}
	if sum.Usage != nil {
		sum.Usage.setPercent()
	}
	return sum
}

// plus is nil when either is: a sum with a hole would be a false low.
func (u *Usage) plus(v *Usage) *Usage {
	if u == nil || v == nil {
		return nil
	}
	sum := &Usage{Messages: u.Messages + v.Messages, Bytes: u.Bytes + v.Bytes, LimitBytes: u.LimitBytes + v.LimitBytes}
	if u.LimitBytes < 0 || v.LimitBytes < 0 {
		sum.LimitBytes = -1
	}
	return sum
}

func (b *Backlog) plus(c *Backlog) *Backlog {
	if b == nil || c == nil {
		return nil
	}
	sum := &Backlog{
		Depth:         b.Depth + c.Depth,
		Pending:       b.Pending + c.Pending,
		AckPending:    b.AckPending + c.AckPending,
		Redelivered:   b.Redelivered + c.Redelivered,
		MaxAckPending: b.MaxAckPending + c.MaxAckPending,
		PausedSeconds: max(b.PausedSeconds, c.PausedSeconds),
		OldestSeconds: b.OldestSeconds,
	}
	if c.OldestSeconds != nil && (b.OldestSeconds == nil || *c.OldestSeconds > *b.OldestSeconds) {
		sum.OldestSeconds = c.OldestSeconds
	}
	return sum
}

func (u *Usage) setPercent() {
	if u.LimitBytes > 0 {
		u.UsedPercent = math.Round(1e4*float64(u.Bytes)/float64(u.LimitBytes)) / 1e2
	}
}
