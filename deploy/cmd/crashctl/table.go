package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/yagi-crash/yagi/deploy/internal/queuestatus"
)

// printTable writes a status for people, within 80 columns but for sentences.
// There is no colour: what matters has words.
func printTable(out io.Writer, s *queuestatus.Status) error {
	var b strings.Builder
	if s.Server != nil {
		writeHead(&b, "server", s.Server.Name+", nats-server "+s.Server.Version)
		writeHead(&b, "syncs", syncs(s.Sync))
		writeHead(&b, "dead letters", deadLetters(s))
		writeHead(&b, "held reports", heldReports(s))
	}
	writeHead(&b, "bucket", bucket(s.Bucket))
	writeHead(&b, "intakes", intakes(s.Intakes))
	writeHead(&b, "uploaders", uploaders(s.Uploaders))
	if len(s.Partitions) > 0 {
		writeRows(&b, rows(s))
	}
	writeList(&b, "messages on each server", copies(s))
	writeList(&b, "worth knowing", notes(s))
	writeList(&b, "cannot tell", s.CannotTell)
	writeList(&b, "needs attention", s.Attention)
	switch unseen := s.Bucket == nil || len(s.Intakes) == 0 || len(s.Uploaders) == 0 || len(s.Sync) == 0; {
	case len(s.Attention)+len(s.CannotTell) > 0:
	case unseen:
		b.WriteString("\nall is well that was looked at; what is unknown was not\n")
	default:
		b.WriteString("\nall is well\n")
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func writeHead(b *strings.Builder, name, text string) {
	fmt.Fprintf(b, "%-13s %s\n", name, line(text))
}

func rows(s *queuestatus.Status) [][]string {
	all := [][]string{{"STREAM", "DEPTH", "OLDEST", "UNACKED", "REDELIVERED", "SIZE", "LIMIT", "FULL"}}
	for _, p := range s.Partitions {
		all = append(all, row(p.Stream.Name, p.Stream.State, p.Stream.Usage, p.Consumer.Backlog))
	}
	return append(all, row("total", queuestatus.Present, s.Total.Usage, s.Total.Backlog))
}

func syncs(servers []queuestatus.Sync) string {
	if len(servers) == 0 {
		return "unknown (NATS_MONITOR_URL is not set)"
	}
	var all []string
	for _, s := range servers {
		switch s.Mode {
		case queuestatus.SyncInterval:
			all = append(all, fmt.Sprintf("%s every %s", s.Server, s.IntervalSeconds))
		case queuestatus.SyncAlways:
			all = append(all, s.Server+" always")
		default:
			all = append(all, s.Address+" unknown")
		}
	}
	return strings.Join(all, ", ")
}

func bucket(b *queuestatus.Bucket) string {
	if b == nil {
		return "not looked for (S3_BUCKET is not set)"
	}
	line := b.Name + " " + string(b.State)
	if b.Note != "" {
		line += ": " + b.Note
	}
	return line
}

func intakes(all []queuestatus.Service) string {
	if len(all) == 0 {
		return "unknown (INTAKE_URL is not set)"
	}
	var words []string
	for _, n := range all {
		switch {
		case n.Trouble == nil:
			words = append(words, n.Address+" unknown")
		case len(n.Trouble) > 0:
			words = append(words, n.Address+" in trouble")
		default:
			words = append(words, n.Address+" well")
		}
	}
	return strings.Join(words, "; ")
}

func uploaders(all []queuestatus.Uploader) string {
	if len(all) == 0 {
		return "unknown (UPLOADER_URL is not set)"
	}
	var words []string
	for _, u := range all {
		switch {
		case u.BreakerOpen == nil:
			words = append(words, u.Address+" unknown")
		case *u.BreakerOpen:
			words = append(words, u.Address+" breaker open")
		default:
			words = append(words, fmt.Sprintf("%s breaker closed, %d at a time", u.Address, *u.Concurrency))
		}
	}
	return strings.Join(words, "; ")
}

// copies has a line for each stream that several servers have.
func copies(s *queuestatus.Status) []string {
	var all []string
	add := func(s queuestatus.Stream) {
		if len(s.Copies) == 0 {
			return
		}
		words := []string{s.Name + ":"}
		for _, c := range s.Copies {
			word := c.Server + " " + comma(c.Messages)
			if c.Leads {
				word += " (leader)"
			}
			words = append(words, word)
		}
		all = append(all, strings.Join(words, "  "))
	}
	for _, p := range s.Partitions {
		add(p.Stream)
	}
	add(s.DeadLetters)
	return all
}

func heldReports(s *queuestatus.Status) string {
	switch n := s.Held.Reports; {
	case n == nil:
		return string(s.Held.Stream.State)
	case *n == 0:
		return "none"
	default:
		return comma(*n)
	}
}

func deadLetters(s *queuestatus.Status) string {
	usage, n := s.DeadLetters.Usage, s.DeadReports
	switch {
	case usage == nil:
		return string(s.DeadLetters.State)
	case usage.Messages == 0:
		return "none"
	case n == nil:
		return humanize.IBytes(usage.Bytes)
	default:
		return fmt.Sprintf("%s, %s", comma(*n), humanize.IBytes(usage.Bytes))
	}
}

// row has a ? where something is not known and a - where there is nothing.
func row(name string, state queuestatus.State, u *queuestatus.Usage, b *queuestatus.Backlog) []string {
	if state != queuestatus.Present {
		return []string{name, string(state)}
	}
	cells := []string{name, "?", "?", "?", "?", "?", "?", "?"}
	if b != nil {
		copy(cells[1:], []string{comma(b.Depth), oldest(b), comma(b.AckPending), comma(b.Redelivered)})
	}
	if u != nil {
		cells[5], cells[6], cells[7] = humanize.IBytes(u.Bytes), limit(u.LimitBytes), "-"
	}
	if u != nil && u.LimitBytes > 0 {
		cells[7] = fmt.Sprintf("%.0f%%", u.UsedPercent)
	}
	return cells
}

func limit(bytes int64) string {
	switch {
	case bytes < 0:
		return "none"
	case bytes == 0: // the total of no stream
		return "-"
	default:
		return humanize.IBytes(uint64(bytes))
	}
}

func oldest(b *queuestatus.Backlog) string {
	switch {
	case b.OldestSeconds != nil:
		return b.OldestSeconds.String()
	case b.Depth > 0:
		return "?"
	default:
		return "-"
	}
}

func comma(n uint64) string { return humanize.Comma(int64(n)) }

// notes are for people who look; nothing in them needs attention.
func notes(s *queuestatus.Status) []string {
	var all []string
	note := func(d []queuestatus.Difference) {
		for _, d := range d {
			if !d.Unsafe {
				all = append(all, d.String())
			}
		}
	}
	for _, p := range s.Partitions {
		if !p.Configured {
			all = append(all, p.Stream.Name+" is beyond NATS_PARTITIONS: intake does not fill it, uploaders drain it")
		}
		if b := p.Consumer.Backlog; b != nil && b.PausedSeconds > 0 {
			all = append(all, fmt.Sprintf("uploads from %s are paused for another %s: crashctl resume --yes ends that", p.Stream.Name, b.PausedSeconds))
		}
		for i := range p.Others {
			if line := fmt.Sprintf("stream %s: %s", p.Stream.Name, &p.Others[i]); !slices.Contains(s.Attention, line) {
				all = append(all, line)
			}
		}
		all = append(all, lagging(p.Stream)...)
		note(p.Stream.Differences)
		note(p.Consumer.Differences)
	}
	all = append(all, lagging(s.DeadLetters)...)
	note(s.DeadLetters.Differences)
	return all
}

func lagging(s queuestatus.Stream) []string {
	var all []string
	for _, r := range s.Replicas {
		if !r.Offline && (!r.Current || r.LagOperations > 0) {
			all = append(all, fmt.Sprintf("stream %s: replica %s is %s operation(s) behind", s.Name, r.Server, comma(r.LagOperations)))
		}
	}
	return all
}

// writeRows aligns the first column to the left and the others to the right.
func writeRows(b *strings.Builder, rows [][]string) {
	var widths [8]int
	for _, r := range rows {
		for i, cell := range r {
			widths[i] = max(widths[i], len(cell))
		}
	}
	b.WriteByte('\n')
	for _, r := range rows {
		fmt.Fprintf(b, "%-*s", widths[0], r[0])
		for i, cell := range r[1:] {
			fmt.Fprintf(b, "  %*s", widths[i+1], cell)
		}
		b.WriteByte('\n')
	}
}

func writeList(b *strings.Builder, title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s:\n", title)
	for _, l := range lines {
		fmt.Fprintf(b, "  %s\n", line(l))
	}
}
