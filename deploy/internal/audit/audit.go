// Package audit compares the queue with the bucket: what intake promised has to be
// in either.
package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/yagi-crash/yagi/deploy/internal/deadletters"
	"github.com/yagi-crash/yagi/deploy/internal/lookup"
	"github.com/yagi-crash/yagi/deploy/internal/scan"
	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/layout"
	"github.com/yagi-crash/yagi/pkg/queue"
)

// atOnce is how many objects are asked for at a time.
const atOnce = 16

// Lookup returns an object's SHA-256 and size. The error wraps lookup.ErrNoObject
// when there is no such object.
type Lookup func(ctx context.Context, key string) (crash.Digest, int64, error)

// Report is what an audit found of a report of which something is amiss.
type Report struct {
	ID       crash.ID  `json:"crash_id"` // empty when its message does not say
	Stream   string    `json:"stream"`
	Sequence uint64    `json:"sequence"`
	Time     time.Time `json:"time"` // when the queue got it
	// What is amiss, in words: the objects that are missing or not what intake
	// received.
	What string `json:"what"`
}

// Findings are what an audit found.
type Findings struct {
	// Reports are the ready messages in the window, and those outside of it that the
	// ledger lists and that are lost. Each is counted in one of the following.
	Reports uint64 `json:"reports"`
	Stored  uint64 `json:"stored"`
	// Waiting are not stored yet, as they should be in the queue; held ones too.
	Waiting uint64 `json:"waiting"`
	// Dead are dead letters.
	Dead uint64 `json:"dead"`
	// Lost were acknowledged, and are not in the bucket as they should be.
	Lost []Report `json:"lost"`
	// Unsure are more than uploaders have in hand, and not in the bucket either: some
	// of them are lost, the others wait, and the queue does not tell which.
	Unsure []Report `json:"unsure"`

	// Short names the streams whose beginning, with part of the window, is gone: what
	// was there was stored, and nothing is known of it.
	Short []string `json:"short"`
	// Gaps are sequences within the streams whose messages are not there any
	// more, although only a stream's beginning is ever trimmed.
	Gaps []string `json:"gaps"`
	// Unknown are subjects of the streams with messages that nobody reads. Those were
	// promised, perhaps, and the audit has not looked at them.
	Unknown []string `json:"unknown"`
	// Unqueued are ids of the ledger that are nowhere: not waiting in the queue, not
	// in the bucket, not among the dead letters.
	Unqueued []crash.ID `json:"unqueued"`
	// Ledger is how many ids the ledger has.
	Ledger int `json:"ledger"`
}

// Amiss tells whether somebody should look at what was found.
func (f *Findings) Amiss() bool {
	return len(f.Lost)+len(f.Unsure)+len(f.Gaps)+len(f.Unknown)+len(f.Unqueued) > 0
}

// Audit is an audit of a window of time.
type Audit struct {
	JS     jetstream.JetStream
	Lookup Lookup
	// Since and Until bound when the queue got a report; Until itself is not
	// within.
	Since, Until time.Time
	// Seen is called for each message, with how many are left in its stream.
	Seen func(left uint64)

	mu       sync.Mutex
	findings Findings
	ids      map[crash.ID]state // the best of what is known of its messages
	floors   map[string]uint64  // of each stream: up to there all was acknowledged when it began
	waiting  []unsettled
	held     map[message]bool
	// manifests are those of what seems lost; nil where there is none.
	manifests map[message]*queue.Manifest
	dead      map[message]bool
	deadIDs   map[crash.ID]bool
}

// state is how it stands with a report, worst first.
type state int

const (
	amiss state = iota + 1 // 0 is for what was not seen
	waiting
	stored
)

// message is where a report was.
type message struct {
	stream   string
	sequence uint64
}

// Run compares what the streams have in the window, and what the ledger lists, with
// the bucket. It changes nothing. The error is about the queue or the bucket not
// answering; then nothing is known.
func (a *Audit) Run(ctx context.Context, streams []string, ledger []crash.ID) (*Findings, error) {
	a.findings = Findings{Lost: []Report{}, Unsure: []Report{}, Short: []string{}, Gaps: []string{}, Unknown: []string{}, Unqueued: []crash.ID{}, Ledger: len(ledger)}
	a.ids, a.floors, a.waiting = map[crash.ID]state{}, map[string]uint64{}, nil
	a.manifests = map[message]*queue.Manifest{}
	a.held, a.dead, a.deadIDs = map[message]bool{}, map[message]bool{}, map[crash.ID]bool{}
	if err := a.readDead(ctx); err != nil {
		return nil, err
	}
	for _, stream := range streams {
		if err := a.stream(ctx, stream); err != nil {
			return nil, fmt.Errorf("auditing %s: %w", stream, err)
		}
	}
	if err := a.readHeld(ctx); err != nil { // now, since what was acknowledged before was held before
		return nil, err
	}
	if err := a.readDead(ctx); err != nil { // some may have died meanwhile
		return nil, err
	}
	for _, stream := range streams {
		if err := a.settle(ctx, stream); err != nil {
			return nil, fmt.Errorf("auditing %s: %w", stream, err)
		}
	}
	if err := a.lookAgain(ctx); err != nil {
		return nil, err
	}
	if err := a.sort(ctx, streams); err != nil {
		return nil, err
	}
	if err := a.ledger(ctx, streams, ledger); err != nil {
		return nil, err
	}
	return &a.findings, nil
}

// readDead notes which reports are dead letters.
func (a *Audit) readDead(ctx context.Context) error {
	letters, err := deadletters.Open(ctx, a.JS)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	all, err := letters.List(ctx)
	for _, d := range all {
		a.dead[message{d.From, d.FromSequence}] = true
		if d.ID != "" {
			a.deadIDs[d.ID] = true
		}
	}
	return err
}

// readHeld notes which reports are held: acknowledged, and to be stored later.
func (a *Audit) readHeld(ctx context.Context) error {
	all, err := queue.HeldReports(ctx, a.JS, "")
	if errors.Is(err, jetstream.ErrStreamNotFound) { // what was held there counts as missing
		return nil
	}
	for _, h := range all {
		a.held[message{h.Stream, h.Sequence}] = true
	}
	return err
}

// stream audits the window of one stream.
func (a *Audit) stream(ctx context.Context, name string) error {
	if err := a.gaps(ctx, name); err != nil {
		return err
	}
	// The floor comes first: what is acknowledged later is stored even more so.
	consumer, err := a.JS.Consumer(ctx, name, queue.Consumer)
	if err != nil {
		return fmt.Errorf("asking for consumer %s: %w", queue.Consumer, err)
	}
	floor := consumer.CachedInfo().AckFloor.Stream
	a.floors[name] = floor
	number, _ := queue.PartitionOf(name)
	window := scan.Window{Subject: queue.ReadySubject(number), Since: a.Since, Until: a.Until, HeadersOnly: true}
	group, working := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	err = scan.Each(working, a.JS, name, window, func(m *scan.Message) error {
		a.Seen(m.Left)
		group.Go(func() error { return a.report(working, name, floor, m) })
		return working.Err()
	})
	return cmp.Or(group.Wait(), err) // of which one ends the other
}

// gaps notes what is missing at the beginning and in the middle of a stream, and what
// lies where nobody looks.
func (a *Audit) gaps(ctx context.Context, name string) error {
	s, err := a.JS.Stream(ctx, name)
	if err != nil {
		return fmt.Errorf("asking for the stream: %w", err)
	}
	live, err := queue.AskStream(ctx, a.JS, name)
	if err != nil {
		return err
	}
	number, _ := queue.PartitionOf(name)
	for _, d := range queue.CheckSubjects(number, live.State.Subjects) {
		a.findings.Unknown = append(a.findings.Unknown, d.String())
	}
	state := live.State
	if state.FirstSeq > 1 && (state.Msgs == 0 || state.FirstTime.After(a.Since)) {
		begins := "any more"
		if state.Msgs > 0 {
			begins = "from before " + state.FirstTime.UTC().Format(time.RFC3339)
		}
		a.findings.Short = append(a.findings.Short, name+" has nothing "+begins)
	}
	if state.NumDeleted == 0 {
		return nil
	}
	info, err := s.Info(ctx, jetstream.WithDeletedDetails(true))
	if err != nil {
		return fmt.Errorf("asking for what is missing: %w", err)
	}
	for first, last := range runs(info.State.Deleted) {
		a.findings.Gaps = append(a.findings.Gaps, fmt.Sprintf("messages %d to %d of %s", first, last, name))
	}
	return nil
}

