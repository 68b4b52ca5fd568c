package queuestatus

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/dustin/go-humanize"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/yagi-crash/yagi/deploy/internal/replay"
	"github.com/yagi-crash/yagi/pkg/queue"
)

// Other is a durable consumer of a stream of reports beside the uploaders'. What it
// has yet to acknowledge is never trimmed, whoever left it there.
type Other struct {
	Name string `json:"name"`
	// Behind is how many messages it has yet to acknowledge.
	Behind uint64 `json:"behind"`
}

// String says what it does to the stream.
func (o *Other) String() string {
	if run := replay.RunOf(o.Name); run != "" { // what is behind its window is counted too
		return "replay " + run + " is at work, or was interrupted: nothing is trimmed that it has yet to read, for an hour after its last step at the most"
	}
	return fmt.Sprintf("consumer %s has yet to acknowledge %s message(s), and nothing is trimmed from the first of them on: remove it if nobody needs it",
		o.Name, humanize.Comma(int64(o.Behind)))
}

// readOtherConsumers lists those that are behind, by name.
func readOtherConsumers(ctx context.Context, stream jetstream.Stream) ([]Other, error) {
	all := []Other{}
	list := stream.ListConsumers(ctx)
	for info := range list.Info() {
		behind := info.NumPending + uint64(info.NumAckPending)
		if info.Config.Durable == "" || info.Name == queue.Consumer || behind == 0 {
			continue
		}
		all = append(all, Other{Name: info.Name, Behind: behind})
	}
	slices.SortFunc(all, func(a, b Other) int { return cmp.Compare(a.Name, b.Name) })
	return all, list.Err()
}
