package throttle_test

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/yagi-crash/yagi/intake/internal/throttle"
	"github.com/yagi-crash/yagi/pkg/crash"
)

// The rule is Antenna's ACCEPT_ALL, by its name in raw_crash.
func TestAcceptAll(t *testing.T) {
	want := throttle.Ruling{Outcome: crash.Accept, Rule: "accept_everything"}
	if got := load(t, throttle.AcceptAll).Judge(crash.Annotations{}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

// counts is a Tally that writes down what it is told.
type counts struct {
	mu      sync.Mutex
	failed  int
	verdict []string
}

func (c *counts) Verdict(r throttle.Ruling) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.verdict = append(c.verdict, r.Rule+" "+r.Outcome.String())
}

func (c *counts) Failed(string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed++
}

// What the functions and operators of a condition say of a report.
func TestConditions(t *testing.T) {
	report := crash.Annotations{
		"Text": json.RawMessage(`"a \"b\" \u00e9"`), "Empty": json.RawMessage(`""`), "Null": json.RawMessage(`null`),
		"True": json.RawMessage(`true`), "Int": json.RawMessage(`42`), "Float": json.RawMessage(`1e16`), "Object": json.RawMessage(`{"a":["b",null]}`),
		"BuildID": json.RawMessage(`"20261121235959"`), "Broken": json.RawMessage(`"{"`), "prod": json.RawMessage(`"Aliased"`), "_version": json.RawMessage(`"1"`),
		"JSON": crash.Text(`{"a":{"b":7,"c":"x","d":true,"e":1.5,"n":null,"o":{"k":[1]}},"a.b":1,"big":-123456789012345678901234567890}`),
	}
	for condition, want := range map[string]bool{
		`text("Text") == "a \"b\" é"`:                               true,
		`text("Null") == "None"`:                                    true,
		`text("True") == "True"`:                                    true,
		`text("Float") == "1e+16"`:                                  true,
		`text("Object") == "{'a': ['b', None]}"`:                    true,
		`text("Absent") == ""`:                                      true,
		`text_or("Absent", "x") == "x"`:                             true,
		`text_or("Empty", "x") == ""`:                               true,
		`has("Empty") and has("Null") and not has("Absent")`:        true,
		`number("Int") == 42 and number("Float") > 1`:               true,
		`number("Text") < 1 or number("Text") >= 1`:                 false,
		`number("Absent") == 0`:                                     false,
		`build_age("BuildID") > 1.5 and build_age("BuildID") < 1.6`: true, // from midnight on
		`build_age("Text") < 1 or build_age("Text") > 0`:            false,
		`json("JSON", "a.c") == "x"`:                                true,
		`json("JSON", "a.n") == "None"`:                             true,
		`json("JSON", "a.o") == "{'k': [1]}"`:                       true,
		`json("JSON", "a.b.c") == "" and json("JSON", "z") == ""`:   true,
		`json("Broken", "a") == "" and json("Absent", "a") == ""`:   true,
		`json_int("JSON", "a.b") == 7`:                              true,
		`json_int("JSON", "a.d") == 1`:                              true,
		`json_int("JSON", "a.e") == 0`:                              true,
		`json_int("JSON", "big") < -1000000`:                        true,
		`json_int("Broken", "a") == 0`:                              true,
		`text("ProductName") == "Aliased"`:                          true,
		`has("Version") and text("Version") == "1"`:                 true,
		`json("Text", "a") == ""`:                                   true,
		`"Firefox" in products and text("Text") not in products`:    true,
		`"x" in package_names["Fenix"]`:                             true,
		`len(package_names["Firefox"]) == 0`:                        true,
		`text("Text") startsWith "a" and text("Text") endsWith "é" and text("Text") contains "b"`: true,
		`text("Text") matches "^a.+é$"`: true,
		`lower("ÀB") == "àb" and upper("a") == "A" and trim(" a ") == "a" and len("é") == 1`: true,
		`text("Text")[100:] == "" ? true : false`:                                            true,
		`[1][5] == 1`: false, // cannot be evaluated
		`json_int("JSON", "z") % json_int("JSON", "z") == 0`: false, // nor this
	} {
		file, err := json.Marshal(map[string]any{
			"products": []string{"Firefox"}, "package_names": map[string][]string{"Fenix": {"x"}},
			"aliases": map[string][]string{"ProductName": {"product", "prod"}, "Version": {"ver", "_version"}},
			"rules":   []any{map[string]string{"name": "r", "when": condition, "verdict": "defer"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		tally := &counts{}
		rules, err := throttle.Parse("f", file, throttle.WithTally(tally), throttle.WithClock(func() time.Time {
			return time.Date(2026, 11, 22, 12, 30, 0, 0, time.UTC)
		}))
		if err != nil {
			t.Errorf("%s: %v", condition, err)
			continue
		}
		ruling := rules.Judge(report)
		if got := ruling.Outcome == crash.Defer; got != want {
			t.Errorf("%s: %t, want %t", condition, got, want)
		}
		if fails := strings.Contains(condition, "[5]") || strings.Contains(condition, "%"); fails != (tally.failed == 1) {
			t.Errorf("%s: %d failures counted", condition, tally.failed)
		}
	}
}

// A condition that cannot be evaluated loses no report: the next rule decides.
// A rule that says continue is counted, and the next one decides.
func TestFirstRuleThatDecides(t *testing.T) {
	tally := &counts{}
	rules, err := throttle.Parse("f", []byte(`
rules:
  - {name: broken, when: '[1][5] == 1', verdict: reject}
  - {name: goes_on, when: true, verdict: continue}
  - {name: sampled, when: true, sample: {percent: 50, below: continue, above: reject}}
  - {name: decides, when: has("a"), verdict: fake_accept}
`), throttle.WithTally(tally), throttle.WithDraws(func() float64 { return 0.5 }))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := rules.Judge(texts("a", "")), (throttle.Ruling{Outcome: crash.FakeAccept, Rule: "decides"}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if want := []string{"goes_on continue", "sampled continue", "decides fake_accept"}; tally.failed != 1 || !cmp.Equal(tally.verdict, want) {
		t.Errorf("counted %v and %d failures, want %v and 1", tally.verdict, tally.failed, want)
	}
	if got, want := rules.Judge(texts()), (throttle.Ruling{Outcome: crash.Reject, Rule: throttle.NoMatch}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Judging leaves the annotations alone, and may go on in parallel.
func TestJudgeInParallel(t *testing.T) {
	rules := load(t, throttle.Mozilla)
	var judges sync.WaitGroup
	for range 8 {
		judges.Go(func() {
			a := firefox(t, "ReleaseChannel", "esr")
			before := len(a)
			for range 100 {
				if got := rules.Judge(a); got.Rule != "is_alpha_beta_esr" || len(a) != before {
					t.Errorf("got %v", got)
				}
			}
		})
	}
	judges.Wait()
}

// Whatever the value of an annotation is, it is judged.
func FuzzJudge(f *testing.F) {
	for _, s := range []string{`"20261121235959"`, `null`, `"\`, `"\ud800"`, `[[[`, `{"a":1}`, `-`, `"{\"system\":{\"os\":{\"name\":\"Windows_NT\"}}}"`, ``} {
		f.Add([]byte(s))
	}
	rules, err := throttle.Load(throttle.Mozilla, throttle.WithTally(&counts{}))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		a := texts("ProductName", "Firefox", "ReleaseChannel", "esr")
		a["TelemetryEnvironment"] = value
		rules.Judge(a)
		for _, name := range []string{"BuildID", "Version", "ProcessType", "ReleaseChannel", "ProductName"} {
			a[name] = value
			rules.Judge(a)
		}
	})
}

// Whatever a rule file says, it is read or refused, and judges.
func FuzzParse(f *testing.F) {
	for _, name := range []string{throttle.AcceptAll, throttle.Mozilla} {
		data, err := throttle.Read(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("rules: [{name: a, when: '[1][5] == 1', verdict: *x}]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		rules, err := throttle.Parse("f", data)
		if err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if !strings.HasPrefix(line, "f:") {
					t.Errorf("%q has no place", line)
				}
			}
			return
		}
		rules.Judge(texts("ProductName", "Firefox"))
	})
}
