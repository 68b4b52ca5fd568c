package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/yagi-crash/yagi/intake"
)

type rules struct {
	Check   rulesCheck   `cmd:"" help:"Tell whether intake would take a file of throttle rules."`
	Explain rulesExplain `cmd:"" help:"Tell which throttle rule decides on a report, and why."`
}

// endAtOnce has Ctrl-C end the program at once, as it would without main: these
// commands wait for a person's input and for files, and leave nothing undone.
func endAtOnce() { signal.Reset(os.Interrupt, syscall.SIGTERM) }

// loadRules ends the command with exitTrouble when a file can be read and is no
// good.
func loadRules(source string) (*intake.RuleSet, error) {
	set, err := intake.LoadRules(source)
	if _, ok := errors.AsType[*intake.RulesError](err); ok {
		return nil, &exit{exitTrouble, fmt.Errorf("the rules cannot be used:\n%w", err)}
	}
	return set, err
}

type rulesCheck struct {
	File string `arg:"" help:"The rule file, or the name of built-in rules: accept_all or mozilla."`
}

// Help is what crashctl rules check --help adds.
func (*rulesCheck) Help() string {
	return `Reads a file of throttle rules as intake does, and prints all that is wrong with it, each problem with its line and column; or its hash, which intake shows at /rules and in intake_rules_info, and what in it is hardly meant. It asks no server and needs no settings.

Exit codes:

    0  intake would take the file, perhaps with warnings
    1  intake would refuse the file
    2  the file could not be read, or wrong usage

Examples:

    crashctl rules check rules.yaml
    crashctl rules check mozilla`
}

// Run prints what there is to say of the file.
func (c *rulesCheck) Run(s *session) error {
	endAtOnce()
	set, err := loadRules(c.File)
	if err != nil {
		return err
	}
	say(s.out, "rules   ", set.Source())
	say(s.out, "hash    ", set.Hash())
	say(s.out, "count   ", len(set.List()))
	for _, warning := range set.Warnings() {
		say(s.out, "warning ", strings.TrimSpace(warning))
	}
	return nil
}
