package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/yagi-crash/yagi/pkg/queue"
)

const needsPause = `It needs the environment variable NATS_URL (and NATS_CREDS, if there is a credentials file). Its NATS user must be allowed to publish to $JS.API.> and to subscribe to _INBOX_ops.>.

Exit codes:

    0  done, or (without --yes) shown
    1  a step failed; those before it are done, and it can be run again
    2  wrong usage or settings, no connection, or no answer
`

type pauseUploads struct {
	For time.Duration `required:"" help:"How long, such as 30m. Uploads go on by themselves afterwards."`
	Yes bool          `help:"Do it. Without this flag nothing is changed."`
}

// Help is what crashctl pause --help adds.
func (*pauseUploads) Help() string {
	return `Has every uploader take no more reports from the queue for a while, for work on the bucket for example. What they have in hand they finish. Intake goes on: reports wait in the queue, which has to have room for them (crashctl status). A second pause replaces the first. It ends after 24 hours at the latest.

` + needsPause + `
Examples:

    crashctl pause --for 30m         # says what it would do
    crashctl pause --for 30m --yes`
}

// longestPause keeps one that was forgotten, or a slip of the keyboard, from filling
// the streams.
const longestPause = 24 * time.Hour

// pauseTime is how the end of a pause is written.
const pauseTime = "15:04:05 MST on 2 January"

// Run pauses each consumer or says so.
func (c *pauseUploads) Run(ctx context.Context, s *session) error {
	if c.For <= 0 || c.For > longestPause {
		return fmt.Errorf("--for has to be above 0 and up to %s, not %s", longestPause, c.For)
	}
	what := "pause uploads from %s until " + time.Now().Add(c.For).Format(pauseTime)
	return s.eachConsumer(ctx, c.Yes, what, func(ctx context.Context, js jetstream.JetStream, info *jetstream.ConsumerInfo) error {
		until := info.TimeStamp.Add(c.For) // on the server's clock, which may differ from this machine's
		answer, err := js.PauseConsumer(ctx, info.Stream, queue.Consumer, until)
		if err == nil && !answer.Paused {
			err = errors.New("the server has not paused it")
		}
		return err
	})
}

type resumeUploads struct {
	Yes bool `help:"Do it. Without this flag nothing is changed."`
}

// Help is what crashctl resume --help adds.
func (*resumeUploads) Help() string {
	return `Ends what crashctl pause began.

` + needsPause + `
Examples:

    crashctl resume                  # says what it would do
    crashctl resume --yes`
}

// Run resumes each consumer or says so.
func (c *resumeUploads) Run(ctx context.Context, s *session) error {
	return s.eachConsumer(ctx, c.Yes, "resume uploads from %s", func(ctx context.Context, js jetstream.JetStream, info *jetstream.ConsumerInfo) error {
		_, err := js.ResumeConsumer(ctx, info.Stream, queue.Consumer)
		return err
	})
}

// eachConsumer does something to the uploaders' consumer of every stream of
// reports that there is, or says so.
func (s *session) eachConsumer(ctx context.Context, yes bool, what string, do func(context.Context, jetstream.JetStream, *jetstream.ConsumerInfo) error) error { //nolint:revive // --yes is for every command that changes something
	cfg, err := load(s.environ)
	if err != nil {
		return err
	}
	js, streams, err := s.queue(ctx, cfg.Queue)
	if err != nil {
		return err
	}
	defer js.Conn().Close()
	for _, stream := range streams {
		words := fmt.Sprintf(what, stream)
		asking, cancel := s.asking(ctx, js.Conn())
		info, err := uploadersOf(asking, js, stream)
		if err == nil && yes {
			err = do(asking, js, info)
		}
		if err != nil {
			err = &exit{exitTrouble, fmt.Errorf("could not %s: %w", words, cmp.Or(context.Cause(asking), err))}
		}
		cancel()
		switch {
		case err != nil:
			return err
		case yes:
			say(s.out, "done:", words, pausedNow(info))
		default:
			say(s.out, "would", words, pausedNow(info))
		}
	}
	if !yes {
		say(s.out, "Nothing was changed. To do it, add --yes")
	}
	return nil
}

// uploadersOf asks for the uploaders' consumer of a stream.
func uploadersOf(ctx context.Context, js jetstream.JetStream, stream string) (*jetstream.ConsumerInfo, error) {
	c, err := js.Consumer(ctx, stream, queue.Consumer)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return nil, fmt.Errorf("consumer %s is missing: crashctl stream apply makes it", queue.Consumer)
	}
	if err != nil {
		return nil, err
	}
	return c.CachedInfo(), nil
}

// pausedNow says whether uploads were paused.
func pausedNow(info *jetstream.ConsumerInfo) string {
	if !info.Paused {
		return "(so far not paused)"
	}
	return "(so far paused until " + time.Now().Add(info.PauseRemaining).Format(pauseTime) + ")"
}

// streams lists the streams of reports, by number; it is an error when there is
// none.
func (s *session) streams(ctx context.Context, js jetstream.JetStream) ([]string, error) {
	ctx, cancel := s.asking(ctx, js.Conn())
	defer cancel()
	var names []string
	list := js.StreamNames(ctx)
	for name := range list.Name() {
		if _, ok := queue.PartitionOf(name); ok {
			names = append(names, name)
		}
	}
	if err := list.Err(); err != nil {
		return nil, fmt.Errorf("asking which streams there are: %w", cmp.Or(context.Cause(ctx), err))
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("there is no stream on %s: crashctl stream apply makes them", queue.Subjects)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
	return names, nil
}
