package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
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
	Resume  string   `help:"Go on with a replay that was interrupted, by the name that it gave itself; it does not do again what it had done."`
	Yes     bool     `help:"Do it. Without this flag nothing is changed."`
}

// Help is what crashctl replay --help adds.
func (*replayReports) Help() string {
	return `Puts reports into the bucket again that the queue still has: when objects were lost, or a processor has to see them anew. It does what uploaders do, with the same keys and bytes, and so does no harm where nothing was lost. Reports stay in the queue for UPLOADER_REPLAY_WINDOW after they are stored; what was there before is gone from it.

Without --yes it only counts what it would do. With --product or --rule it reads every report of the window for that.

Uploaders keep precedence: while more than 100 reports wait for them it waits too, and so it does when the bucket goes away meanwhile. When it is interrupted, it prints the command that goes on where it was left, within an hour; until then its window is kept from being trimmed. Without --resume all of the window is replayed, whatever was done before.

` + needs + `
and the uploader's, since it does the uploader's work:

    S3_BUCKET              the bucket's name (required)
    AWS_ENDPOINT_URL_S3, AWS_REGION, AWS_ACCESS_KEY_ID, ...
                           the AWS SDK's own
    S3_ADDRESSING_STYLE, S3_CHECKSUM, S3_SSE, S3_SSE_KMS_KEY_ID, S3_ACL,
    S3_STORAGE_CLASS       as the uploader has them
    UPLOADER_PUT_TIMEOUT, UPLOADER_MEMORY_BUDGET
                           as in README.md

Its NATS user must be allowed to publish to $JS.API.> and $JS.ACK.>, and to subscribe to _INBOX_ops.>; its access key must be allowed to put objects (s3:PutObject). With --yes it leaves an object of 64 bytes in the bucket, below v1/probe/, with which it sees whether the bucket takes any.

Exit codes:

    0  all is stored, or (without --yes) shown
    1  some reports could not be stored or (with --yes) read, or an --id is not
       in the window, or is not of that --product or --rule; the output names
       them
    2  wrong usage or settings, no connection, no answer, (with --yes) a bucket
       that takes nothing, or interrupted

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
	if err := complete(streams, cfg.NATS); err != nil {
		return err
	}
	ctx, done := working(ctx, js.Conn())
	defer done()
	run := &replay.Run{Plan: plan, Name: c.Resume, Rate: c.Rate, Progress: new(replay.Progress)}
	if c.Yes {
		if run.Store, err = s.store(ctx, cfg, js); err == nil {
			err = c.hold(ctx, s, js, run, streams)
		}
	}
	if err == nil {
		err = c.look(ctx, s, js, run, streams)
	}
	if err != nil {
		return cmp.Or(context.Cause(ctx), err)
	}
	missing := plan.Missing(run.Extents)
	where := "not in the window:"
	if len(c.Product)+len(c.Rule) > 0 {
		where = "not in the window, or of another product or rule:"
	}
	for _, id := range missing {
		say(s.out, where, id)
	}
	switch {
	case c.Yes:
		err = c.carryOut(ctx, s, run)
	case run.Reports() == 0:
		say(s.out, "nothing to do")
	default:
		say(s.out, "would put them into bucket", cfg.Bucket, "again")
		say(s.out, "Nothing was changed. To do it, add --yes")
	}
	if err == nil && len(missing) > 0 {
		err = &exit{exitTrouble, fmt.Errorf("%d of %d ids are not among them", len(missing), len(plan.IDs))}
	}
	return err
}

// store returns what puts reports into the bucket, once that takes something.
func (s *session) store(ctx context.Context, cfg uploader.Config, js jetstream.JetStream) (replay.Store, error) {
	r, err := uploader.NewReplayer(ctx, cfg, js, s.seldom("waiting:"))
	if err != nil {
		return nil, err
	}
	if err := r.Probe(ctx); err != nil {
		return nil, fmt.Errorf("bucket %s takes nothing: %w", cfg.Bucket, err)
	}
	return r.Store, nil
}

// hold keeps the window from being trimmed.
func (c *replayReports) hold(ctx context.Context, s *session, js jetstream.JetStream, run *replay.Run, streams []string) error {
	if run.Name != "" {
		return run.GoOn(ctx, js, streams)
	}
	run.Name = strconv.FormatInt(time.Now().UnixMilli(), 36)
	say(s.progress, "If this is interrupted, go on with:", c.command(run))
	return run.Hold(ctx, js, streams)
}

// sayAgain is how often the same kind of trouble is told at the most.
const sayAgain = 30 * time.Second

// seldom returns a function that tells people of an error, unless it did so not long
// ago; it may be called by several at once.
func (s *session) seldom(what string) func(error) {
	var mu sync.Mutex
	var said time.Time
	return func(err error) {
		mu.Lock()
		defer mu.Unlock()
		if time.Since(said) >= sayAgain {
			said = time.Now()
			say(s.progress, what, err)
		}
	}
}

func (c *replayReports) plan() (*replay.Plan, error) {
	since, until, err := c.bounds()
	if err != nil {
		return nil, err
	}
	if !(c.Rate > 0) || math.IsInf(c.Rate, 0) {
		return nil, fmt.Errorf("--rate has to be a number above 0, not %v", c.Rate)
	}
	for _, values := range [][]string{c.Product, c.Rule, c.ID} {
		// An empty one is of a shell's variable that is not set, and would mean all.
		if values != nil && len(values) == 0 || slices.Contains(values, "") {
			return nil, errors.New("--product, --rule and --id must not be empty")
		}
	}
	if c.Resume != "" && (!c.Yes || c.Until.IsZero()) {
		return nil, errors.New("--resume goes with all that the interrupted replay printed")
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
func (c *replayReports) look(ctx context.Context, s *session, js jetstream.JetStream, run *replay.Run, streams []string) error {
	say(s.out, "from", run.Plan.Since.Format(time.RFC3339), "until", run.Plan.Until.Format(time.RFC3339))
	for _, stream := range streams {
		bar := s.bar("looking at "+stream, 0)
		e, err := run.Plan.Look(ctx, js, stream, run.Before(stream), bar.left)
		bar.end()
		if err != nil {
			return err
		}
		say(s.out, describe(e, run.Plan.Since))
		run.Extents = append(run.Extents, e)
	}
	takes := time.Duration(float64(run.Reports()) / c.Rate * float64(time.Second)).Round(time.Second)
	if takes > 0 {
		say(s.out, fmt.Sprintf("at %v a second that takes %s", c.Rate, takes))
	}
	return nil
}

func describe(e replay.Extent, since time.Time) string {
	line := fmt.Sprintf("%s: %s report(s), %s", e.Stream, comma(e.Reports), humanize.IBytes(uint64(e.Bytes)))
	if e.Done > 0 {
		line += fmt.Sprintf("; %s that were done before", comma(e.Done))
	}
	if e.Others > 0 {
		line += fmt.Sprintf("; %s other(s) left out", comma(e.Others))
	}
	if e.Unread > 0 {
		line += fmt.Sprintf("; %s that cannot be read", comma(e.Unread))
	}
	if e.Begins.After(since) {
		line += "; it has nothing from before " + e.Begins.UTC().Format(time.RFC3339)
	}
	return line
}

// carryOut replays and tells how that goes.
func (c *replayReports) carryOut(ctx context.Context, s *session, run *replay.Run) error {
	progress := run.Progress
	bar := s.bar("replaying", run.Reports())
	stop := bar.follow(func() (uint64, string) {
		note := ""
		if why := progress.Waiting.Load(); why != nil {
			note = *why
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
		say(s.out, "Not all of them: to go on,", c.command(run))
		return cmp.Or(context.Cause(ctx), err)
	}
	if n := progress.Failed.Load(); n > 0 {
		return &exit{exitTrouble, errors.New(comma(n) + " could not be stored")}
	}
	return nil
}

// command is the one that goes on with a run.
func (c *replayReports) command(run *replay.Run) string {
	p := run.Plan
	words := []string{"crashctl replay --since", p.Since.Format(time.RFC3339), "--until", p.Until.Format(time.RFC3339)}
	add := func(flag string, values []string) {
		for _, v := range values {
			words = append(words, flag, quote(v))
		}
	}
	add("--product", c.Product)
	add("--rule", c.Rule)
	add("--id", c.ID)
	return strings.Join(append(words, "--rate", fmt.Sprint(c.Rate), "--resume", run.Name, "--yes"), " ")
}

// quote writes a word as a shell reads it.
func quote(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }
