package intake

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"

	"github.com/yagi-crash/yagi/intake/internal/throttle"
	"github.com/yagi-crash/yagi/pkg/crash"
)

// events is a log that hands on each event as it is written.
type events chan map[string]any

func (e events) Write(line []byte) (int, error) {
	event := map[string]any{}
	if err := json.Unmarshal(line, &event); err != nil {
		return 0, err
	}
	e <- event
	return len(line), nil
}

// next waits for an event.
func (e events) next(t *testing.T) map[string]any {
	t.Helper()
	select {
	case event := <-e:
		return event
	case <-time.After(10 * time.Second):
		t.Fatal("no event after 10 s")
		return nil
	}
}

// onlyRule is a file with one rule, which decides on everything.
func onlyRule(name, verdict string) string {
	return "rules:\n  - name: " + name + "\n    when: true\n    verdict: " + verdict + "\n"
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// replace puts a file in another's place, so that nobody sees half of it.
func replace(t *testing.T, path, text string) {
	t.Helper()
	write(t, path+".new", text)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// watched starts to watch a file and returns its rules, and the log behind the
// first load.
func watched(t *testing.T, path string, every time.Duration, hangup <-chan os.Signal) (*liveRules, events) {
	t.Helper()
	log := make(events, 100)
	rules, err := newRules(path, zerolog.New(log), liveNames())
	if err != nil {
		t.Fatal(err)
	}
	log.next(t)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		watch(ctx, every, hangup, rules)
	}()
	t.Cleanup(func() {
		stop()
		<-done
	})
	return rules, log
}

// A file that changes is taken, however it is changed. One that is wrong leaves
// the old rules as they are, says where it is wrong, and shows until it is right.
func TestRulesFollowTheirFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "rules.yaml")
	write(t, path, onlyRule("first", "accept"))
	rules, log := watched(t, path, 5*time.Millisecond, nil)
	expect := func(rule string, failed float64) {
		t.Helper()
		if got := rules.Judge(nil); got.Rule != rule {
			t.Errorf("rule %s decides, want %s", got.Rule, rule)
		}
		if got := testutil.ToFloat64(rules.metrics.failed); got != failed {
			t.Errorf("load_failed is %v, want %v", got, failed)
		}
	}
	expect("first", 0)

	replace(t, path, onlyRule("second", "reject"))
	if event := log.next(t); event["level"] != "info" || event["hash"] != throttle.Hash([]byte(onlyRule("second", "reject"))) {
		t.Errorf("logged %v", event)
	}
	expect("second", 0)

	replace(t, path, "rules:\n  - name: third\n    when: nope\n    verdict: accept\n")
	event := log.next(t)
	if event["level"] != "error" || event["line"] != 3.0 || event["column"] != 11.0 || event["rule"] != "third" ||
		!strings.Contains(event["error"].(string), "rules.yaml:3:11: rule third: unknown name nope") {
		t.Errorf("logged %v", event)
	}
	expect("second", 1)
	if page := rules.page(); page.LastError == nil || !strings.Contains(*page.LastError, "3:11") || page.Rules[0].Name != "second" {
		t.Errorf("the page is %+v", page)
	}

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if event := log.next(t); !strings.Contains(event["error"].(string), "no such file") {
		t.Errorf("logged %v", event)
	}
	expect("second", 1)

	// The same file as before is a change too, after one that was wrong.
	replace(t, path, onlyRule("second", "reject"))
	log.next(t)
	expect("second", 0)
	if page := rules.page(); page.LastError != nil {
		t.Errorf("the page is %+v", page)
	}
}

// Kubernetes changes a ConfigMap by swapping a link to the folder that it is in.
func TestRulesFollowALink(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"one", "two"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name, "rules.yaml"), onlyRule(name, "accept"))
	}
	link := func(to, name string) {
		t.Helper()
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	link("one", "..data")
	link("..data/rules.yaml", "rules.yaml")
	rules, log := watched(t, filepath.Join(dir, "rules.yaml"), 5*time.Millisecond, nil)
	link("two", "..data_tmp")
	if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	log.next(t)
	if got := rules.Judge(nil); got.Rule != "two" {
		t.Errorf("rule %s decides", got.Rule)
	}
}

