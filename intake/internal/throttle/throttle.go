// Package throttle decides which reports are kept: it judges a report's
// annotations and names the rule that decided.
package throttle

import (
	"fmt"

	"github.com/yagi-crash/yagi/pkg/crash"
)

// Ruling is what became of a report, and why.
type Ruling struct {
	Outcome crash.Outcome
	// Rule is the name of the rule that decided: letters, digits, underscores.
	Rule string
}

// AcceptAll is the name of the rule set that keeps every report.
const AcceptAll = "accept_all"

// Rules is a set of rules.
type Rules struct {
	always Ruling
}

// Named returns a built-in set of rules. An unknown name is an error that
// lists the known ones.
func Named(name string) (Rules, error) {
	if name != AcceptAll {
		return Rules{}, fmt.Errorf("no rule set named %q, there is %s", name, AcceptAll)
	}
	return Rules{always: Ruling{Outcome: crash.Accept, Rule: "accept_everything"}}, nil
}

// Judge rules on a report by its annotations.
func (r Rules) Judge(crash.Annotations) Ruling { return r.always }
