package main

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/yagi-crash/yagi/deploy/internal/queuestatus"
	"github.com/yagi-crash/yagi/pkg/settings"
)

// troubled is a status with something of everything.
func troubled() *queuestatus.Status {
	replicas := []queuestatus.Replica{
		{Server: "n2", Current: true},
		{Server: "n3", LagOperations: 1200, SeenSeconds: 0.3},
	}
	return &queuestatus.Status{
		Server: &queuestatus.Server{Name: "n1", Version: "2.15.2", MinVersion: "2.15.2"},
		Sync: []queuestatus.Sync{
			{Address: "n1:8222", Server: "n1", Mode: queuestatus.SyncAlways},
			{Address: "n2:8222", Server: "n2", Mode: queuestatus.SyncInterval, IntervalSeconds: 120},
			{Address: "n3:8222", Mode: queuestatus.SyncUnknown},
		},
		Partitions: []queuestatus.Partition{
			{
				Configured: true,
				Stream: queuestatus.Stream{
					Name: "CRASHES_0", State: queuestatus.Present, Replicas: replicas,
					Copies: []queuestatus.Copy{{Server: "n1", Leads: true, Messages: 20000}, {Server: "n2", Messages: 20000}, {Server: "n3", Messages: 18800}},
					Usage:  &queuestatus.Usage{Messages: 20000, Bytes: 9 << 30, LimitBytes: 10 << 30, UsedPercent: 90},
				},
				Consumer: queuestatus.Consumer{
					State:       queuestatus.Present,
					Backlog:     &queuestatus.Backlog{Depth: 12345, Pending: 12300, AckPending: 45, Redelivered: 7, OldestSeconds: new(queuestatus.Seconds(1234.567))},
					Differences: []queuestatus.Difference{{On: "consumer uploader of CRASHES_0", Field: "ack_wait", Want: "1m0s", Live: "5s"}},
				},
				Others: []queuestatus.Other{{Name: "debug", Behind: 1234}, {Name: "replay-0123456789ab-k3v", Behind: 1}},
			},
			{Partition: 1, Configured: true, Stream: queuestatus.Stream{Name: "CRASHES_1", State: queuestatus.Missing}},
			{
				Partition: 12,
				Stream:    queuestatus.Stream{Name: "CRASHES_12", State: queuestatus.Present, Usage: &queuestatus.Usage{Bytes: 512, LimitBytes: -1}},
				Consumer:  queuestatus.Consumer{State: queuestatus.Unknown},
			},
		},
		Total:       queuestatus.Total{Usage: &queuestatus.Usage{Bytes: 9<<30 + 512, LimitBytes: -1}},
		DeadLetters: queuestatus.Stream{Name: "CRASHES_DLQ", State: queuestatus.Present, Usage: &queuestatus.Usage{Messages: 5678, Bytes: 5 << 20}},
		DeadReports: new(uint64(1234)),
		Held:        queuestatus.Held{Stream: queuestatus.Stream{Name: "CRASHES_HELD", State: queuestatus.Present}, Reports: new(uint64(12))},
		Intakes: []queuestatus.Service{
			{Address: "i1:8000", Trouble: []string{}},
			{Address: "i2:8000", Trouble: []string{"nats: away", "publish: nothing"}},
			{Address: "i3:8000", Problem: "connection refused"},
		},
		Uploaders: []queuestatus.Uploader{
			{Service: queuestatus.Service{Address: "u1:8002"}, BreakerOpen: new(false), Concurrency: new(16)},
			{Service: queuestatus.Service{Address: "u2:8002"}, BreakerOpen: new(true), Concurrency: new(1)},
			{Service: queuestatus.Service{Address: "u3:8002", Problem: "connection refused"}},
		},
		Bucket:     &queuestatus.Bucket{Name: "crashes", State: queuestatus.Missing, Problem: "there is no such bucket"},
		Attention:  []string{"stream CRASHES_1 is missing"},
		CannotTell: []string{"consumer uploader of CRASHES_12: no answer within 5s"},
	}
}

