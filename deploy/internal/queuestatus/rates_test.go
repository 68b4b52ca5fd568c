package queuestatus

import (
	"testing"
	"time"
)

// afterAnother returns a flow, and the same partition two seconds later, in which
// 10 reports and 5 chunks came and 4 reports went.
func afterAnother() (before, after flow) {
	made := time.Now()
	before = flow{
		at: made.Add(time.Hour), leader: "n1", stream: made, consumer: made,
		first: 1, last: 150, reports: 100, delivered: 70, reached: 100, floor: 90,
		backlog: Backlog{Depth: 40, Pending: 30, AckPending: 10},
	}
	after = before
	after.at = before.at.Add(2 * time.Second)
	after.last, after.reports = 165, 110
	after.delivered, after.reached, after.floor = 74, 106, 96
	after.backlog = Backlog{Depth: 46, Pending: 36, AckPending: 10}
	return before, after
}

// Rates are known when the counters tell, and never made up.
func TestRates(t *testing.T) {
	known := &Rates{InPerSecond: 5, OutPerSecond: 2}
	for name, c := range map[string]struct {
		change func(before, after *flow)
		want   *Rates
	}{
		"nothing was trimmed":             {func(_, _ *flow) {}, known},
		"nor anything delivered once":     {func(_, a *flow) { a.delivered += 50; a.backlog.Redelivered = 5 }, known},
		"reports and chunks were trimmed": {func(_, a *flow) { a.first = 50; a.reports = 70 }, known},
		"trimmed while some come again":   {func(_, a *flow) { a.first = 50; a.reports = 70; a.backlog.Redelivered = 1 }, nil},
		"trimmed while some came again":   {func(b, a *flow) { a.first = 50; a.reports = 70; b.backlog.Redelivered = 1 }, nil},
		"nothing came, a report had not been counted": {
			func(b, a *flow) { a.reports, a.backlog.Depth = b.reports, b.backlog.Depth+1 }, &Rates{},
		},
		"the first look failed":           {func(b, _ *flow) { *b = flow{} }, nil},
		"the second look failed":          {func(_, a *flow) { *a = flow{} }, nil},
		"another leader, another clock":   {func(_, a *flow) { a.leader = "n2" }, nil},
		"the clock went back":             {func(b, a *flow) { a.at = b.at.Add(-time.Second) }, nil},
		"the stream was made anew":        {func(_, a *flow) { a.stream = a.at }, nil},
		"the consumer was made anew":      {func(_, a *flow) { a.consumer = a.at }, nil},
		"the consumer was reset":          {func(_, a *flow) { a.floor, a.reached = 10, 10 }, nil},
		"deliveries were forgotten":       {func(_, a *flow) { a.delivered = 60 }, nil},
		"messages were lost":              {func(_, a *flow) { a.last = 140 }, nil},
		"reports were removed in between": {func(_, a *flow) { a.reports = 99 }, nil},
	} {
		before, after := afterAnother()
		c.change(&before, &after)
		got := after.since(&before)
		if (got == nil) != (c.want == nil) || got != nil && *got != *c.want {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}
}

// The sum over the partitions has no holes either.
func TestRatesOfAll(t *testing.T) {
	before, after := afterAnother()
	was := Partition{Stream: Stream{State: Present}, flow: before}
	is := Partition{Stream: Stream{State: Present}, flow: after}
	missing := Partition{Partition: 1, Stream: Stream{State: Missing}}
	second, secondLater := was, is
	second.Partition, secondLater.Partition = 1, 1
	of := func(p ...Partition) *Status { return &Status{Partitions: p} }

	if got := of(is, secondLater).Since(of(second, was)); got == nil || *got != (Rates{InPerSecond: 10, OutPerSecond: 4}) {
		t.Errorf("two partitions: %+v", got)
	}
	if got := of(is, missing).Since(of(was, missing)); got == nil || *got != (Rates{InPerSecond: 5, OutPerSecond: 2}) {
		t.Errorf("one partition: %+v", got)
	}
	if got := of(is, secondLater).Since(of(was)); got != nil {
		t.Errorf("a partition is new: %+v", got)
	}
	if got := of().Since(of(was)); got != nil {
		t.Errorf("the streams could not be listed: %+v", got)
	}
}
