package queue

import (
	"context"

	"github.com/nats-io/nats.go/jetstream"
)

// Inspection is what a look at a partition found.
type Inspection struct {
	Stream   *StreamInfo
	Consumer *ConsumerInfo // of the uploaders
	// Differences are those of the stream, of the consumer, and the subjects with
	// messages that nobody reads.
	Differences []Difference
}

// Inspect looks at partition p's stream and at the uploaders' consumer. With an error
// the inspection holds what was found before it.
func Inspect(ctx context.Context, js jetstream.JetStream, p int, cfg Config) (found Inspection, err error) {
	name := StreamName(p)
	if found.Stream, err = AskStream(ctx, js, name); err != nil {
		return found, err
	}
	found.Differences = append(CheckStream(StreamConfig(p, cfg), found.Stream.Config),
		CheckSubjects(p, found.Stream.State.Subjects)...)
	if found.Consumer, err = AskConsumer(ctx, js, name, Consumer); err != nil {
		return found, err
	}
	found.Differences = append(found.Differences, CheckConsumer(name, ConsumerConfig(p, cfg), found.Consumer.Config)...)
	return found, nil
}

// InspectDeadLetters returns how the stream of dead letters differs from the wanted
// one. The error wraps jetstream.ErrStreamNotFound when the stream is missing.
func InspectDeadLetters(ctx context.Context, js jetstream.JetStream, cfg Config) ([]Difference, error) {
	info, err := askStream(ctx, js, DeadLetterStream, "")
	if err != nil {
		return nil, err
	}
	return CheckStream(DeadLetterConfig(cfg), info.Config), nil
}

// HeldInspection is what a look at the stream of references found.
type HeldInspection struct {
	Stream *StreamInfo
	// Held are the held reports of the partition that was asked about, by sequence.
	Held []Held
	// Differences are those of the stream and of its consumer.
	Differences []Difference
}

// InspectHeld looks at the stream of references to held reports and at its consumer.
// The error wraps jetstream.ErrStreamNotFound or jetstream.ErrConsumerNotFound when one
// of them is missing; with an error the inspection holds what was found before it.
func InspectHeld(ctx context.Context, js jetstream.JetStream, cfg Config) (HeldInspection, error) {
	return inspectHeld(ctx, js, cfg, "")
}

// InspectHeldOf is InspectHeld with the held reports of partition p.
func InspectHeldOf(ctx context.Context, js jetstream.JetStream, cfg Config, p int) (HeldInspection, error) {
	return inspectHeld(ctx, js, cfg, heldSubjectsOf(p))
}

func inspectHeld(ctx context.Context, js jetstream.JetStream, cfg Config, subjects string) (found HeldInspection, err error) {
	if found.Stream, err = askStream(ctx, js, HeldStream, subjects); err != nil {
		return found, err
	}
	found.Held = heldIn(found.Stream)
	found.Differences = CheckStream(HeldConfig(cfg), found.Stream.Config)
	consumer, err := AskConsumer(ctx, js, HeldStream, Consumer)
	if err != nil {
		return found, err
	}
	found.Differences = append(found.Differences, CheckConsumer(HeldStream, HeldConsumerConfig(), consumer.Config)...)
	return found, nil
}
