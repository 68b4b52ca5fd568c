package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/mattn/go-isatty"

	"github.com/yagi-crash/yagi/intake"
	"github.com/yagi-crash/yagi/pkg/settings"
	"github.com/yagi-crash/yagi/pkg/visible"
)

// display is where crashctl prints. What it prints came from messages, servers,
// stores and files, and so everything that a terminal would obey becomes visible
// (package visible). Only crashctl's own control sequences go to raw.
type display struct{ raw io.Writer }

// Write implements io.Writer.
func (d display) Write(p []byte) (int, error) { return visible.Writer(d.raw).Write(p) }

// IsTerminal reports whether it is read by somebody's eyes.
func (d display) IsTerminal() bool { return isTerminal(d.raw) }

// home puts the cursor into the upper left corner, and erase removes what is
// below and right of it (ECMA-48).
const (
	home  = "\x1b[H"
	erase = "\x1b[J"
)

// redraw shows text in place of what a terminal shows, in one write, so that it does
// not flicker.
func (d display) redraw(text string) error {
	_, err := io.WriteString(d.raw, home+erase+visible.Text(text))
	return err
}

// isTerminal reports whether out is read by somebody's eyes. What is no file may say
// so itself.
func isTerminal(out io.Writer) bool {
	switch out := out.(type) {
	case interface{ IsTerminal() bool }:
		return out.IsTerminal()
	case *os.File:
		return isatty.IsTerminal(out.Fd())
	}
	return false
}

// mostLine bounds a line, in characters: the command that goes on with a replay of a
// hundred reports has half as many.
const mostLine = 10_000

// line makes text from outside one line.
func line(text string) string { return visible.Line(text, mostLine) }

// say writes words as one line. A reader that has gone leaves nobody to tell.
func say(w io.Writer, words ...any) {
	_, _ = fmt.Fprintln(w, line(strings.TrimSuffix(fmt.Sprintln(words...), "\n")))
}

// sayError says why a command failed. Only crashctl's own lists have several lines:
// a line end in another error may be forged.
func sayError(w io.Writer, err error) {
	_, settingsList := errors.AsType[*settings.Error](err)
	_, rulesList := errors.AsType[*intake.RulesError](err)
	if !settingsList && !rulesList {
		say(w, "crashctl:", strings.ReplaceAll(err.Error(), "\n", "; "))
		return
	}
	first, rest, _ := strings.Cut(err.Error(), "\n")
	say(w, "crashctl:", first)
	for problem := range strings.SplitSeq(rest, "\n") {
		say(w, problem)
	}
}
