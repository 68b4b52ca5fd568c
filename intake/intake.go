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
	"net/http"
	"strings"
	"time"

	"github.com/yagi-crash/yagi/intake/internal/breakpad"
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
	rules     throttle.Rules
	submitter settings.Secret // token of those who may choose ids
	queue     publisher
	now       func() time.Time
}

// receive is the whole life of a report in this tier. Every error tells the
// client something if it is a *crash.Refusal, and is a fault of ours otherwise.
func (v *receiver) receive(r *http.Request) (*crash.Report, throttle.Ruling, error) {
	report, err := breakpad.Parse(r, v.limits)
	if err != nil {
		return nil, throttle.Ruling{}, err
	}
	report.Received = v.now().UTC()
	ruling := v.rules.Judge(report.Annotations)
	report.Metadata.ThrottleRule = ruling.Rule
	if err := v.identify(r, report, ruling); err != nil {
		return report, ruling, err
	}
	if ruling.Outcome == crash.Reject || ruling.Outcome == crash.FakeAccept {
		return report, ruling, nil
	}
	report.Scrub()
	sealed, err := report.Seal()
	if err != nil {
		return report, ruling, err
	}
	// A client that hangs up now has still sent a whole report. Nor does the
	// body's read deadline matter any more, at which net/http ends the context.
	return report, ruling, v.queue.Publish(context.WithoutCancel(r.Context()), sealed)
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
