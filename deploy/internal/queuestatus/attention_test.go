package queuestatus

import (
	"slices"
	"testing"
)

// well is a status of which there is nothing to say.
func well() *Status {
	s := empty()
	s.Server = &Server{Name: "n1", Version: "2.15.2"}
	s.Sync = []Sync{{Server: "n1", Mode: SyncAlways}, {Address: "n2:8222", Mode: SyncUnknown}}
	s.Partitions = []Partition{{
		Configured: true,
		Stream: Stream{
			Name: "CRASHES_0", State: Present, Leader: "n1", Usage: &Usage{UsedPercent: 90},
			Replicas: []Replica{{Server: "n2", LagOperations: 3}},
		},
		Consumer: Consumer{Name: "uploader", State: Present, Backlog: &Backlog{Depth: 1, OldestSeconds: new(Seconds(15 * 60))}},
	}}
	s.DeadLetters = Stream{Name: "CRASHES_DLQ", State: Present, Leader: "n1", Usage: &Usage{}}
	return s
}

// Each trouble by itself is told, in words that say where it is.
func TestAttention(t *testing.T) {
	for want, change := range map[string]func(*Status){
		"":                          func(*Status) {},
		"nats-server 2.12.1 is old": func(s *Status) { s.Server.Problem = "nats-server 2.12.1 is old" },
		"server n1 syncs every 2m0s and not always: it could lose acknowledged reports with its power": func(s *Status) { s.Sync[0].Mode, s.Sync[0].IntervalSeconds = SyncInterval, 120 },
		"stream CRASHES_0 has no leader: nothing can be stored in it":                                  func(s *Status) { s.Partitions[0].Stream.Leader = "" },
		"stream CRASHES_0: replica n2 is offline, last seen 1m30s ago": func(s *Status) {
			s.Partitions[0].Stream.Replicas[0] = Replica{Server: "n2", Offline: true, SeenSeconds: 90}
		},
		"stream CRASHES_0: replica n2 is silent, last seen 16s ago: it hangs, has fallen behind, or its line is broken": func(s *Status) {
			s.Partitions[0].Stream.Replicas[0] = Replica{Server: "n2", Current: true, SeenSeconds: 16}
		},
		"stream CRASHES_0 is 91% full, and refuses what does not fit: uploaders make room, or crashctl stream apply with a larger NATS_STREAM_MAX_BYTES": func(s *Status) {
			s.Partitions[0].Stream.Usage.UsedPercent = 91
		},
		"stream CRASHES_DLQ is 99% full, and refuses what does not fit: uploaders make room, or crashctl stream apply with a larger NATS_STREAM_MAX_BYTES": func(s *Status) {
			s.DeadLetters.Usage.UsedPercent = 99
		},
		"stream CRASHES_0: the oldest report has waited for 15m1s":      func(s *Status) { *s.Partitions[0].Consumer.Backlog.OldestSeconds = 901 },
		"stream CRASHES_DLQ is missing: crashctl stream apply makes it": func(s *Status) { s.DeadLetters = Stream{Name: "CRASHES_DLQ", State: Missing} },
		"1,234 dead letter(s): crashctl dead list shows them":           func(s *Status) { s.DeadReports = new(uint64(1234)) },
		"consumer uploader of CRASHES_0 is missing: crashctl stream apply makes it": func(s *Status) {
			s.Partitions[0].Consumer = Consumer{Name: "uploader", State: Missing}
		},
		"bucket crashes takes no reports: there is no such bucket": func(s *Status) {
			s.Bucket = &Bucket{Name: "crashes", State: Missing, Problem: "there is no such bucket"}
		},
		"bucket crashes is not found, and yet uploaders store reports: does their AWS_ENDPOINT_URL_S3 name the bucket already? (there is no such bucket)": func(s *Status) {
			s.Bucket = &Bucket{Name: "crashes", State: Missing, Problem: "there is no such bucket"}
			s.Uploaders = []Uploader{{Service: Service{Trouble: []string{}}}}
		},
		"bucket crashes cannot be reached with the AWS settings given here: the store refuses these credentials": func(s *Status) {
			s.Bucket = &Bucket{Name: "crashes", State: Unknown, Problem: "the store refuses these credentials"}
		},
		"intake i1:8000: publish: no report was promised for 7s": func(s *Status) {
			s.Intakes = []Service{{Address: "i0:8000", Trouble: []string{}}, {Address: "i1:8000", Trouble: []string{"publish: no report was promised for 7s"}}}
		},
		"intake i1:8000 does not say how it is: no answer within 2s": func(s *Status) {
			s.Intakes = []Service{{Address: "i1:8000", Problem: "no answer within 2s"}}
		},
		"uploader u1:8002: nats: away": func(s *Status) {
			s.Uploaders = []Uploader{{Service: Service{Address: "u1:8002", Trouble: []string{"nats: away"}}, BreakerOpen: new(false), Concurrency: new(3)}}
		},
		"stream CRASHES_0: num_replicas is 1, should be 3 (promised reports have fewer copies: crashctl stream apply)": func(s *Status) {
			s.Partitions[0].Stream.Differences = []Difference{{On: "stream CRASHES_0", Field: "num_replicas", Want: "3", Live: "1"}}
		},
		"stream CRASHES_0: discard is old, should be new (fatal: uploaders refuse it)": func(s *Status) {
			s.Partitions[0].Stream.Differences = []Difference{
				{On: "stream CRASHES_0", Field: "discard", Want: "new", Live: "old", Unsafe: true, Fatal: true},
				{On: "stream CRASHES_0", Field: "max_age", Want: "none", Live: "1h0m0s"},
			}
		},
	} {
		s := well()
		change(s)
		var lines []string
		if want != "" {
			lines = []string{want}
		}
		if got := s.attention(); !slices.Equal(got, lines) {
			t.Errorf("got %q, want %q", got, lines)
		}
	}
}

