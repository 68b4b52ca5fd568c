package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// A held report is acknowledged to its stream's consumer, so that its reference alone
// keeps it from being trimmed. References are lost with CRASHES_HELD, or expire while
// somebody has set it up so. A stream that is re-created or mended looks like one in
// which nothing was ever held. Hence each report stream records, in its metadata, the
// generation of CRASHES_HELD that has its references. Both are written by crashctl
// stream apply alone, and by nobody while references may be lost without an operator
// having accepted that (RiskHeld).
const (
	// recordedGeneration is the key in the metadata of a report stream.
	recordedGeneration = "yagi-held"
	// mendedAt is the key in the metadata of CRASHES_HELD: when apply last changed what
	// may have lost references.
	mendedAt = "yagi-mended"
)

// generationOf names a time in which CRASHES_HELD has lost no reference: since it was
// created, or mended.
func generationOf(held *StreamInfo) string {
	generation := "created " + held.Created.UTC().Format(time.RFC3339Nano)
	if mended := metadataOf(held.Config)[mendedAt]; mended != "" {
		generation += ", mended " + mended
	}
	return generation
}

// metadataOf reads the metadata of a stream; nil when it has no metadata.
func metadataOf(config json.RawMessage) map[string]string {
	var fields struct {
		Metadata map[string]string `json:"metadata"`
	}
	_ = json.Unmarshal(config, &fields) // an unsafe difference, where it fails
	return fields.Metadata
}

// CheckGeneration returns an unsafe difference when reports of a stream, of which config
// is the live configuration, may have been held by references that held, the stream of
// references, does not have; nil otherwise.
func CheckGeneration(stream string, config json.RawMessage, held *StreamInfo) []Difference {
	live, recorded := generationOf(held), metadataOf(config)[recordedGeneration]
	if live == recorded {
		return nil
	}
	d := Difference{
		On: "stream " + HeldStream, Field: "generation", Live: live + " (references to held reports may be lost)",
		Want: recorded + ", as recorded with " + stream, Unsafe: true,
	}
	if recorded == "" {
		d.Live, d.Want = live, "recorded with "+stream
	}
	return []Difference{d}
}

// planGenerations plans to record the generation with every report stream that there
// is, left-behind partitions too. A stream that has none recorded comes from a release
// that held nothing, and loses nothing. While CRASHES_HELD is missing, or has yet to
// be mended, there is nothing to accept: the next plan has it.
func planGenerations(ctx context.Context, js jetstream.JetStream) (plan []Change, err error) {
	held, err := askStream(ctx, js, HeldStream, "")
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		held, err = nil, nil
	}
	if err != nil {
		return nil, err
	}
	var numbers []int
	names := js.StreamNames(ctx, jetstream.WithStreamListSubject(Subjects))
	for name := range names.Name() {
		if p, ok := PartitionOf(name); ok {
			numbers = append(numbers, p)
		}
	}
	if err := names.Err(); err != nil {
		return nil, fmt.Errorf("listing the streams: %w", err)
	}
	slices.Sort(numbers)
	for _, p := range numbers {
		info, err := askStream(ctx, js, StreamName(p), "")
		if err != nil {
			return nil, err
		}
		plan = append(plan, planGeneration(js, StreamName(p), info, held)...)
	}
	return plan, nil
}

// planGeneration is planGenerations for one stream; held is nil when it is missing.
func planGeneration(js jetstream.JetStream, stream string, info, held *StreamInfo) []Change {
	recorded := metadataOf(info.Config)[recordedGeneration]
	if held == nil && recorded != "" || held != nil && recorded == generationOf(held) {
		return nil
	}
	c := Change{
		Does: fmt.Sprintf("record with stream %s that %s has its references to held reports", stream, HeldStream), Unsafe: true,
		Do: func(ctx context.Context) error { return recordGeneration(ctx, js, stream) },
	}
	if recorded != "" {
		c.Risks = []Risk{{RiskHeld, fmt.Sprintf(
			"%s is not the one that was recorded (%s): reports of %s that were held then and are not in the bucket will be trimmed; "+
				"crashctl audit names them, and crashctl replay stores them", HeldStream, recorded, stream)}}
	}
	return []Change{c}
}

// recordGeneration writes it to the stream's metadata, and leaves all else as it is.
func recordGeneration(ctx context.Context, js jetstream.JetStream, stream string) error {
	held, err := askStream(ctx, js, HeldStream, "")
	if err != nil {
		return err
	}
	live, err := askStream(ctx, js, stream, "")
	if err != nil {
		return err
	}
	config, err := withMetadata(live.Config, recordedGeneration, generationOf(held))
	if err != nil {
		return err
	}
	return explain(request(ctx, js, "STREAM.UPDATE."+stream, config, &struct{}{}))
}

// createStream creates a stream, a report stream with the generation recorded.
func createStream(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) error {
	if _, ok := PartitionOf(want.Name); ok {
		held, err := askStream(ctx, js, HeldStream, "")
		if err != nil {
			return err
		}
		want.Metadata = map[string]string{recordedGeneration: generationOf(held)}
	}
	_, err := js.CreateStream(ctx, want)
	return explain(err)
}

// withMetadata sets one key in the metadata of a stream's configuration.
func withMetadata(config json.RawMessage, key, value string) (json.RawMessage, error) {
	var fields map[string]any
	if err := unmarshalExactly(config, &fields); err != nil {
		return nil, fmt.Errorf("reading the stream's configuration: %w", err)
	}
	metadata, _ := fields["metadata"].(map[string]any)
	if metadata == nil {
		metadata = map[string]any{}
	}
	metadata[key] = value
	fields["metadata"] = metadata
	text, err := json.Marshal(fields)
	if err != nil {
		return nil, fmt.Errorf("writing the stream's configuration: %w", err)
	}
	return text, nil
}