// A file that still changes from look to look is not taken.
func TestHalfWrittenRulesAreNotTaken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rules.yaml")
	write(t, path, onlyRule("old", "accept"))
	rules, err := newRules(path, zerolog.Nop(), liveNames())
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ write, want string }{
		{onlyRule("half", "accept"), "old"},
		{onlyRule("half", "accept") + onlyRule("more", "accept"), "old"},
		{onlyRule("whole", "accept"), "old"},
		{onlyRule("whole", "accept"), "whole"},
	} {
		write(t, path, step.write)
		rules.look()
		if got := rules.Judge(nil); got.Rule != step.want {
			t.Errorf("rule %s decides, want %s", got.Rule, step.want)
		}
	}
}

// A SIGHUP has the file read at once.
func TestHangupReloadsRules(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rules.yaml")
	write(t, path, onlyRule("old", "accept"))
	hangup := make(chan os.Signal, 1)
	rules, log := watched(t, path, time.Hour, hangup)
	write(t, path, onlyRule("new", "accept"))
	hangup <- syscall.SIGHUP
	log.next(t)
	if got := rules.Judge(nil); got.Rule != "new" {
		t.Errorf("rule %s decides", got.Rule)
	}
}

// blocked is a log that holds up whoever writes to it.
type blocked struct{ begun, leave chan struct{} }

func (b blocked) Write(p []byte) (int, error) {
	close(b.begun)
	<-b.leave
	return len(p), nil
}

// A reload that hangs, as on a network file system that is away, does not keep
// intake from stopping.
func TestStopDoesNotWaitForAHungReload(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rules.yaml")
	write(t, path, onlyRule("old", "accept"))
	rules, err := newRules(path, zerolog.Nop(), liveNames())
	if err != nil {
		t.Fatal(err)
	}
	log := blocked{make(chan struct{}), make(chan struct{})}
	defer close(log.leave)
	rules.log = zerolog.New(log)
	hangup := make(chan os.Signal, 1)
	hangup <- syscall.SIGHUP
	stop := (&Server{rules: ruleSets{live: rules}, hangup: hangup}).watchRules(t.Context())
	<-log.begun
	stopped := make(chan struct{})
	go func() {
		stop()
		close(stopped)
	}()
	select {
	case <-stopped:
	case <-time.After(10 * time.Second):
		t.Error("it has not stopped after 10 s")
	}
}

// The series are those of the rules in effect, from the start on.
func TestRuleSeries(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rules.yaml")
	write(t, path, `rules:
  - {name: broken, when: '[1][5] == 1', verdict: reject}
  - {name: old, when: true, sample: {percent: 100, below: defer, above: reject}}
`)
	rules, err := newRules(path, zerolog.Nop(), liveNames())
	if err != nil {
		t.Fatal(err)
	}
	m := rules.metrics
	registry := prometheus.NewPedanticRegistry()
	m.register(registry)
	expect := func(want string) {
		t.Helper()
		if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "intake_rule_verdicts_total", "intake_rule_errors_total"); err != nil {
			t.Error(err)
		}
	}
	const help = `
# HELP intake_rule_errors_total Conditions that could not be evaluated, by throttle rule; the rule then counted as not matching.
# TYPE intake_rule_errors_total counter
# HELP intake_rule_verdicts_total Reports that a throttle rule matched, by rule and verdict. Those that no rule decided on are NO_MATCH.
# TYPE intake_rule_verdicts_total counter
`
	old := rules.current.Load()
	old.Judge(crash.Annotations{})
	expect(help + `
intake_rule_errors_total{rule="NO_MATCH"} 0
intake_rule_errors_total{rule="broken"} 1
intake_rule_errors_total{rule="old"} 0
intake_rule_verdicts_total{rule="NO_MATCH",verdict="reject"} 0
intake_rule_verdicts_total{rule="broken",verdict="reject"} 0
intake_rule_verdicts_total{rule="old",verdict="defer"} 1
intake_rule_verdicts_total{rule="old",verdict="reject"} 0
`)
	data := []byte("rules: [{name: old, when: has(\"a\"), verdict: reject}]")
	rules.take(data, nil)
	old.Judge(nil) // a report that the old rules still have in hand
	rules.Judge(nil)
	expect(help + `
intake_rule_errors_total{rule="NO_MATCH"} 0
intake_rule_errors_total{rule="old"} 0
intake_rule_verdicts_total{rule="NO_MATCH",verdict="reject"} 1
intake_rule_verdicts_total{rule="old",verdict="reject"} 0
`)
	hash := throttle.Hash(data)
	if got := testutil.ToFloat64(m.info.WithLabelValues(path, hash)); got != 1 || testutil.CollectAndCount(m.info) != 1 {
		t.Errorf("info of %s is %v", hash, got)
	}
	if loaded, refused := testutil.ToFloat64(m.loads.WithLabelValues(loadLoaded)), testutil.ToFloat64(m.loads.WithLabelValues(loadRefused)); loaded != 2 || refused != 0 {
		t.Errorf("%v loaded, %v refused", loaded, refused)
	}
}

