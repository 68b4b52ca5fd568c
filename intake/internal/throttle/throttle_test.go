package throttle_test

import (
	"strings"
	"testing"

	"github.com/yagi-crash/yagi/intake/internal/throttle"
	"github.com/yagi-crash/yagi/pkg/crash"
)

// The rule is Antenna's ACCEPT_ALL, by its name in raw_crash.
func TestAcceptAll(t *testing.T) {
	rules, err := throttle.Named(throttle.AcceptAll)
	if err != nil {
		t.Fatal(err)
	}
	want := throttle.Ruling{Outcome: crash.Accept, Rule: "accept_everything"}
	if got := rules.Judge(crash.Annotations{}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestUnknownRulesAreNamed(t *testing.T) {
	if _, err := throttle.Named("accept_some"); err == nil || !strings.Contains(err.Error(), "accept_some") || !strings.Contains(err.Error(), throttle.AcceptAll) {
		t.Errorf("got %v, want an error that names the unknown and the known", err)
	}
}
