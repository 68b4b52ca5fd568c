package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/yagi-crash/yagi/deploy/internal/queuestatus"
)

// show prints a view: as JSON on one line, in place of the last one on a
// terminal, and otherwise as one line of text.
func (c *status) show(out display) func(*view) error {
	switch {
	case c.JSON:
		e := json.NewEncoder(out)
		e.SetEscapeHTML(false) // subjects have a >
		return func(v *view) error { return e.Encode(v) }
	case out.IsTerminal():
		return func(v *view) error { return v.redraw(out) }
	default:
		return func(v *view) error {
			_, err := fmt.Fprintln(out, line(v.line()))
			return err
		}
	}
}

// redraw shows the view in place of the one before.
func (v *view) redraw(out display) error {
	var b strings.Builder
	fmt.Fprintf(&b, "crashctl status at %s, every %s; Ctrl-C ends it\n\n", v.Time.Format(time.TimeOnly), v.every)
	if v.err != nil {
		b.WriteString("It goes on when there is an answer again.\n\n")
	} else {
		v.writeFlow(&b)
	}
	if err := printTable(&b, v.Status); err != nil {
		return err
	}
	return out.redraw(b.String())
}

func (v *view) writeFlow(b *strings.Builder) {
	in, out := v.rates()
	fmt.Fprintf(b, "rates         %s in, %s out\n", in, out)
	depth, age := v.backlog()
	if age != "-" {
		depth += ", the oldest for " + age
	}
	fmt.Fprintf(b, "waiting       %s\n", depth)
	if v.Drain != nil {
		fmt.Fprintf(b, "backlog       %s\n", v.Drain)
	}
	b.WriteByte('\n')
}

// line has a ? where something is not known and a - where there is nothing.
func (v *view) line() string {
	at := v.Time.UTC().Format(time.RFC3339)
	if v.err != nil {
		return fmt.Sprintf("%s attention %d %v", at, len(v.Attention), v.err)
	}
	in, out := v.rates()
	depth, age := v.backlog()
	line := fmt.Sprintf("%s depth %s in %s out %s oldest %s fullest %s attention %d", at, depth, in, out, age, v.fullest(), len(v.Attention))
	if b := v.Total.Backlog; b != nil && b.PausedSeconds > 0 {
		line += " paused for " + b.PausedSeconds.String()
	}
	if v.Drain != nil && v.Drain.ETASeconds != nil {
		line += " gone in about " + v.Drain.ETASeconds.String()
	}
	return line
}

func (v *view) rates() (in, out string) {
	if v.Rates == nil {
		return "?", "?"
	}
	return fmt.Sprintf("%.1f/s", v.Rates.InPerSecond), fmt.Sprintf("%.1f/s", v.Rates.OutPerSecond)
}

func (v *view) backlog() (depth, age string) {
	b := v.Total.Backlog
	if b == nil {
		return "?", "?"
	}
	return comma(b.Depth), oldest(b)
}

// fullest is how full the fullest stream is.
func (v *view) fullest() string {
	highest, known := 0.0, false
	look := func(s queuestatus.Stream) {
		if s.Usage != nil {
			highest, known = max(highest, s.Usage.UsedPercent), true
		}
	}
	for _, p := range v.Partitions {
		look(p.Stream)
	}
	look(v.DeadLetters)
	if !known {
		return "?"
	}
	return fmt.Sprintf("%.0f%%", highest)
}
