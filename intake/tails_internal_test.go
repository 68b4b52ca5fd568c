package intake

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

// Acks that overtake each other, and those of reports that were there already, are no
// loss; one is told once, and the next one again.
func TestTails(t *testing.T) {
	var all tails
	ack := func(sequence uint64) *jetstream.PubAck { return &jetstream.PubAck{Sequence: sequence} }
	none := all.now(0)
	for i, step := range []struct {
		partition int
		before    func() tail
		ack       *jetstream.PubAck
		lost      uint64
	}{
		{0, func() tail { return none }, ack(11), 0},
		{0, func() tail { return none }, ack(10), 0}, // sent at the same time
		{0, func() tail { return all.now(0) }, &jetstream.PubAck{Sequence: 3, Duplicate: true}, 0},
		{0, func() tail { return all.now(0) }, ack(12), 0},
		{1, func() tail { return all.now(1) }, ack(5), 0}, // another partition
		{0, func() tail { return tail{sequence: 12} }, ack(9), 4},
		{0, func() tail { return tail{sequence: 12} }, ack(10), 0}, // sent with the one before
		{0, func() tail { return all.now(0) }, ack(11), 0},
		{0, func() tail { return all.now(0) }, ack(1), 11},
		{0, func() tail { return all.now(0) }, ack(2), 0},
	} {
		if lost := all.acknowledged(step.partition, step.before(), step.ack); lost != step.lost {
			t.Errorf("step %d: %d are lost, want %d", i, lost, step.lost)
		}
	}
}