// Rules that cannot be used are a problem of the settings, each on its line.
func TestBadRulesAreABadSetting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rules.yaml")
	write(t, path, "rules:\n  - {name: a, when: nope, verdict: accept}\n  - {name: b, when: true, verdict: none}\n")
	_, err := Load([]string{"NATS_URL=nats://127.0.0.1", "INTAKE_THROTTLE_RULES=" + path})
	for _, want := range []string{
		"\nINTAKE_THROTTLE_RULES: " + path + ":2:21: rule a: unknown name nope",
		"\nINTAKE_THROTTLE_RULES: " + path + ":3:36: rule b: \"none\" is no verdict",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want%s", err, want)
		}
	}
	if _, err := Load([]string{"NATS_URL=nats://127.0.0.1", "INTAKE_THROTTLE_RULES=mozzila"}); err == nil || !strings.Contains(err.Error(), "accept_all and mozilla") {
		t.Errorf("got %v, want an error that names the built-in rules", err)
	}
}

// What GET /rules shows.
func TestRulesPage(t *testing.T) {
	rules, err := newRules(throttle.Mozilla, zerolog.Nop(), liveNames())
	if err != nil {
		t.Fatal(err)
	}
	var page bytes.Buffer
	if err := json.NewEncoder(&page).Encode(rules.page()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`{"source":"mozilla","hash":"`, `"loaded_at":"20`, `"last_error":null`, `"warnings":[]`,
		`{"name":"has_comments","when":"has(\"Comments\")","verdict":"accept"}`,
		`"sample":{"percent":10,"below":"continue","above":"reject"}}`,
	} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("no %s in %s", want, page.String())
		}
	}
}

// Shadow rules are counted and change nothing. Rules that are the same in both
// differ on no report, though they sample.
func TestShadowRulesChangeNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rules.yaml")
	half := "{name: half, when: true, sample: {percent: 50, below: accept, above: reject}}"
	write(t, path, "rules: [{name: strict, when: 'has(\"a\")', verdict: reject}, "+half+"]")
	live := filepath.Join(t.TempDir(), "live.yaml")
	write(t, live, "rules: ["+half+"]")
	sets, err := newRuleSets(Config{ThrottleRules: live, ShadowRules: path}, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewPedanticRegistry()
	sets.register(registry)
	accepted := 0
	for range 1000 {
		sets.Judge(crash.Annotations{})
		if sets.Judge(crash.Annotations{"a": nil}).Outcome == crash.Accept {
			accepted++
		}
	}
	if accepted == 0 {
		t.Error("the shadow rules decide")
	}
	strict := testutil.ToFloat64(sets.shadow.metrics.verdicts.WithLabelValues("strict", "reject"))
	if got := testutil.ToFloat64(sets.differs); strict != 1000 || got != float64(accepted) {
		t.Errorf("%v rejected by the shadow, %v differences, want 1000 and %d", strict, got, accepted)
	}
	if n, err := testutil.GatherAndCount(registry, "intake_shadow_verdicts_total", "intake_rule_verdicts_total"); err != nil || n != 4+3 {
		t.Errorf("%d series, %v", n, err)
	}
	if page := sets.page(); page.Source != live || page.Shadow == nil || page.Shadow.Source != path {
		t.Errorf("the page is %+v", page)
	}
	if _, err := Load([]string{"NATS_URL=nats://127.0.0.1", "INTAKE_SHADOW_RULES=mozzila"}); err == nil || !strings.Contains(err.Error(), "\nINTAKE_SHADOW_RULES: no rule set") {
		t.Errorf("got %v", err)
	}
}
