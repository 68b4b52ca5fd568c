// Package queuestatus tells how the queue is: how much waits in it and for how
// long, and whether streams, consumers, replicas and servers are as package
// queue wants them. It only asks, and it never guesses: what could not be found
// out is null or "unknown", and named in Status.CannotTell.
package queuestatus

import (
	"strconv"
	"time"

	"github.com/yagi-crash/yagi/pkg/queue"
)

// State tells whether a stream or a consumer is there.
type State string

// States of a stream or a consumer.
const (
	Present State = "present"
	Missing State = "missing"
	Unknown State = "unknown" // it could not be asked about
)

// Status is what one look at the queue found. Its JSON is read by machines:
// fields may be added, never renamed.
type Status struct {
	// Server is the one that crashctl is connected to; null without one.
	Server *Server `json:"server"`
	// Sync has an entry for each monitoring address that is known.
	Sync []Sync `json:"sync"`
	// Partitions are those that exist and those that should, by number.
	Partitions []Partition `json:"partitions"`
	Total      Total       `json:"total"`
	// DeadLetters is the stream CRASHES_DLQ.
	DeadLetters Stream `json:"dead_letters"`
	// DeadReports is how many reports it has; null when that is not known.
	DeadReports *uint64 `json:"dead_reports"`
	// Held are the reports that failed and are set aside, to be retried at leisure.
	Held Held `json:"held"`
	// Bucket is null when it was not asked about.
	Bucket *Bucket `json:"bucket"`
	// Intakes has an entry for each intake whose address is known.
	Intakes []Service `json:"intakes"`
	// Uploaders has an entry for each uploader whose address is known.
	Uploaders []Uploader `json:"uploaders"`
	// Attention lists, in words, what somebody should look at.
	Attention []string `json:"attention"`
	// CannotTell lists what was asked and could not be found out.
	CannotTell []string `json:"cannot_tell"`
}

// Held is the stream of references to held reports, and what it has.
type Held struct {
	Stream Stream `json:"stream"`
	// Reports is how many reports are held; null when that is not known.
	Reports *uint64 `json:"reports"`
	// LastClass and LastCause are why the last of them was held; empty when none is.
	LastClass string `json:"last_class"`
	LastCause string `json:"last_cause"`
}

// Server is a nats-server.
type Server struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	// MinVersion is the oldest that may carry reports (queue.MinServerVersion).
	MinVersion string `json:"min_version"`
	// Problem is what queue.CheckServer says of it; empty when all is well.
	Problem string `json:"problem"`
}

// SyncMode tells when a server brings what it has acknowledged to the disk.
type SyncMode string

// Modes of syncing.
const (
	SyncAlways   SyncMode = "always"   // before it acknowledges
	SyncInterval SyncMode = "interval" // from time to time
	SyncUnknown  SyncMode = "unknown"
)

// Sync is what a server's monitoring address says about syncing.
type Sync struct {
	// Address is the host and port that were asked.
	Address string `json:"address"`
	// Server is the server's name; empty when it did not answer.
	Server string   `json:"server"`
	Mode   SyncMode `json:"mode"`
	// IntervalSeconds is the time between syncs in the mode "interval", else 0.
	IntervalSeconds Seconds `json:"interval_seconds"`
}

// Partition is one stream of reports and the consumer that drains it.
type Partition struct {
	Partition int `json:"partition"`
	// Configured says that intake fills it (it is below NATS_PARTITIONS).
	// Uploaders drain the others too.
	Configured bool     `json:"configured"`
	Stream     Stream   `json:"stream"`
	Consumer   Consumer `json:"consumer"`
	// Others are the durable consumers beside the uploaders' that are behind.
	Others []Other `json:"other_consumers"`

	flow flow
}

// Stream is one stream.
type Stream struct {
	Name  string `json:"name"`
	State State  `json:"state"`
	// Usage is null unless the stream is present.
	Usage *Usage `json:"usage"`
	// Leader is the name of the server that leads it; empty when there is none.
	Leader string `json:"leader"`
	// Replicas are the other servers that hold it.
	Replicas []Replica `json:"replicas"`
	// Copies are what the servers that hold it say of it themselves, as far as
	// their monitoring addresses are known; none of a stream on one server.
	Copies      []Copy       `json:"copies"`
	Differences []Difference `json:"differences"`

	created time.Time
	live    *queue.StreamInfo // nil when it is missing or unknown
}

// Usage is how full a stream is, or several together.
type Usage struct {
	Messages uint64 `json:"messages"`
	Bytes    uint64 `json:"bytes"`
	// LimitBytes is the size at which new messages are refused; -1 for none.
	LimitBytes int64 `json:"limit_bytes"`
	// UsedPercent is Bytes in percent of LimitBytes; 0 without a limit.
	UsedPercent float64 `json:"used_percent"`
}

// Replica is a server that holds a copy of a stream that another one leads.
type Replica struct {
	Server  string `json:"server"`
	Offline bool   `json:"offline"`
	// Current says that it has all that the leader has.
	Current bool `json:"current"`
	// LagOperations is how many operations it is behind the leader.
	LagOperations uint64 `json:"lag_operations"`
	// SeenSeconds is how long ago the leader last heard of it.
	SeenSeconds Seconds `json:"seen_seconds"`
}

// Consumer is the uploaders' consumer of a stream.
type Consumer struct {
	Name  string `json:"name"`
	State State  `json:"state"`
	// Backlog is null unless the consumer is present.
	Backlog     *Backlog     `json:"backlog"`
	Differences []Difference `json:"differences"`
}

// Backlog is what is not uploaded yet.
type Backlog struct {
	// Depth is the number of reports that are not uploaded yet: Pending and
	// AckPending together.
	Depth uint64 `json:"depth"`
	// Pending reports were not handed to an uploader yet.
	Pending uint64 `json:"pending"`
	// AckPending reports are in the hands of uploaders.
	AckPending uint64 `json:"ack_pending"`
	// MaxAckPending is how many AckPending may be: at that many nothing new is
	// delivered. It is 0 when there is no limit, and the sum in a total.
	MaxAckPending uint64 `json:"max_ack_pending"`
	// Redelivered counts those of AckPending that were handed out before.
	Redelivered uint64 `json:"redelivered"`
	// PausedSeconds is for how much longer nothing is handed out (crashctl pause);
	// 0 when that is not so.
	PausedSeconds Seconds `json:"paused_seconds"`
	// OldestSeconds is how long ago, by the server's clock, the oldest of them
	// was stored; null when there is none, or when it could not be found.
	OldestSeconds *Seconds `json:"oldest_seconds"`
}

// Total is all partitions together.
type Total struct {
	// Usage is null when a stream could not be asked.
	Usage *Usage `json:"usage"`
	// Backlog is null when the backlog of a partition is not known.
	Backlog *Backlog `json:"backlog"`
}

// Seconds is a duration, with milliseconds.
type Seconds float64

// String is for people, such as 16m5s.
func (s Seconds) String() string {
	return time.Duration(float64(s) * float64(time.Second)).Round(time.Second).String()
}

func seconds(d time.Duration) Seconds { return Seconds(d.Round(time.Millisecond).Seconds()) }

// Difference is a queue.Difference: one way in which a stream or a consumer is
// not what it should be. An unsafe one could lose or hide reports; a fatal one
// could too, and uploaders refuse to work with it.
type Difference struct {
	On     string `json:"on"`
	Field  string `json:"field"`
	Want   string `json:"want"`
	Live   string `json:"live"`
	Unsafe bool   `json:"unsafe"`
	Fatal  bool   `json:"fatal"`
}

// String says the difference in words.
func (d Difference) String() string { return queue.Difference(d).String() }

// fewer tells whether there are fewer copies of a stream than there should be.
func (d Difference) fewer() bool {
	live, err := strconv.Atoi(d.Live)
	want, wantErr := strconv.Atoi(d.Want)
	return d.Field == "num_replicas" && err == nil && wantErr == nil && live < want
}

func differences(found []queue.Difference) []Difference {
	all := make([]Difference, 0, len(found))
	for _, d := range found {
		all = append(all, Difference(d))
	}
	return all
}