// Columns line up within 80 columns; what is not known has a question mark.
func TestTable(t *testing.T) {
	const want = `server        n1, nats-server 2.15.2
syncs         n1 always, n2 every 2m0s, n3:8222 unknown
dead letters  1,234, 5.0 MiB
held reports  12
bucket        crashes missing
intakes       i1:8000 well; i2:8000 in trouble; i3:8000 unknown
uploaders     u1:8002 breaker closed, 16 at a time; u2:8002 breaker open; u3:8002 unknown

STREAM        DEPTH  OLDEST  UNACKED  REDELIVERED     SIZE   LIMIT  FULL
CRASHES_0    12,345  20m35s       45            7  9.0 GiB  10 GiB   90%
CRASHES_1   missing
CRASHES_12        ?       ?        ?            ?    512 B    none     -
total             ?       ?        ?            ?  9.0 GiB    none     -

messages on each server:
  CRASHES_0:  n1 20,000 (leader)  n2 20,000  n3 18,800

worth knowing:
  stream CRASHES_0: consumer debug has yet to acknowledge 1,234 message(s), and nothing is trimmed from the first of them on: remove it if nobody needs it
  stream CRASHES_0: replay k3v is at work, or was interrupted: nothing is trimmed that it has yet to read, for an hour after its last step at the most
  stream CRASHES_0: replica n3 is 1,200 operation(s) behind
  consumer uploader of CRASHES_0: ack_wait is 5s, should be 1m0s
  CRASHES_12 is beyond NATS_PARTITIONS: intake does not fill it, uploaders drain it

cannot tell:
  consumer uploader of CRASHES_12: no answer within 5s

needs attention:
  stream CRASHES_1 is missing
`
	var out strings.Builder
	if err := printTable(&out, troubled()); err != nil {
		t.Fatal(err)
	}
	if out.String() != want {
		t.Errorf("printed\n%s\nwant\n%s", out.String(), want)
	}
}

// All is well only where all was looked at.
func TestTableWhenAllIsWell(t *testing.T) {
	for _, c := range []struct {
		forget func(*queuestatus.Status)
		want   string
	}{
		{func(*queuestatus.Status) {}, "\nall is well\n"},
		{func(s *queuestatus.Status) { s.Bucket = nil }, "\nall is well that was looked at; what is unknown was not\n"},
		{func(s *queuestatus.Status) { s.Intakes = nil }, "\nall is well that was looked at; what is unknown was not\n"},
		{func(s *queuestatus.Status) { s.Uploaders = nil }, "\nall is well that was looked at; what is unknown was not\n"},
		{func(s *queuestatus.Status) { s.Sync = nil }, "\nall is well that was looked at; what is unknown was not\n"},
		{func(s *queuestatus.Status) { s.Attention = []string{"something"} }, "\nneeds attention:\n  something\n"},
	} {
		s := troubled()
		s.Attention, s.CannotTell = nil, nil
		c.forget(s)
		var out strings.Builder
		if err := printTable(&out, s); err != nil || !strings.HasSuffix(out.String(), c.want) {
			t.Errorf("printed\n%s%v, which does not end with %s", out.String(), err, c.want)
		}
	}
}

// The JSON's fields are a promise to whoever reads them.
func TestJSONFields(t *testing.T) {
	const want = `attention
bucket
bucket.name
bucket.note
bucket.problem
bucket.state
cannot_tell
dead_letters
dead_letters.copies
dead_letters.differences
dead_letters.leader
dead_letters.name
dead_letters.replicas
dead_letters.state
dead_letters.usage
dead_letters.usage.bytes
dead_letters.usage.limit_bytes
dead_letters.usage.messages
dead_letters.usage.used_percent
dead_reports
held
held.last_cause
held.last_class
held.reports
held.stream
held.stream.copies
held.stream.differences
held.stream.leader
held.stream.name
held.stream.replicas
held.stream.state
held.stream.usage
intakes
intakes.address
intakes.problem
intakes.trouble
partitions
partitions.configured
partitions.consumer
partitions.consumer.backlog
partitions.consumer.backlog.ack_pending
partitions.consumer.backlog.depth
partitions.consumer.backlog.max_ack_pending
partitions.consumer.backlog.oldest_seconds
partitions.consumer.backlog.paused_seconds
partitions.consumer.backlog.pending
partitions.consumer.backlog.redelivered
partitions.consumer.differences
partitions.consumer.differences.fatal
partitions.consumer.differences.field
partitions.consumer.differences.live
partitions.consumer.differences.on
partitions.consumer.differences.unsafe
partitions.consumer.differences.want
partitions.consumer.name
partitions.consumer.state
partitions.other_consumers
partitions.other_consumers.behind
partitions.other_consumers.name
partitions.partition
partitions.stream
partitions.stream.copies
partitions.stream.copies.bytes
partitions.stream.copies.first_sequence
partitions.stream.copies.last_sequence
partitions.stream.copies.leads
partitions.stream.copies.messages
partitions.stream.copies.problem
partitions.stream.copies.server
partitions.stream.differences
partitions.stream.leader
partitions.stream.name
partitions.stream.replicas
partitions.stream.replicas.current
partitions.stream.replicas.lag_operations
partitions.stream.replicas.offline
partitions.stream.replicas.seen_seconds
partitions.stream.replicas.server
partitions.stream.state
partitions.stream.usage
partitions.stream.usage.bytes
partitions.stream.usage.limit_bytes
partitions.stream.usage.messages
partitions.stream.usage.used_percent
server
server.min_version
server.name
server.problem
server.version
sync
sync.address
sync.interval_seconds
sync.mode
sync.server
total
total.backlog
total.usage
total.usage.bytes
total.usage.limit_bytes
total.usage.messages
total.usage.used_percent
uploaders
uploaders.address
uploaders.breaker_open
uploaders.concurrency
uploaders.problem
uploaders.trouble`
	var out strings.Builder
	if err := printJSON(&out, troubled()); err != nil {
		t.Fatal(err)
	}
	var doc any
	if err := json.Unmarshal([]byte(out.String()), &doc); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	collect(names, "", doc)
	if got := strings.Join(slices.Sorted(maps.Keys(names)), "\n"); got != want {
		t.Errorf("fields\n%s\nwant\n%s", got, want)
	}
}

