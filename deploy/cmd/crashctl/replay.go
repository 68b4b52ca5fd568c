package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/yagi-crash/yagi/deploy/internal/replay"
	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/uploader"
)

// window is a window of time of the queue.
type window struct {
	Since moment `required:"" help:"From when on: a time such as 2026-11-25T14:30:00Z, or how long ago, such as 2h."`
	Until moment `help:"Up to when; now, without."`
}

// moment is a time, given as one or as a duration before now.
type moment struct{ time.Time }

// UnmarshalText reads either; kong calls it.
func (m *moment) UnmarshalText(text []byte) (err error) {
	if ago, err := time.ParseDuration(string(text)); err == nil {
		m.Time = time.Now().Add(-ago).UTC().Truncate(time.Second)
		return nil
	}
	if m.Time, err = time.Parse(time.RFC3339, string(text)); err != nil {
		return fmt.Errorf("%q is neither a time such as 2026-11-25T14:30:00Z nor a duration such as 2h", text)
	}
	if !m.Equal(m.Truncate(time.Second)) {
		return fmt.Errorf("%q has fractions of a second", text)
	}
	return nil
}

// bounds returns the window with an end.
func (w *window) bounds() (since, until time.Time, err error) {
	since, until = w.Since.Time, w.Until.Time
	if until.IsZero() {
		until = time.Now().UTC().Truncate(time.Second).Add(time.Second)
	}
	if !since.Before(until) {
		return since, until, fmt.Errorf("--since %s is not before --until %s", since.Format(time.RFC3339), until.Format(time.RFC3339))
	}
	return since, until, nil
}

type replayReports struct {
	window

	Product []string `help:"Only reports of these products (ProductName)."`
	ID      []string `help:"Only the reports with these ids."`
	Rule    []string `help:"Only reports that these throttle rules let in."`
	Rate    float64  `default:"20" help:"How many reports a second at the most."`
	Yes     bool     `help:"Do it. Without this flag nothing is changed."`
}

// Help is what crashctl replay --help adds.
func (*replayReports) Help() string {
	return `Puts reports into the bucket again that the queue still has: when objects were lost, or a processor has to see them anew. It does what uploaders do, with the same keys and bytes, and so does no harm where nothing was lost. Reports stay in the queue for UPLOADER_REPLAY_WINDOW after they are stored; what was there before is gone from it.

Without --yes it only counts what it would do. With --product or --rule it reads every report of the window for that.

Uploaders keep precedence: while more than 100 reports wait for them it waits too, and so it does while the bucket takes nothing. When it is interrupted, it prints the command that goes on where it was left, within an hour; until then its window is kept from being trimmed.

` + needs + `
and the uploader's, since it does the uploader's work:

    S3_BUCKET              the bucket's name (required)
    AWS_ENDPOINT_URL_S3, AWS_REGION, AWS_ACCESS_KEY_ID, ...
                           the AWS SDK's own
    UPLOADER_PUT_TIMEOUT, UPLOADER_MEMORY_BUDGET
                           as in README.md

Its NATS user must be allowed to publish to $JS.API.> and $JS.ACK.>, and to subscribe to _INBOX_ops.>.

Exit codes:

    0  all is stored, or (without --yes) shown
    1  some reports could not be stored or read; the output names them
    2  wrong usage or settings, no connection, no answer, or interrupted

Examples:

    crashctl replay --since 2h                                    # says what it would do
    crashctl replay --since 2h --yes
    crashctl replay --since 2026-11-25T08:00:00Z --until 2026-11-25T09:30:00Z --product Firefox --yes
    crashctl replay --since 24h --id bp-54b9164e-505a-432d-ae87-3506b0261123 --yes`
}

