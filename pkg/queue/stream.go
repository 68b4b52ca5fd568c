package queue

import (
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/yagi-crash/yagi/pkg/crash"
)

// Names on the server. A partition's stream and subjects are given by
// StreamName, ReadySubject and ChunkSubject.
const (
	// Consumer is the durable consumer that the uploaders share, one on each
	// partition's stream.
	Consumer = "uploader"
	// DeadLetterStream keeps what can never be stored, with its cause.
	DeadLetterStream = "CRASHES_DLQ"
	// Subjects matches the subjects of every partition.
	Subjects = "crash.>"

	streamPrefix = "CRASHES_"
)

const (
	// MaxPayload is what Yagi's server configurations allow for one message,
	// in bytes. The server warns above it, and 20 MB messages were measured
	// to bring a consumer down to one message a second.
	MaxPayload = 8 << 20
	// ChunkSize is the size of a chunk, in bytes: a stock server's max_payload of
	// 1 MiB has room for one, and eight fill a block of its file.
	ChunkSize = 1_000_000
	// MaxHeader is the largest header of a message that a server takes, in bytes.
	MaxHeader = 64 << 10
	// MaxChunks is the largest number of chunks that a ready message can list.
	MaxChunks = MaxHeader / 8
	// LongSequence has as many digits as any stream sequence has for a long time: a
	// thousand messages a second take 30 years to come so far.
	LongSequence uint64 = 999_999_999_999
	// headerRoom is kept free of the server's max_payload for the headers.
	headerRoom = MaxHeader
	// chunkHeaderRoom is the same for a chunk, whose only header names the stream.
	chunkHeaderRoom = 1 << 10

	// DuplicateWindow is how long the server recognises a repeated publish. It
	// outlasts intake's retries within a partition; a longer one makes a server
	// that restarts read every payload in it. A report that is stored twice all
	// the same is put into the bucket twice, with the same bytes.
	DuplicateWindow = 2 * time.Minute
	// ReadyDeadline is the longest time from a report's first chunk to its ready
	// message. What lies longer than that before an unfinished report may be
	// trimmed, so intake stays far below it.
	ReadyDeadline = 10 * time.Minute

	// AckWait is how long an uploader may be silent about a message before
	// another one gets it.
	AckWait = 60 * time.Second
	// InProgressEvery is how often an uploader says that it is still at it.
	InProgressEvery = AckWait / 3
)

// InlineLimit returns the largest body, in bytes, that fits one message on a
// server with the given max_payload.
func InlineLimit(maxPayload int64) int {
	return int(max(0, min(maxPayload, MaxPayload)-headerRoom))
}

// ChunkLimit returns the largest chunk, in bytes, where a message of maxMessage bytes is
// the largest that is taken; 0 means that no chunk is. A chunk has one short header.
func ChunkLimit(maxMessage int64) int {
	return int(max(0, min(maxMessage-chunkHeaderRoom, ChunkSize)))
}

// StreamName returns the name of partition p's stream.
func StreamName(p int) string { return fmt.Sprintf("%s%d", streamPrefix, p) }

// PartitionOf reads a partition's stream name; ok is false for any other.
func PartitionOf(stream string) (p int, ok bool) {
	if _, err := fmt.Sscanf(strings.TrimPrefix(stream, streamPrefix), "%d", &p); err != nil || p < 0 {
		return 0, false
	}
	return p, StreamName(p) == stream
}

// ReadySubject returns the subject of partition p's reports.
func ReadySubject(p int) string { return fmt.Sprintf("crash.%d.ready", p) }

// ChunkSubject returns the subject of the pieces of partition p's reports.
func ChunkSubject(p int) string { return fmt.Sprintf("crash.%d.chunk", p) }

// Partition returns the partition, of n, that a report belongs to.
func Partition(id crash.ID, n int) int {
	h := fnv.New32a()
	h.Write([]byte(id))
	return int(h.Sum32() % uint32(n))
}

// StreamConfig returns what partition p's stream must be.
func StreamConfig(p int, cfg Config) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              StreamName(p),
		Description:       "Crash reports on their way to the bucket",
		Subjects:          []string{ReadySubject(p), ChunkSubject(p)},
		Storage:           jetstream.FileStorage,
		Retention:         jetstream.LimitsPolicy, // stored reports stay for replay until trimmed
		Discard:           jetstream.DiscardNew,   // full means refuse, never forget
		MaxBytes:          int64(cfg.StreamMaxBytes),
		MaxMsgs:           -1,
		MaxMsgSize:        -1,
		MaxConsumers:      -1,
		MaxMsgsPerSubject: -1,
		MaxAge:            0, // age would delete what is not stored yet
		Duplicates:        DuplicateWindow,
		Replicas:          cfg.Replicas,
		AllowDirect:       true, // chunks are read by sequence
		DenyDelete:        true, // only whole ranges are trimmed
		Compression:       jetstream.NoCompression,
	}
}

// ConsumerConfig returns what the uploaders' consumer must be.
func ConsumerConfig(p int, cfg Config) jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable:       Consumer,
		Description:   "Uploaders take reports from here",
		FilterSubject: ReadySubject(p),
		DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       AckWait,
		MaxDeliver:    -1, // an outage must not use attempts up
		MaxAckPending: cfg.MaxAckPending,
		MaxWaiting:    2048, // pulls at a time, over all uploaders; cannot be changed later
		ReplayPolicy:  jetstream.ReplayInstantPolicy,
	}
}

// DeadLetterConfig returns what the stream of dead letters must be.
func DeadLetterConfig(cfg Config) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              DeadLetterStream,
		Description:       "Crash reports that can never be stored, with their cause",
		Subjects:          []string{"crashdlq.>"},
		Storage:           jetstream.FileStorage,
		Retention:         jetstream.LimitsPolicy,
		Discard:           jetstream.DiscardNew,
		MaxBytes:          int64(cfg.StreamMaxBytes) / 10, // dead letters are rare
		MaxMsgs:           -1,
		MaxMsgSize:        -1,
		MaxConsumers:      -1,
		MaxMsgsPerSubject: -1,
		Duplicates:        DuplicateWindow,
		Replicas:          cfg.Replicas,
		AllowDirect:       true,
		Compression:       jetstream.NoCompression,
	}
}
