package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/yagi-crash/yagi/intake"
	"github.com/yagi-crash/yagi/pkg/crash"
)

type rulesExplain struct {
	File   string `arg:"" help:"The rule file, or the name of built-in rules: accept_all or mozilla."`
	Report string `arg:"" help:"A file with the report's annotations as a JSON object, or its raw_crash; - is standard input."`
}

// Help is what crashctl rules explain --help adds.
func (*rulesExplain) Help() string {
	return `Judges a report as intake does, and prints each rule that it gets to: whether its condition holds, the condition, and the values that this looked at. A sampling rule draws no random number here: both of its outcomes are followed, and the last lines tell what becomes of how many such reports. Of a raw_crash from the bucket, the entries that the collector added are left out; Email, TelemetryClientId, TelemetryServerURL and TelemetrySessionId are not in it, though intake's rules see them. It asks no server and needs no settings.

Exit codes:

    0  explained, whatever the outcome
    1  the rules cannot be used; see crashctl rules check
    2  the rules or the report could not be read, or wrong usage

Examples:

    crashctl rules explain rules.yaml report.json
    aws s3 cp s3://crashes/v1/raw_crash/20261123/<id> - | crashctl rules explain mozilla -`
}

// Run prints the explanation.
func (c *rulesExplain) Run(s *session) error {
	endAtOnce()
	set, err := loadRules(c.File)
	if err != nil {
		return err
	}
	document, err := readReport(c.Report, os.Stdin)
	if err != nil {
		return fmt.Errorf("reading the report: %w", err)
	}
	annotations, err := annotationsOf(document)
	if err != nil {
		return fmt.Errorf("reading the report: %w", err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "rules %s, hash %s\n\n", line(set.Source()), set.Hash())
	x := set.Explain(annotations)
	for _, step := range x.Steps {
		writeStep(&b, step)
	}
	b.WriteString("\n")
	for _, end := range x.Ends {
		chance := ""
		if end.Percent < 100 {
			chance = percent(end.Percent) + ": "
		}
		fmt.Fprintf(&b, "%s%s by %s\n", chance, end.Ruling.Outcome, line(end.Ruling.Rule))
	}
	if l, ok := set.Limit(); ok {
		fmt.Fprintf(&b, "but of those that are kept, at most %g a second for each %s (%g at once) in each intake, otherwise %s by limit_%s\n",
			l.PerSecond, line(l.Key), l.Burst, l.Verdict, line(l.Key))
	}
	_, err = io.WriteString(s.out, b.String())
	return err
}

func readReport(path string, stdin io.Reader) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(stdin)
	}
	return os.ReadFile(path)
}

// annotationsOf takes the annotations out of a document. A raw_crash is known by
// its metadata, which name the rule that decided.
func annotationsOf(document []byte) (crash.Annotations, error) {
	var annotations crash.Annotations
	if err := json.Unmarshal(document, &annotations); err != nil {
		return nil, err
	}
	if annotations == nil {
		return nil, errors.New("it is null, not an object")
	}
	var metadata map[string]json.RawMessage
	if err := json.Unmarshal(annotations["metadata"], &metadata); err == nil && metadata["throttle_rule"] != nil {
		for _, added := range []string{"metadata", "submitted_timestamp", "uuid", "version"} {
			delete(annotations, added)
		}
	}
	return annotations, nil
}

func writeStep(b *strings.Builder, step intake.RulesStep) {
	answer := "no"
	if step.Matches {
		answer = "yes"
	}
	fmt.Fprintf(b, "%-4s%s", answer, line(step.Rule.Name))
	if sample := step.Rule.Sample; step.Matches && sample != nil {
		fmt.Fprintf(b, ": %s %s, %s %s", percent(sample.Percent), sample.Below, percent(100-sample.Percent), sample.Above)
	} else if step.Matches {
		b.WriteString(": " + step.Rule.Verdict)
	}
	fmt.Fprintf(b, "\n        when %s\n", line(strings.Join(strings.Fields(step.Rule.When), " ")))
	if step.Error != "" {
		fmt.Fprintf(b, "        cannot be evaluated: %s\n", line(step.Error))
	}
	for _, seen := range step.Seen {
		fmt.Fprintf(b, "        %s is %s\n", line(seen.Call), line(seen.Value))
	}
}

func percent(p float64) string { return strconv.FormatFloat(p, 'g', 4, 64) + " %" }
