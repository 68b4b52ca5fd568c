package intake_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// An operator changes the rules of a running intake, and sees which are in
// effect.
func TestRulesChangeUnderway(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	path := filepath.Join(t.TempDir(), "rules.yaml")
	put := func(rules string) {
		t.Helper()
		// In two steps, so that intake never sees half of it.
		if err := errors.Join(os.WriteFile(path+".new", []byte(rules), 0o600), os.Rename(path+".new", path)); err != nil {
			t.Fatal(err)
		}
	}
	put("rules: [{name: all, when: true, verdict: defer}]")
	i := startIntake(t, q.url, "INTAKE_THROTTLE_RULES="+path, "INTAKE_SHADOW_RULES=mozilla")
	if id := crashID(t, i.post(t, report())); id.Outcome().String() != "defer" {
		t.Errorf("id %s, want a deferred one", id)
	}
	put(`rules: [{name: firefox, when: text("ProductName") == "Firefox", verdict: reject}]`)
	awaitMetric(t, i, `intake_rule_verdicts_total{rule="firefox",verdict="reject"} 0`)
	if a := i.post(t, report()); a.status != 200 || a.body != "Discarded=rule_firefox" {
		t.Errorf("answered %d %q", a.status, a.body)
	}
	if a := i.post(t, field("ProductName", "Fenix")+end); a.status != 200 || a.body != "Discarded=rule_NO_MATCH" {
		t.Errorf("answered %d %q", a.status, a.body)
	}
	awaitMetric(t, i, `intake_rule_verdicts_total{rule="firefox",verdict="reject"} 1`)
	awaitMetric(t, i, "intake_rules_load_failed 0")
	awaitMetric(t, i, "intake_shadow_differences_total 2") // the two of Firefox, which are accepted there

	put("rules: [")
	awaitMetric(t, i, "intake_rules_load_failed 1")
	status, body := get(t, "http://"+i.admin+"/rules")
	var page struct {
		Source    string
		Hash      string
		LastError string `json:"last_error"`
		Rules     []struct{ Name, Verdict string }
	}
	if err := json.Unmarshal([]byte(body), &page); err != nil || status != 200 {
		t.Fatalf("/rules: %d %s: %v", status, body, err)
	}
	if page.Source != path || len(page.Hash) != 12 || !strings.Contains(page.LastError, path+":1:") || len(page.Rules) != 1 || page.Rules[0].Verdict != "reject" {
		t.Errorf("/rules: %+v", page)
	}
	if a := i.post(t, report()); a.body != "Discarded=rule_firefox" {
		t.Errorf("answered %d %q, want the old rules' verdict", a.status, a.body)
	}
}
