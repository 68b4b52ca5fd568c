package crash_test

import (
	"errors"
	"regexp"
	"testing"
	"time"

	"github.com/yagi-crash/yagi/pkg/crash"
)

var noon = time.Date(2016, 9, 18, 12, 0, 0, 0, time.UTC)

// Socorro's own check (socorro/lib/libooid.py).
var socorroID = regexp.MustCompile(`^[a-f0-9]{8}-[a-f0-9]{4}-[a-f0-9]{4}-[a-f0-9]{4}-[a-f0-9]{6}[0-9]{6}$`)

func TestNewIDIsWhatSocorroReads(t *testing.T) {
	seen := map[crash.ID]bool{}
	for range 1000 {
		id := crash.NewID(noon, crash.Defer)
		if !socorroID.MatchString(string(id)) {
			t.Fatalf("%s is not a crash id", id)
		}
		if got, err := crash.ParseID(string(id)); got != id || err != nil {
			t.Fatalf("ParseID(%s) = %s, %v", id, got, err)
		}
		if id.Outcome() != crash.Defer || id.Day() != "20160918" || id[14] != '4' {
			t.Fatalf("%s: outcome %s, day %s, version %c", id, id.Outcome(), id.Day(), id[14])
		}
		if seen[id] {
			t.Fatalf("%s was made twice", id)
		}
		seen[id] = true
	}
}

// The day is UTC's, wherever the server stands.
func TestNewIDUsesTheDayInUTC(t *testing.T) {
	late := time.Date(2026, 1, 1, 0, 30, 0, 0, time.FixedZone("east", 3600))
	if got := crash.NewID(late, crash.Accept).Day(); got != "20251231" {
		t.Errorf("day %s, want 20251231", got)
	}
}

func TestParseIDRefusesWhatIsNoID(t *testing.T) {
	for name, s := range map[string]string{
		"empty":              "",
		"too short":          "de1bb258-cbbf-4589-a673-34f80016091",
		"too long":           "de1bb258-cbbf-4589-a673-34f8001609180",
		"newline behind":     "de1bb258-cbbf-4589-a673-34f80016091\n",
		"upper case":         "DE1BB258-cbbf-4589-a673-34f800160918",
		"not hexadecimal":    "ge1bb258-cbbf-4589-a673-34f800160918",
		"group moved":        "de1bb25-8cbbf-4589-a673-34f800160918",
		"letter in the day":  "de1bb258-cbbf-4589-a673-34f80016091a",
		"letter for outcome": "de1bb258-cbbf-4589-a673-34f80a160918",
		"rejected outcome":   "de1bb258-cbbf-4589-a673-34f802160918",
		"month 13":           "de1bb258-cbbf-4589-a673-34f800161318",
		"30 February":        "de1bb258-cbbf-4589-a673-34f800160230",
		"with bp-":           "bp-de1bb258-cbbf-4589-a673-34f80016",
		"non-ASCII":          "dé1bb258-cbbf-4589-a673-34f80016091",
	} {
		if id, err := crash.ParseID(s); !errors.Is(err, crash.ErrBadID) {
			t.Errorf("%s: ParseID(%q) = %s, %v, want ErrBadID", name, s, id, err)
		}
	}
}

func FuzzParseID(f *testing.F) {
	f.Add("de1bb258-cbbf-4589-a673-34f800160918")
	f.Add("de1bb258-cbbf-4589-a673-34f800160230")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := crash.ParseID(s)
		if err != nil {
			return
		}
		if string(id) != s || !socorroID.MatchString(s) {
			t.Fatalf("ParseID(%q) = %s, which Socorro does not read", s, id)
		}
		if _, err := time.Parse("20060102", id.Day()); err != nil {
			t.Fatalf("day of %q: %v", s, err)
		}
	})
}
