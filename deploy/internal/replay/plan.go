// Package replay puts reports that are still in the queue into the bucket again:
// those of a window of time, or the ones among them that are asked for.
package replay

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/yagi-crash/yagi/deploy/internal/scan"
	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/queue"
)

// Plan says which reports are replayed. A report has to fit every field that is
// not empty.
type Plan struct {
	// Since and Until bound when the queue got the report, on the server's clock;
	// Until itself is not within.
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`
	// IDs, Products and Rules are the reports' ids, ProductName annotations, and
	// the throttle rules that let them in.
	IDs      []crash.ID `json:"ids"`
	Products []string   `json:"products"`
	Rules    []string   `json:"rules"`
}

// consumer is the name of the durable consumers that keep how far a run of the plan
// has come. It has a hash of the plan in it: no run goes on with another plan.
func (p *Plan) consumer(run string) (string, error) {
	text, err := json.Marshal(p)
	if err != nil {
		return "", fmt.Errorf("writing the plan: %w", err)
	}
	return fmt.Sprintf("%s%.12x-%s", prefix, sha256.Sum256(text), run), nil
}

// prefix begins the names of the consumers of every replay.
const prefix = "replay-"

// RunOf returns the name of the run that a consumer of this name belongs to; empty
// when it belongs to none.
func RunOf(consumer string) string {
	if rest, ok := strings.CutPrefix(consumer, prefix); ok {
		_, run, _ := strings.Cut(rest, "-")
		return run
	}
	return ""
}

// chosen tells whether the plan is about this ready message. One that says nothing
// of itself fits only a plan of everything.
func (p *Plan) chosen(ctx context.Context, reader *queue.Reader, stream string, header nats.Header, body []byte) (bool, error) {
	m, err := queue.ReadManifest(header)
	switch {
	case err != nil:
		return len(p.IDs)+len(p.Products)+len(p.Rules) == 0, nil
	case len(p.IDs) > 0 && !slices.Contains(p.IDs, m.ID):
		return false, nil
	case !p.looksInside():
		return true, nil
	}
	s, err := reader.Read(ctx, stream, m, body)
	if err != nil {
		return false, fmt.Errorf("reading %s: %w", m.ID, err)
	}
	var raw struct {
		ProductName string
		Metadata    struct {
			Rule string `json:"throttle_rule"`
		} `json:"metadata"`
	}
	text, err := s.RawCrash.AppendTo(nil)
	if err == nil {
		err = json.Unmarshal(text, &raw)
	}
	if err != nil {
		return false, fmt.Errorf("reading raw_crash of %s: %w", m.ID, err)
	}
	return fits(p.Products, raw.ProductName) && fits(p.Rules, raw.Metadata.Rule), nil
}

// looksInside tells whether the plan asks for what only the report itself says.
func (p *Plan) looksInside() bool { return len(p.Products)+len(p.Rules) > 0 }

func fits(wanted []string, got string) bool { return len(wanted) == 0 || slices.Contains(wanted, got) }

// Extent is what a plan comes to in one stream.
type Extent struct {
	Stream string `json:"stream"`
	// Done are messages of the window that an interrupted run had come to; they
	// are counted in none of the following.
	Done uint64 `json:"done"`
	// Reports are those that fit, Bytes their sizes together.
	Reports uint64 `json:"reports"`
	Bytes   int64  `json:"bytes"`
	// Others are in the window and do not fit.
	Others uint64 `json:"others"`
	// Unread could not be read to see whether they fit.
	Unread uint64 `json:"unread"`
	// Last is the sequence of the last ready message in the window; 0 when there
	// is none.
	Last uint64 `json:"last"`
	// Found are those of the plan's IDs that are among the done and the reports.
	Found []crash.ID `json:"found"`
	// Begins is when the stream got the oldest message that it still has; zero
	// when it has none.
	Begins time.Time `json:"begins"`
}

// Look finds out what a plan comes to in a stream after the message done, and
// changes nothing. seen is called for each message of the window, with how many are
// left in its stream.
func (p *Plan) Look(ctx context.Context, js jetstream.JetStream, stream string, done uint64, seen func(left uint64)) (Extent, error) {
	e := Extent{Stream: stream}
	s, err := js.Stream(ctx, stream)
	if err != nil {
		return e, fmt.Errorf("looking for %s: %w", stream, err)
	}
	if state := s.CachedInfo().State; state.Msgs > 0 {
		e.Begins = state.FirstTime
	}
	number, _ := queue.PartitionOf(stream)
	reader := queue.NewReader(js)
	window := scan.Window{Subject: queue.ReadySubject(number), Since: p.Since, Until: p.Until, HeadersOnly: !p.looksInside()}
	err = scan.Each(ctx, js, stream, window, func(m *scan.Message) error {
		seen(m.Left)
		e.Last = m.Sequence
		if m.Sequence <= done {
			e.Done++
			e.found(m, p)
			return nil
		}
		ok, err := p.chosen(ctx, reader, stream, m.Header, m.Data)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			e.Unread++
		case !ok:
			e.Others++
		default:
			e.Reports++
			e.found(m, p)
			e.Bytes += sizeOf(m)
		}
		return nil
	})
	return e, err
}

// found notes a report that is asked for by its id.
func (e *Extent) found(m *scan.Message, p *Plan) {
	if manifest, err := queue.ReadManifest(m.Header); err == nil && slices.Contains(p.IDs, manifest.ID) {
		e.Found = append(e.Found, manifest.ID)
	}
}

// Missing lists the plan's IDs that none of the extents has found.
func (p *Plan) Missing(extents []Extent) []crash.ID {
	return slices.DeleteFunc(slices.Clone(p.IDs), func(id crash.ID) bool {
		return slices.ContainsFunc(extents, func(e Extent) bool { return slices.Contains(e.Found, id) })
	})
}

// sizeOf returns the size of a message's report.
func sizeOf(m *scan.Message) int64 {
	if manifest, err := queue.ReadManifest(m.Header); err == nil {
		return manifest.Size()
	}
	return m.Size
}
