package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/yagi-crash/yagi/deploy/internal/loadgen"
)

// plan says what is to be posted.
func plan(cfg loadgen.Config) string {
	words := []string{fmt.Sprintf("reports with dumps of %s to %s over %d connection(s), seed %d", &cfg.Size, cfg.URL.Redacted(), cfg.Connections, cfg.Seed)}
	if cfg.Rate > 0 {
		words = append(words, fmt.Sprintf("%g a second", cfg.Rate))
	}
	if cfg.For > 0 {
		words = append(words, "for "+cfg.For.String())
	}
	if cfg.Count > 0 {
		words = append(words, fmt.Sprintf("%d at most", cfg.Count))
	}
	return strings.Join(words, ", ")
}

func progress(p loadgen.Progress) string {
	return fmt.Sprintf("%4.0fs  sent %d  answered %d  rate %.1f/s  errors %d", p.Elapsed.Seconds(), p.Sent, p.Answered, p.Rate, p.Errors)
}

func (c *loadTest) print(out io.Writer, s *loadgen.Summary) error {
	if c.JSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(s)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "sent       %d reports in %.1f s, seed %d\n", s.Sent, s.Elapsed, s.Seed)
	fmt.Fprintf(&b, "answered   %d, %.1f/s, %s, %s/s\n", s.Answered, s.ReportsPerSecond, humanize.Bytes(uint64(s.Bytes)), humanize.Bytes(uint64(s.BytesPerSecond)))
	for _, o := range s.Outcomes {
		fmt.Fprintf(&b, "%10d %s\n", o.Count, line(o.Text))
	}
	if s.Late > 0 || s.NotSent > 0 {
		fmt.Fprintf(&b, "late       %d were sent late and %d not at all, as all connections (or this machine) were busy when they were due\n", s.Late, s.NotSent)
	}
	l := s.Latency
	if l.Measured > 0 {
		fmt.Fprintf(&b, "latency    p50 %s  p90 %s  p99 %s  p99.9 %s  max %s\n", ms(l.P50), ms(l.P90), ms(l.P99), ms(l.P999), ms(l.Max))
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// ms spells seconds for reading: three digits are more than can be repeated.
func ms(seconds float64) string {
	switch v := seconds * 1000; {
	case v < 10:
		return fmt.Sprintf("%.2f ms", v)
	case v < 100:
		return fmt.Sprintf("%.1f ms", v)
	default:
		return fmt.Sprintf("%.0f ms", v)
	}
}
