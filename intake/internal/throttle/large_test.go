package throttle_test

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/yagi-crash/yagi/intake/internal/throttle"
	"github.com/yagi-crash/yagi/pkg/crash"
)

// huge is the largest value that a report's JSON annotations may have, 4 MiB.
const huge = 4 << 20

// filled repeats a piece up to a size, between a beginning and an end.
func filled(begin, piece, end string) json.RawMessage {
	return json.RawMessage(begin + strings.Repeat(piece, (huge-len(begin)-len(end))/len(piece)) + end)
}

// hugeValues are those that cost most to read or to spell.
func hugeValues() map[string]json.RawMessage {
	var keys strings.Builder
	for n := 0; keys.Len() < huge-20; n++ {
		fmt.Fprintf(&keys, `"%x":1,`, n)
	}
	return map[string]json.RawMessage{
		"text":     filled(`"`, "a", `"`),
		"numbers":  filled("[1", ",1", "]"),
		"lists":    filled("[[]", ",[]", "]"),
		"objects":  filled(`[{"":1}`, `,{"":1}`, "]"),
		"members":  json.RawMessage("{" + keys.String() + `"z":1}`),
		"escapes":  filled(`["`, "\u0080\U000e0001", `"]`),
		"floats":   filled("[1e15", ",1e15", "]"),
		"fraction": filled("52.", "0", ""),
		"integer":  filled("1", "0", ""),
	}
}

// cost is what judging takes: CPU time, which a busy machine does not stretch as
// it does the time of day, and bytes.
func cost(t *testing.T, judge func()) (time.Duration, uint64) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	begin := cpuTime(t)
	judge()
	took := cpuTime(t) - begin
	runtime.ReadMemStats(&after)
	return took, after.TotalAlloc - before.TotalAlloc
}

// cpuTime is what this process has used so far.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// A value as large as a report may have costs no more than some copies of it,
// however often rules look at it, and gets the verdict that Antenna gives.
func TestHugeValuesAreCheap(t *testing.T) {
	// Generous, for -race: texts take 25 ms and 14 MiB at most, other values next to
	// nothing.
	const maxTime, maxAllocated = time.Second, 32 << 20
	rules := load(t, throttle.Mozilla)
	values := hugeValues()
	inText := map[string]json.RawMessage{}
	for name, value := range values {
		inText[name+" in a text"] = crash.Text(string(value))
	}
	for name, c := range map[string]struct {
		values map[string]json.RawMessage
		rule   string
	}{
		"ProductName":          {values, "unsupported_product"},
		"ReleaseChannel":       {values, "accept_everything"},
		"BuildID":              {values, "accept_everything"},
		"ProcessType":          {values, "accept_everything"},
		"Comments":             {values, "has_comments"},
		"TelemetryEnvironment": {inText, "is_alpha_beta_esr"},
	} {
		for kind, value := range c.values {
			a := texts("ProductName", "Firefox")
			if name == "TelemetryEnvironment" {
				a = texts("ProductName", "Firefox", "ReleaseChannel", "esr")
			}
			a[name] = value
			var got throttle.Ruling
			took, allocated := cost(t, func() { got = rules.Judge(a) })
			if got.Rule != c.rule {
				t.Errorf("%s, %s: rule %s decides, want %s", name, kind, got.Rule, c.rule)
			}
			if took > maxTime || allocated > maxAllocated {
				t.Errorf("%s, %s: took %s and %d MiB, want at most %s and %d MiB", name, kind, took, allocated>>20, maxTime, maxAllocated>>20)
			}
			t.Logf("%s, %s: %s, %.1f MiB", name, kind, took.Round(time.Millisecond/10), float64(allocated)/(1<<20))
		}
	}
}

// A large value that is not a text is the empty text and no JSON; it is there all
// the same.
func TestLargeValues(t *testing.T) {
	list := json.RawMessage("[" + strings.Repeat("0,", 32<<10) + "0]")
	for condition, value := range map[string]json.RawMessage{
		`text("v") == "" and has("v") and text_or("v", "x") == ""`:   list,
		`text("v") startsWith "[0, 0" and len(text("v")) > 98000`:    append(list[:len(list)-5:len(list)-5], "]"...),
		`text("v") == "" and has("v") and not (number("v") > 0)`:     filled("52.", "0", ""),
		`len(text("v")) == 4194302`:                                  filled(`"`, "a", `"`),
		`json("v", "") == "" and json_int("v", "a") == 0`:            crash.Text(`{"a":1,"b":[` + strings.Repeat("0,", 100_000) + "0]}"),
		`json("v", "a") == "" and json_int("v", "b") == 7`:           crash.Text(`{"a":` + string(list) + `,"b":7}`),
		`json("v", "a") startsWith "[0" and json_int("v", "b") == 7`: crash.Text(`{"a":[0,1],"b":7}`),
	} {
		if !matches(t, condition, crash.Annotations{"v": value}) {
			t.Errorf("%s does not hold", condition)
		}
	}
}

// The name of an annotation may be empty.
func TestAnnotationWithoutAName(t *testing.T) {
	if a := texts("", `{"a":1}`); !matches(t, `json_int("", "a") == 1`, a) || !matches(t, `json("", "a") == "1"`, a) {
		t.Error("it is not read")
	}
}

// matches tells whether a condition holds of a report.
func matches(t *testing.T, condition string, a crash.Annotations) bool {
	t.Helper()
	rules, err := throttle.Parse("f", ruleFile(t, condition))
	if err != nil {
		t.Fatal(err)
	}
	return rules.Judge(a).Rule == "r"
}
