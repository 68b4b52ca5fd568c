package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// HeldStream keeps references to held reports (Held).
	HeldStream = "CRASHES_HELD"
	// heldSubjects matches every reference.
	heldSubjects = "crashheld.>"
	// MaxHeld is how many reports may be held at a time. Beyond it a report that
	// fails stays with its consumer, and counts against NATS_MAX_ACK_PENDING.
	MaxHeld = 50_000
	// heldBytes is room for as many references: about 400 bytes each, headers
	// and the server's own bytes included.
	heldBytes = 32 << 20

	headerHeldClass = "Yagi-Held-Class"
	headerHeldCause = "Yagi-Held-Cause"
	// maxHeldCause bounds the cause in a reference, in bytes.
	maxHeldCause = 160
)

// Held refers to a report that uploaders have set aside: its ready message stays
// where it is, and is acknowledged to its stream's consumer, so that it no longer
// takes a place among those that may be unacknowledged (NATS_MAX_ACK_PENDING) and
// no number of such reports stops the others. Uploaders retry it from the
// reference. Trimming stops below the lowest one.
type Held struct {
	Stream   string
	Sequence uint64
	Stored   time.Time // when that message was, on the server's clock: a re-created stream counts from 1 again
	Class    string    // of the last error before it was held, as the uploader's metrics have it
	Cause    string    // that error in words, on one line
}

// HeldConfig returns what the stream of references must be.
func HeldConfig(cfg Config) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              HeldStream,
		Description:       "References to crash reports that are held: they failed and are retried at leisure",
		Subjects:          []string{heldSubjects},
		Storage:           jetstream.FileStorage,
		Retention:         jetstream.WorkQueuePolicy, // a reference goes when it is acknowledged
		Discard:           jetstream.DiscardNew,
		MaxBytes:          heldBytes,
		MaxMsgs:           MaxHeld,
		MaxMsgSize:        -1,
		MaxConsumers:      -1,
		MaxMsgsPerSubject: -1,
		Duplicates:        DuplicateWindow,
		Replicas:          cfg.Replicas,
		AllowDirect:       true,
		Compression:       jetstream.NoCompression,
	}
}

// HeldConsumerConfig returns what the uploaders' consumer of the references must
// be. All of them may wait for a retry at a time, so that none blocks another.
func HeldConsumerConfig() jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable:       Consumer,
		Description:   "Uploaders take held reports from here",
		FilterSubject: heldSubjects,
		DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       AckWait,
		MaxDeliver:    -1,
		MaxAckPending: MaxHeld,
		MaxWaiting:    2048,
		ReplayPolicy:  jetstream.ReplayInstantPolicy,
	}
}

// Hold returns nil once the reference is durable. A report that is held already
// is held by the same one. The error wraps jetstream.ErrNoStreamResponse when there
// is no stream of references; when it is full, errors.Is finds nothing of ours.
func Hold(ctx context.Context, js jetstream.JetStream, h Held) error {
	p, ok := PartitionOf(h.Stream)
	if !ok {
		return fmt.Errorf("%s is no stream of reports", h.Stream)
	}
	msg := &nats.Msg{Subject: h.subject(p), Header: nats.Header{
		headerHeldClass: {h.Class},
		headerHeldCause: {oneLine(h.Cause, maxHeldCause)},
	}}
	_, err := js.PublishMsg(ctx, msg, jetstream.WithExpectStream(HeldStream), jetstream.WithExpectLastSequencePerSubject(0))
	if api, ok := errors.AsType[*jetstream.APIError](err); ok && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence {
		return nil
	}
	if err != nil {
		return fmt.Errorf("publishing to %s: %w", HeldStream, err)
	}
	return nil
}

// subject is that of this report's reference alone, so that there is never a
// second one.
func (h *Held) subject(p int) string {
	return fmt.Sprintf("crashheld.%d.%d.%d", p, h.Sequence, h.Stored.UnixNano())
}

// ReadHeld reads a reference. The header may be nil: then its class and cause are
// empty.
func ReadHeld(subject string, header nats.Header) (Held, error) {
	h := Held{Class: header.Get(headerHeldClass), Cause: header.Get(headerHeldCause)}
	fields := strings.Split(subject, ".")
	if len(fields) != 4 || fields[0]+".>" != heldSubjects {
		return h, fmt.Errorf("%w: %s refers to no report", ErrDamaged, subject)
	}
	p, errPartition := strconv.Atoi(fields[1])
	seq, errSequence := strconv.ParseUint(fields[2], 10, 64)
	at, errTime := strconv.ParseInt(fields[3], 10, 64)
	if err := errors.Join(errPartition, errSequence, errTime); err != nil {
		return h, fmt.Errorf("%w: %s refers to no report: %w", ErrDamaged, subject, err)
	}
	h.Stream, h.Sequence, h.Stored = StreamName(p), seq, time.Unix(0, at)
	return h, nil
}

// HeldReports lists the reports of a stream that are held, by sequence, without
// class and cause; with the stream's name empty, those of every stream, and in no
// order. The error wraps jetstream.ErrStreamNotFound when there is no stream of
// references.
func HeldReports(ctx context.Context, js jetstream.JetStream, stream string) ([]Held, error) {
	filter := heldSubjects
	if stream != "" {
		p, ok := PartitionOf(stream)
		if !ok {
			return nil, fmt.Errorf("%s is no stream of reports", stream)
		}
		filter = heldSubjectsOf(p)
	}
	info, err := askStream(ctx, js, HeldStream, filter)
	if err != nil {
		return nil, err
	}
	return heldIn(info), nil
}

// heldSubjectsOf matches every reference to a report of partition p.
func heldSubjectsOf(p int) string { return fmt.Sprintf("crashheld.%d.>", p) }

// heldIn reads the references that a look at their stream found.
func heldIn(info *StreamInfo) []Held {
	held := make([]Held, 0, len(info.State.Subjects))
	for subject := range maps.Keys(info.State.Subjects) {
		if h, err := ReadHeld(subject, nil); err == nil { // nobody but Hold has business there
			held = append(held, h)
		}
	}
	slices.SortFunc(held, func(a, b Held) int { return cmp.Compare(a.Sequence, b.Sequence) })
	return held
}

// oneLine is a text that fits a header: on one line, cut to at most so many bytes.
func oneLine(text string, most int) string {
	text = strings.Join(strings.Fields(text), " ")
	return strings.ToValidUTF8(text[:min(len(text), most)], "")
}