func collect(names map[string]bool, path string, doc any) {
	switch doc := doc.(type) {
	case map[string]any:
		for name, value := range doc {
			names[path+name] = true
			collect(names, path+name+".", value)
		}
	case []any:
		for _, value := range doc {
			collect(names, path, value)
		}
	}
}

// Lists are never null, also when nothing is known.
func TestJSONOfNothing(t *testing.T) {
	var out strings.Builder
	if err := printJSON(&out, queuestatus.Nothing(errors.New("no connection"))); err != nil {
		t.Fatal(err)
	}
	requireWords(t, out.String(), `"server": null`, `"sync": []`, `"partitions": []`, `"intakes": []`, `"uploaders": []`, `"attention": []`, `"cannot_tell": [`)
}

// Help is enough for a newcomer: the settings with their defaults, the exit
// codes and an example.
func TestHelp(t *testing.T) {
	var cfg Config
	if err := settings.Load([]string{"NATS_URL=nats://127.0.0.1:4222"}, &cfg); err != nil {
		t.Fatal(err)
	}
	for command, own := range map[string][]string{
		"stream apply": {"--yes"},
		"status":       {"--json", "--watch", "--every", "NATS_MONITOR_URL", "INTAKE_URL", "UPLOADER_URL", "0  all is well"},
	} {
		got := crashctl(t, nil, append(strings.Fields(command), "--help")...)
		if got.code != 0 || got.errors != "" {
			t.Errorf("%s: exit code %d, stderr %q", command, got.code, got.errors)
		}
		requireWords(t, got.out, append(own, "Exit codes:\n", "crashctl "+command+"\n", "--timeout=5s")...)
		for _, s := range settings.Effective(&cfg.Queue) {
			requireWords(t, got.out, s.Key)
			if s.Default != "" {
				requireWords(t, got.out, "("+s.Default+")")
			}
		}
		for line := range strings.Lines(got.out) {
			if len(line) > 81 {
				t.Errorf("%s: %q has more than 80 columns", command, line)
			}
		}
	}
	got := crashctl(t, nil, "--help")
	requireWords(t, got.out, "status", "stream apply", "NATS_URL")
	if got := crashctl(t, nil, "--version"); got.code != 0 || !strings.HasPrefix(got.out, "crashctl ") {
		t.Errorf("%+v", got)
	}
}

func TestWrongUsage(t *testing.T) {
	for _, args := range [][]string{nil, {"stream"}, {"status", "--nope"}, {"status", "--watch", "--every=0s"}, {"status", "--timeout=soon"}, {"streams"}} {
		got := crashctl(t, nil, args...)
		if got.code != 2 || got.out != "" {
			t.Errorf("%v: %+v", args, got)
		}
		command := "crashctl "
		if len(args) > 0 && args[0] != "streams" {
			command += args[0] + " "
		}
		requireWords(t, got.errors, "crashctl: ", command+"--help tells how it is used.\n")
	}
}
