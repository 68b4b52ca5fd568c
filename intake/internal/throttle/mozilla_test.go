package throttle_test

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/yagi-crash/yagi/intake/internal/throttle"
	"github.com/yagi-crash/yagi/pkg/crash"
)

// Every line of testdata/antenna.jsonl is a report, the random numbers that were
// drawn and the time, and what Antenna's own throttler made of it (with its
// MOZILLA_RULES, on Python 3.11). Where its condition on TelemetryEnvironment
// raised an error, it was taken not to hold.
func TestMozillaRulesAreAntennas(t *testing.T) {
	cases, err := os.ReadFile("testdata/antenna.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		Annotations   crash.Annotations
		Draws         []float64
		Now           time.Time
		Outcome, Rule string
	}
	rules := load(t, throttle.Mozilla,
		throttle.WithClock(func() time.Time { return c.Now }),
		throttle.WithDraws(func() float64 {
			next := c.Draws[0]
			c.Draws = c.Draws[1:]
			return next
		}))
	n := 0
	for line := range strings.Lines(string(cases)) {
		n++
		c.Annotations = nil
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			t.Fatal(err)
		}
		got := rules.Judge(c.Annotations)
		if got.Outcome.String() != c.Outcome || got.Rule != c.Rule {
			t.Errorf("line %d: got %s by %s, want %s by %s: %s", n, got.Outcome, got.Rule, c.Outcome, c.Rule, line)
		}
		// With other random numbers it may be another: the explanation has all.
		ends := rules.Explain(c.Annotations).Ends
		if !slices.ContainsFunc(ends, func(e throttle.End) bool { return e.Ruling == got }) {
			t.Errorf("line %d: got %v, explained as %v", n, got, ends)
		}
	}
	if n < 300 {
		t.Errorf("%d lines", n)
	}
}

func load(t testing.TB, source string, options ...throttle.Option) *throttle.Rules {
	t.Helper()
	rules, err := throttle.Load(source, options...)
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

// texts makes annotations of names and values in turn.
func texts(pairs ...string) crash.Annotations {
	a := crash.Annotations{}
	for i := 0; i < len(pairs); i += 2 {
		a[pairs[i]] = crash.Text(pairs[i+1])
	}
	return a
}

// Each sampling rule passes its share, and one that follows another draws anew:
// the share of a report that meets two is the product.
func TestSamplingRates(t *testing.T) {
	const reports = 100_000
	const esr = `{"system":{"os":{"name":"Windows_NT","windowsBuildNumber":7601}}}`
	for name, c := range map[string]struct {
		report   crash.Annotations
		accepted float64 // percent
		within   float64
	}{
		"is_firefox_desktop":                 {texts("ProductName", "Firefox", "ReleaseChannel", "release"), 10, 0.5},
		"is_shutdownkill":                    {texts("ProductName", "Thunderbird", "ipc_channel_error", "ShutDownKill"), 10, 0.5},
		"is_firefox_esr_unsupported_windows": {texts("ProductName", "Firefox", "ReleaseChannel", "esr", "TelemetryEnvironment", esr), 25, 0.5},
		"ShutDownKill on release":            {texts("ProductName", "Firefox", "ReleaseChannel", "release", "ipc_channel_error", "ShutDownKill"), 1, 0.2},
		"ShutDownKill on old Windows":        {texts("ProductName", "Firefox", "ReleaseChannel", "esr", "TelemetryEnvironment", esr, "ipc_channel_error", "ShutDownKill"), 2.5, 0.3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rules := load(t, throttle.Mozilla, throttle.WithDraws(rand.New(rand.NewPCG(1, 2)).Float64))
			accepted := 0
			for range reports {
				if rules.Judge(c.report).Outcome == crash.Accept {
					accepted++
				}
			}
			if got := 100 * float64(accepted) / reports; math.Abs(got-c.accepted) > c.within {
				t.Errorf("%.2f %% are accepted, want %g +- %g", got, c.accepted, c.within)
			}
		})
	}
}