// Run looks at the window and, if told so, replays it.
func (c *replayReports) Run(ctx context.Context, s *session) error {
	plan, err := c.plan()
	if err != nil {
		return err
	}
	cfg, err := uploader.Load(s.environ)
	if err != nil {
		return err
	}
	js, streams, err := s.queue(ctx, cfg.NATS)
	if err != nil {
		return err
	}
	defer js.Conn().Close()
	ctx, done := working(ctx, js.Conn())
	defer done()
	run := &replay.Run{Plan: plan, Rate: c.Rate, Progress: new(replay.Progress)}
	if c.Yes {
		say(s.progress, "If this is interrupted, go on with:", c.command(plan))
		if err := run.Hold(ctx, js, streams); err != nil {
			return cmp.Or(context.Cause(ctx), err)
		}
	}
	if run.Extents, err = c.look(ctx, s, js, plan, streams); err != nil {
		return cmp.Or(context.Cause(ctx), err)
	}
	if !c.Yes {
		say(s.out, "would put them into bucket", cfg.Bucket, "again")
		say(s.out, "Nothing was changed. To do it, add --yes")
		return nil
	}
	r, err := uploader.NewReplayer(ctx, cfg, js, func(err error) { say(s.progress, "waiting:", err) })
	if err != nil {
		return err
	}
	run.Store = r.Store
	return c.carryOut(ctx, s, run)
}

func (c *replayReports) plan() (*replay.Plan, error) {
	since, until, err := c.bounds()
	if err != nil {
		return nil, err
	}
	if c.Rate <= 0 {
		return nil, fmt.Errorf("--rate has to be above 0, not %v", c.Rate)
	}
	p := &replay.Plan{Since: since, Until: until, Products: c.Product, Rules: c.Rule}
	for _, text := range c.ID {
		id, err := crash.ParseID(strings.TrimPrefix(text, "bp-"))
		if err != nil {
			return nil, fmt.Errorf("--id: %w", err)
		}
		p.IDs = append(p.IDs, id)
	}
	return p, nil
}

// look prints what the plan comes to.
func (c *replayReports) look(ctx context.Context, s *session, js jetstream.JetStream, plan *replay.Plan, streams []string) ([]replay.Extent, error) {
	say(s.out, "from", plan.Since.Format(time.RFC3339), "until", plan.Until.Format(time.RFC3339))
	var extents []replay.Extent
	for _, stream := range streams {
		bar := s.bar("looking at "+stream, 0)
		e, err := plan.Look(ctx, js, stream, bar.left)
		bar.end()
		if err != nil {
			return nil, err
		}
		line := fmt.Sprintf("%s: %s report(s), %s", stream, comma(e.Reports), humanize.IBytes(uint64(e.Bytes)))
		if e.Others > 0 {
			line += fmt.Sprintf("; %s other(s) left out", comma(e.Others))
		}
		if e.Unread > 0 {
			line += fmt.Sprintf("; %s that cannot be read", comma(e.Unread))
		}
		if e.Begins.After(plan.Since) {
			line += "; it has nothing from before " + e.Begins.UTC().Format(time.RFC3339)
		}
		say(s.out, line)
		extents = append(extents, e)
	}
	return extents, nil
}

// carryOut replays and tells how that goes.
func (c *replayReports) carryOut(ctx context.Context, s *session, run *replay.Run) error {
	progress := run.Progress
	var total uint64
	for _, e := range run.Extents {
		total += e.Reports
	}
	bar := s.bar("replaying", total)
	stop := bar.follow(func() (uint64, string) {
		note := ""
		if progress.Waiting.Load() {
			note = "uploaders come first"
		}
		return progress.Stored.Load() + progress.Failed.Load(), note
	})
	var saying sync.Mutex
	run.Failed = func(what string) { // at once: what is interrupted has said it
		saying.Lock()
		defer saying.Unlock()
		say(s.out, "failed:", what)
	}
	err := run.Do(ctx)
	stop()
	say(s.out, comma(progress.Stored.Load()), "report(s) are stored again")
	if err != nil {
		say(s.out, "Not all of them: to go on,", c.command(run.Plan))
		return cmp.Or(context.Cause(ctx), err)
	}
	if n := progress.Failed.Load(); n > 0 {
		return &exit{exitTrouble, errors.New(comma(n) + " could not be stored")}
	}
	return nil
}

// command is the one that goes on with a plan.
func (c *replayReports) command(p *replay.Plan) string {
	words := []string{"crashctl replay --since", p.Since.Format(time.RFC3339), "--until", p.Until.Format(time.RFC3339)}
	add := func(flag string, values []string) {
		for _, v := range values {
			words = append(words, flag, quote(v))
		}
	}
	add("--product", c.Product)
	add("--rule", c.Rule)
	add("--id", c.ID)
	return strings.Join(append(words, "--rate", fmt.Sprint(c.Rate), "--yes"), " ")
}

// quote writes a word as a shell reads it.
func quote(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }
