// Package intake is the front tier: it takes crash reports in over HTTP,
// decides which are kept, gives each an id, and promises it to the queue.
//
// A client reads "CrashID=" only once the stream has its report on disk.
// Intake itself keeps nothing, so any number of them may run side by side.
package intake

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/yagi-crash/yagi/intake/internal/breakpad"
	"github.com/yagi-crash/yagi/intake/internal/spool"
	"github.com/yagi-crash/yagi/intake/internal/throttle"
	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/settings"
)

// publisher promises reports to the queue.
type publisher interface {
	// Publish returns nil once the report is on disk. What it refuses may be
	// stored all the same, but is not promised.
	Publish(context.Context, *crash.Sealed) error
}

// receiver turns requests into promised reports.
type receiver struct {
	limits    breakpad.Limits
	rules     judge
	submitter settings.Secret // token of those who may choose ids
	foreign   foreignUUID
	slots     *slots
	store     *spool.Store
	room      *promises // whether the store has room for newcomers
	// parsers bounds how many reports are parsed at a time, and so the memory that
	// parsing takes beside the store.
	parsers  parsers
	decoders *breakpad.Decoders
	queue    publisher
	now      func() time.Time
}

// verdict is what became of a report.
type verdict struct {
	id                 crash.ID
	ruling             throttle.Ruling
	annotations, dumps int
	sealed             *crash.Sealed // nil: it is not kept
}

// receive is the whole life of a report in this tier. Every error tells the
// client something if it is a *crash.Refusal, and is a fault of ours otherwise.
func (v *receiver) receive(r *http.Request, from *pacedBody) (verdict, error) {
	post, err := breakpad.Open(r, v.limits)
	if err != nil {
		return verdict{}, err
	}
	// A client that hangs up behind its last byte has still sent a whole report. Nor
	// does the body's read deadline matter then, at which net/http ends the context.
	ctx := context.WithoutCancel(r.Context())
	if err := from.begin(r, func() bool { return v.slots.areFree() && v.store.HasRoom(post.Size) }); err != nil {
		return verdict{}, err
	}
	slot, err := v.slots.acquire(ctx, from)
	if err != nil {
		return verdict{}, crash.Unavailable(err)
	}
	defer slot.release()
	body, err := v.admit(ctx, post.Size, from)
	if err != nil {
		return verdict{}, crash.Unavailable(err)
	}
	defer body.Release()
	if err := post.Receive(from, body); err != nil {
		return verdict{}, slot.explain(err)
	}
	verdict, err := v.judge(r, post, body)
	if err != nil || verdict.sealed == nil {
		return verdict, err
	}
	return verdict, v.queue.Publish(ctx, verdict.sealed)
}

// admit asks the store for a body of the announced size. Its reading is interrupted if
// the body is evicted.
func (v *receiver) admit(ctx context.Context, size int64, from *pacedBody) (*spool.Body, error) {
	began := time.Now()
	v.room.begin()
	body, err := v.store.Admit(ctx, size, func() { from.Interrupt() })
	v.room.ended(began, err)
	return body, err
}

// judge parses a report, throttles it, gives it its id, and seals it if it is to
// be kept. What it allocates is let go when it returns.
func (v *receiver) judge(r *http.Request, post *breakpad.Post, body *spool.Body) (verdict, error) {
	window, release := v.parsers.acquire(post.Work())
	defer release()
	report, err := post.Parse(window, v.decoders)
	if err != nil {
		return verdict{}, err
	}
	report.Received = v.now().UTC()
	ruling := v.rules.Judge(report.Annotations)
	report.Metadata.ThrottleRule = ruling.Rule
	err = v.identify(r, report, ruling)
	verdict := verdict{id: report.ID, ruling: ruling, annotations: len(report.Annotations), dumps: len(report.Dumps)}
	if err != nil || ruling.Outcome == crash.Reject || ruling.Outcome == crash.FakeAccept {
		return verdict, err
	}
	verdict.sealed, err = seal(report, body)
	return verdict, err
}

// seal makes of a report what is stored. Its document joins the dumps in the
// store, because the report may have to wait for the queue.
func seal(report *crash.Report, body *spool.Body) (*crash.Sealed, error) {
	report.Scrub()
	sealed, err := report.Seal()
	if err != nil {
		return nil, err
	}
	start := body.Size()
	if _, err := body.ReadFrom(sealed.RawCrash.Reader()); err != nil {
		return nil, crash.Unavailable(err)
	}
	sealed.RawCrash.Data = io.NewSectionReader(body, start, sealed.RawCrash.Size)
	return sealed, nil
}

// identify gives the report its id: the one in the annotation uuid, which only
// a submitter may send, or a new one.
func (v *receiver) identify(r *http.Request, report *crash.Report, ruling throttle.Ruling) error {
	value, given := report.Annotations["uuid"]
	if !given {
		report.ID = crash.NewID(report.Received, ruling.Outcome)
		return nil
	}
	if !v.isSubmitter(r) {
		if v.foreign == ignoreForeign {
			report.ID = crash.NewID(report.Received, ruling.Outcome)
			report.Metadata.Notes = append(report.Metadata.Notes, "uuid of an unknown submitter was ignored")
			return nil
		}
		return &crash.Refusal{Reason: crash.ReasonUnauthorizedUUID, Status: http.StatusUnauthorized}
	}
	var text string
	if err := json.Unmarshal(value, &text); err != nil {
		return crash.Malformed(crash.ReasonInvalidUUID, err)
	}
	id, err := crash.ParseID(text)
	if err != nil {
		return crash.Malformed(crash.ReasonInvalidUUID, err)
	}
	report.ID, report.IDGiven = id, true
	return nil
}

func (v *receiver) isSubmitter(r *http.Request) bool {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	want := v.submitter.Reveal()
	return ok && want != "" && subtle.ConstantTimeCompare([]byte(token), []byte(want)) == 1
}