// runs yields the first and the last of each run of numbers without a gap.
func runs(sorted []uint64) func(yield func(first, last uint64) bool) {
	return func(yield func(first, last uint64) bool) {
		for i := 0; i < len(sorted); {
			first := i
			for i++; i < len(sorted) && sorted[i] == sorted[i-1]+1; i++ {
			}
			if !yield(sorted[first], sorted[i-1]) {
				return
			}
		}
	}
}

// report looks for a report's objects.
func (a *Audit) report(ctx context.Context, stream string, floor uint64, m *scan.Message) error {
	r := Report{Stream: stream, Sequence: m.Sequence, Time: m.Time}
	manifest, err := queue.ReadManifest(m.Header)
	if err != nil {
		r.What = err.Error()
	} else {
		r.ID = manifest.ID
		if r.What, err = a.compare(ctx, manifest); err != nil {
			return err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.findings.Reports++
	is := amiss
	switch {
	case r.What == "":
		is = stored
		a.findings.Stored++
	case m.Sequence > floor && !a.dead[message{stream, m.Sequence}]:
		is = waiting
		a.findings.Waiting++
		a.waiting = append(a.waiting, unsettled{r, manifest})
	default: // lost, or held, or dead, or queued again: sort will tell
		a.findings.Lost = append(a.findings.Lost, r)
		a.manifests[message{stream, m.Sequence}] = manifest
	}
	if r.ID != "" {
		a.ids[r.ID] = max(a.ids[r.ID], is)
	}
	return nil
}

// compare says which of a report's objects are missing or not what intake received;
// it is empty when all is well.
func (a *Audit) compare(ctx context.Context, m *queue.Manifest) (string, error) {
	s := &crash.Sealed{ID: m.ID, Received: m.Received}
	for i, p := range m.Parts {
		part := crash.Part{Name: p.Name, Size: p.Size, SHA256: p.SHA256} // the digest is all that is needed
		if i == 0 {
			s.RawCrash = part
		} else {
			s.Dumps = append(s.Dumps, part)
		}
	}
	objects, err := layout.Objects(s)
	if err != nil {
		return "", err
	}
	for _, o := range slices.Backward(objects) { // raw_crash is the last to be written
		got, size, err := a.Lookup(ctx, o.Key)
		switch {
		case errors.Is(err, lookup.ErrNoObject):
			return o.Key + " is missing", nil
		case err != nil:
			return "", err
		case got != o.Part.SHA256 || size != o.Part.Size:
			return o.Key + " is not what intake received", nil
		}
	}
	return "", nil
}

// lookAgain takes out of what seems lost what was held when the bucket was asked, and
// has been stored since.
func (a *Audit) lookAgain(ctx context.Context) error {
	seem := a.findings.Lost
	a.findings.Lost = []Report{}
	for _, r := range seem {
		at := message{r.Stream, r.Sequence}
		if manifest := a.manifests[at]; manifest != nil && !a.held[at] && !a.dead[at] {
			what, err := a.compare(ctx, manifest)
			if err != nil {
				return err
			}
			if what == "" {
				a.findings.Stored++
				a.ids[r.ID] = stored
				continue
			}
		}
		a.findings.Lost = append(a.findings.Lost, r)
	}
	return nil
}

// sort takes out of what seems lost what is a dead letter, what was put back into
// the queue, and what another report has replaced whose client chose the same id.
func (a *Audit) sort(ctx context.Context, streams []string) error {
	seem := a.findings.Lost
	a.findings.Lost = []Report{}
	wanted, known := map[crash.ID]bool{}, map[message]bool{}
	for _, r := range seem {
		wanted[r.ID] = r.ID != ""
		known[message{r.Stream, r.Sequence}] = true
	}
	if _, err := a.everywhere(ctx, streams, wanted, known); err != nil {
		return err
	}
	for _, r := range seem {
		switch {
		case a.held[message{r.Stream, r.Sequence}]:
			a.findings.Waiting++
		case a.dead[message{r.Stream, r.Sequence}]:
			a.findings.Dead++
		case a.ids[r.ID] == stored:
			a.findings.Stored++
		case a.ids[r.ID] == waiting:
			a.findings.Waiting++
		case a.deadIDs[r.ID]: // it was put back into the queue, and died again
			a.findings.Dead++
		default:
			a.findings.Lost = append(a.findings.Lost, r)
		}
	}
	slices.SortFunc(a.findings.Lost, byTime)
	return nil
}

// ledger looks for each id of the ledger: in the window, among the dead letters, in
// all of the queue, and only then in the bucket alone.
func (a *Audit) ledger(ctx context.Context, streams []string, ids []crash.ID) error {
	outside := map[crash.ID]bool{}
	for _, id := range ids {
		if a.ids[id] == 0 && !a.deadIDs[id] {
			outside[id] = true
		}
	}
	lost, err := a.everywhere(ctx, streams, outside, nil)
	if err != nil {
		return err
	}
	for id, r := range lost {
		if a.ids[id] == amiss {
			a.findings.Reports++
			a.findings.Lost = append(a.findings.Lost, r)
		}
	}
	slices.SortFunc(a.findings.Lost, byTime)
	group, working := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for id := range outside {
		if a.ids[id] != 0 {
			continue
		}
		group.Go(func() error {
			_, _, err := a.Lookup(working, layout.RawCrash(id))
			if !errors.Is(err, lookup.ErrNoObject) {
				return err
			}
			a.mu.Lock()
			defer a.mu.Unlock()
			a.findings.Unqueued = append(a.findings.Unqueued, id)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("looking for the ledger's reports: %w", err)
	}
	slices.Sort(a.findings.Unqueued)
	return nil
}

// everywhere compares those of the reports with the bucket that the queue still has,
// in the window or not, and notes the best of what it finds of each; known messages it
// leaves out. It returns those that are acknowledged and not stored; another message of
// theirs may be.
func (a *Audit) everywhere(ctx context.Context, streams []string, wanted map[crash.ID]bool, known map[message]bool) (map[crash.ID]Report, error) {
	lost := map[crash.ID]Report{}
	if len(wanted) == 0 {
		return lost, nil
	}
	group, working := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for _, stream := range streams {
		number, _ := queue.PartitionOf(stream)
		err := scan.Each(working, a.JS, stream, scan.Window{Subject: queue.ReadySubject(number), HeadersOnly: true}, func(m *scan.Message) error {
			manifest, err := queue.ReadManifest(m.Header)
			if err != nil || !wanted[manifest.ID] || known[message{stream, m.Sequence}] {
				return nil
			}
			r := Report{ID: manifest.ID, Stream: stream, Sequence: m.Sequence, Time: m.Time}
			group.Go(func() (err error) {
				if r.What, err = a.compare(working, manifest); err == nil {
					a.note(r, lost)
				}
				return err
			})
			return working.Err()
		})
		if err != nil {
			return nil, cmp.Or(group.Wait(), err)
		}
	}
	return lost, group.Wait()
}

// note remembers what was found of a message.
func (a *Audit) note(r Report, lost map[crash.ID]Report) {
	a.mu.Lock()
	defer a.mu.Unlock()
	is := amiss
	switch {
	case r.What == "":
		is = stored
	case r.Sequence > a.floors[r.Stream], a.held[message{r.Stream, r.Sequence}]: // it waits, whatever became of others
		is = waiting
	default:
		lost[r.ID] = r
	}
	a.ids[r.ID] = max(a.ids[r.ID], is)
}

func byTime(x, y Report) int { return x.Time.Compare(y.Time) }
