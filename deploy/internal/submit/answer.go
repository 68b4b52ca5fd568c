package submit

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/yagi-crash/yagi/pkg/crash"
)

// Answer is what an intake said to a report.
type Answer struct {
	Status int
	// ID is the report's id if the answer promises it, and otherwise empty.
	ID crash.ID
	// ForShow says that the answer has an id by which nothing is ever stored.
	ForShow bool
	// Discarded is the reason that the answer gives for turning the report away.
	Discarded string
}

// Promised tells whether the report is to be in the bucket.
func (a Answer) Promised() bool { return a.ID != "" }

// Ruled tells whether a throttle rule decided not to store the report.
func (a Answer) Ruled() bool {
	return a.ForShow || a.Status == http.StatusOK && strings.HasPrefix(a.Discarded, "rule_")
}

// String is the answer without what differs from report to report.
func (a Answer) String() string {
	switch {
	case a.Promised():
		return fmt.Sprintf("%d CrashID", a.Status)
	case a.ForShow:
		return fmt.Sprintf("%d CrashID, for show", a.Status)
	case a.Discarded != "":
		return fmt.Sprintf("%d Discarded=%s", a.Status, a.Discarded)
	default:
		return fmt.Sprintf("%d without CrashID or Discarded", a.Status)
	}
}

// reason is what may be repeated of an answer: whatever stands at the URL may
// answer anything.
var reason = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,100}$`)

func read(status int, text string) Answer {
	a := Answer{Status: status}
	text = strings.TrimSpace(text)
	if why, ok := strings.CutPrefix(text, "Discarded="); ok && reason.MatchString(why) {
		a.Discarded = why
	}
	id, ok := strings.CutPrefix(text, "CrashID=bp-")
	if !ok || status != http.StatusOK {
		return a
	}
	if stored, err := crash.ParseID(id); err == nil {
		a.ID = stored
		return a
	}
	a.ForShow = isForShow(id)
	return a
}

// isForShow knows an id by its outcome, which ParseID lets nobody use.
func isForShow(id string) bool {
	const digit = len("de1bb258-cbbf-4589-a673-34f80") // where the outcome stands
	if len(id) <= digit || id[digit] != crash.FakeAccept.Digit() {
		return false
	}
	_, err := crash.ParseID(id[:digit] + string(crash.Accept.Digit()) + id[digit+1:])
	return err == nil
}