// A sum that leaves something out would be a false low.
func TestTotalHasNoHoles(t *testing.T) {
	known := Partition{
		Stream:   Stream{State: Present, Usage: &Usage{Messages: 1, Bytes: 50, LimitBytes: 100}},
		Consumer: Consumer{State: Present, Backlog: &Backlog{Depth: 3, Pending: 2, AckPending: 1, OldestSeconds: new(Seconds(5))}},
	}
	idle := known
	idle.Consumer.Backlog = &Backlog{}
	missing := Partition{Stream: Stream{State: Missing}, Consumer: Consumer{State: Missing}}
	unasked := Partition{Stream: Stream{State: Unknown}, Consumer: Consumer{State: Unknown}}
	undrained := known
	undrained.Consumer = Consumer{State: Missing}
	unlimited := known
	unlimited.Stream.Usage = &Usage{Bytes: 50, LimitBytes: -1}

	sum := total([]Partition{idle, known, missing})
	if got, want := *sum.Usage, (Usage{Messages: 2, Bytes: 100, LimitBytes: 200, UsedPercent: 50}); got != want {
		t.Errorf("usage %+v, want %+v", got, want)
	}
	if b := sum.Backlog; b.Depth != 3 || b.Pending != 2 || b.AckPending != 1 || *b.OldestSeconds != 5 {
		t.Errorf("backlog %+v", *b)
	}
	if sum := total([]Partition{known, unasked}); sum.Usage != nil || sum.Backlog != nil {
		t.Errorf("a partition that did not answer: %+v", sum)
	}
	if sum := total([]Partition{undrained, known}); sum.Usage == nil || sum.Backlog != nil {
		t.Errorf("a partition without a consumer: %+v", sum)
	}
	if u := total([]Partition{known, unlimited}).Usage; u.LimitBytes != -1 || u.UsedPercent != 0 {
		t.Errorf("a partition without a limit: %+v", *u)
	}
}
