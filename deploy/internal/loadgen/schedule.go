package loadgen

import (
	"sync/atomic"
	"time"
)

// schedule says which report is sent when. It never waits for an intake: that a
// slow answer delays what comes after it has to show in the measurement.
type schedule struct {
	start time.Time
	rate  float64 // a second; 0 has no schedule
	count int64   // 0 has no limit
	span  time.Duration
	next  atomic.Int64
}

// take returns the number of the next report and the time when it is due, which
// may be past, and is the zero time without a schedule. It is not ok once there
// are no more.
func (s *schedule) take() (n int64, due time.Time, ok bool) {
	n = s.next.Add(1) - 1
	if s.count > 0 && n >= s.count || s.span > 0 && time.Since(s.start) >= s.span {
		return 0, time.Time{}, false
	}
	if s.rate == 0 {
		return n, time.Time{}, true
	}
	after := s.after(n)
	return n, s.start.Add(after), s.span == 0 || after < s.span
}

// after is how long after the start report n is due.
func (s *schedule) after(n int64) time.Duration {
	return time.Duration(float64(n) / s.rate * float64(time.Second))
}

// dueBy counts the reports that were due before a time.
func (s *schedule) dueBy(t time.Time) int64 {
	if s.rate == 0 {
		return 0
	}
	after := t.Sub(s.start)
	if s.span > 0 {
		after = min(after, s.span)
	}
	due := int64(after.Seconds() * s.rate)
	for ; s.after(due) < after; due++ { // one more, if at all
	}
	if s.count > 0 {
		due = min(due, s.count)
	}
	return due
}
