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
