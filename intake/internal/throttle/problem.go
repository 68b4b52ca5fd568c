package throttle

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing that is wrong with a rule file, or not wise.
type Problem struct {
	// Line and Column are where it is, from 1; a column is one character.
	Line, Column int
	// Rule is the name of the rule that it is in, or its number such as #3 if it
	// has none; empty outside of rules.
	Rule string
	// Text says what it is.
	Text string
}

// in says the problem in a line, with the source of the rules in front.
func (p Problem) in(source string) string {
	rule := ""
	if p.Rule != "" {
		rule = "rule " + p.Rule + ": "
	}
	return fmt.Sprintf("%s:%d:%d: %s%s", source, p.Line, p.Column, rule, p.Text)
}

// FileError is everything that is wrong with a rule file.
type FileError struct {
	Source   string
	Problems []Problem
}

// Error has a line for each problem, such as
//
//	rules.yaml:12:9: rule is_nightly: unknown name RelaeseChannel
func (e *FileError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.in(e.Source)
	}
	return strings.Join(lines, "\n")
}

func sortProblems(all []Problem) {
	slices.SortStableFunc(all, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}
