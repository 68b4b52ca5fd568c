package intake

import "github.com/yagi-crash/yagi/intake/internal/throttle"

// RuleSet is a set of throttle rules for tools that look at one: see its
// methods Source, Hash, List, Warnings and Explain.
type RuleSet = throttle.Rules

// RulesError is everything that is wrong with a rule file, a line each with the
// file, line and column.
type RulesError = throttle.FileError

// RulesStep is what one rule makes of a report.
type RulesStep = throttle.Step

// LoadRules reads the rules that INTAKE_THROTTLE_RULES would name so. The error
// is a *RulesError when the file can be read and its rules cannot.
func LoadRules(source string) (*RuleSet, error) { return throttle.Load(source) }

// IsRulesFile tells whether a source of rules is the path of a file, and not the
// name of built-in rules.
func IsRulesFile(source string) bool { return throttle.IsFile(source) }
