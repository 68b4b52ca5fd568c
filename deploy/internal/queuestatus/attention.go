package queuestatus

import (
	"fmt"

	"github.com/dustin/go-humanize"
)

// What needs attention. The trimmer keeps a stream at 80 % as long as it finds
// something that is stored, so that one above 90 % is filling up; and a report
// that waits for a quarter of an hour has outlasted every restart and many
// redeliveries (queue.AckWait). A replica answers its leader's
// heartbeats, which come each second; one that is frozen goes for online for
// minutes.
const (
	fullPercent   = 90
	oldestSeconds = 15 * 60
	silentSeconds = 15
)

// pendingShare is the part of max_ack_pending above which the server is about to deliver
// nothing new: uploaders that are sized as they should be have two thirds of it in flight
// at most. retriedShare is the part of it that may be redelivered reports.
const (
	pendingShare = 0.8
	retriedShare = 0.25
)

// attention lists what somebody should look at: the servers, then the streams.
func (s *Status) attention() []string {
	var all []string
	add := func(format string, v ...any) { all = append(all, fmt.Sprintf(format, v...)) }
	if s.Server.Problem != "" {
		add("%s", s.Server.Problem)
	}
	for _, m := range s.Sync {
		if m.Mode == SyncInterval {
			add("server %s syncs every %s and not always: it could lose acknowledged reports with its power", m.Server, m.IntervalSeconds)
		}
	}
	for _, p := range s.Partitions {
		all = append(all, p.Stream.attention()...)
		all = append(all, p.attention()...)
	}
	all = append(all, s.DeadLetters.attention()...)
	if n := s.DeadReports; n != nil && *n > 0 {
		add("%s dead letter(s): crashctl dead list shows them", humanize.Comma(int64(*n)))
	}
	all = append(all, s.Held.Stream.attention()...)
	if n := s.Held.Reports; n != nil && *n > 0 {
		last := "" // nothing, when it went meanwhile
		if s.Held.LastClass != "" {
			last = fmt.Sprintf(" (the last one: %s, %s)", s.Held.LastClass, s.Held.LastCause)
		}
		add("%s report(s) held: they failed and are retried at leisure%s", humanize.Comma(int64(*n)), last)
	}
	return append(all, s.attentionOfOthers()...)
}

// attentionOfOthers is about the bucket, the intakes and the uploaders.
func (s *Status) attentionOfOthers() []string {
	var all []string
	add := func(format string, v ...any) { all = append(all, fmt.Sprintf(format, v...)) }
	switch b := s.Bucket; {
	case b == nil || b.Problem == "":
	case b.State == Missing && s.uploadersAreHealthy():
		add("bucket %s is not found, and yet uploaders store reports: does their AWS_ENDPOINT_URL_S3 name the bucket already? (%s)", b.Name, b.Problem)
	case b.State == Missing:
		add("bucket %s takes no reports: %s", b.Name, b.Problem)
	default: // uploaders may have other settings
		add("bucket %s cannot be reached with the AWS settings given here: %s", b.Name, b.Problem)
	}
	for _, n := range s.Intakes {
		all = append(all, n.attention("intake")...)
	}
	for _, u := range s.Uploaders {
		all = append(all, u.attention()...)
	}
	return all
}

// uploadersAreHealthy reports whether all uploaders were asked, and none has anything
// to say about its bucket or another trouble.
func (s *Status) uploadersAreHealthy() bool {
	for _, u := range s.Uploaders {
		if u.Trouble == nil || len(u.Trouble) > 0 {
			return false
		}
	}
	return len(s.Uploaders) > 0
}

func (s *Stream) attention() []string {
	if s.State == Missing {
		return []string{fmt.Sprintf("stream %s is missing: crashctl stream apply makes it", s.Name)}
	}
	all := unsafe(s.Differences)
	add := func(format string, v ...any) { all = append(all, fmt.Sprintf(format, v...)) }
	if s.State == Present && s.Leader == "" {
		add("stream %s has no leader: nothing can be stored in it", s.Name)
	}
	for _, r := range s.Replicas {
		switch {
		case r.Offline:
			add("stream %s: replica %s is offline, last seen %s ago", s.Name, r.Server, r.SeenSeconds)
		case r.SeenSeconds > silentSeconds:
			add("stream %s: replica %s is silent, last seen %s ago: it hangs, has fallen behind, or its line is broken", s.Name, r.Server, r.SeenSeconds)
		}
	}
	for _, c := range s.Copies {
		if c.Problem != "" {
			add("stream %s: %s", s.Name, c.Problem)
		}
	}
	if s.crowded() {
		add("stream %s is %.0f%% full, and refuses what does not fit: uploaders make room, or crashctl stream apply with a larger NATS_STREAM_MAX_BYTES", s.Name, s.Usage.UsedPercent)
	}
	return all
}

// crowded tells whether a stream is about to be full.
func (s *Stream) crowded() bool { return s.Usage != nil && s.Usage.UsedPercent > fullPercent }

func (p *Partition) attention() []string {
	all := unsafe(p.Consumer.Differences)
	if p.Stream.crowded() {
		for i := range p.Others {
			all = append(all, fmt.Sprintf("stream %s: %s", p.Stream.Name, &p.Others[i]))
		}
	}
	if p.Stream.State == Present && p.Consumer.State == Missing {
		all = append(all, fmt.Sprintf("consumer %s of %s is missing: %s", p.Consumer.Name, p.Stream.Name, p.remedy()))
	}
	if b := p.Consumer.Backlog; b != nil && b.MaxAckPending > 0 {
		limit := float64(b.MaxAckPending)
		if float64(b.AckPending) >= pendingShare*limit || float64(b.Redelivered) >= retriedShare*limit {
			all = append(all, fmt.Sprintf("stream %s: %d reports are unacknowledged, %d of them redelivered; at %d (NATS_MAX_ACK_PENDING) nothing new is delivered",
				p.Stream.Name, b.AckPending, b.Redelivered, b.MaxAckPending))
		}
	}
	if b := p.Consumer.Backlog; b != nil && b.OldestSeconds != nil && *b.OldestSeconds > oldestSeconds {
		all = append(all, fmt.Sprintf("stream %s: the oldest report has waited for %s", p.Stream.Name, *b.OldestSeconds))
	}
	return all
}

// remedy says what makes a partition's missing consumer.
func (p *Partition) remedy() string {
	if p.Configured {
		return "crashctl stream apply makes it"
	}
	return fmt.Sprintf("crashctl stream apply makes it with NATS_PARTITIONS=%d or more", p.Partition+1)
}

func unsafe(differences []Difference) []string {
	var all []string
	for _, d := range differences {
		switch {
		case d.Fatal:
			all = append(all, d.String()+" (fatal: uploaders refuse it)")
		case d.fewer():
			all = append(all, d.String()+" (promised reports have fewer copies: crashctl stream apply)")
		case d.Unsafe:
			all = append(all, d.String()+" (unsafe: promised reports could be lost)")
		}
	}
	return all
}
