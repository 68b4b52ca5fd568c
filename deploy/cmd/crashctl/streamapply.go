package main

import (
	"cmp"
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/yagi-crash/yagi/pkg/queue"
)

type stream struct {
	Apply streamApply `cmd:"" help:"Make streams and consumers, or put them right. Without --yes only say how."`
}

type streamApply struct {
	Yes    bool `help:"Do it. Without this flag nothing is changed."`
	Shrink bool `help:"With --yes, also make a stream smaller than what it holds: it takes no report until there is room."`
}

// Help is what crashctl stream apply --help adds.
func (*streamApply) Help() string {
	return `Makes the streams CRASHES_0, CRASHES_1, ... and CRASHES_DLQ with their consumers where they are missing, and changes what differs in those that are there. It prints one step a line, or that there is nothing to do. It never removes a stream, nor what is in it: uploaders drain a partition that is no longer configured like the others. Run it before the first start, after each change of the settings below, and whenever crashctl status says so.

` + needs + `
Its user must be allowed to publish to $JS.API.> and to subscribe to _INBOX_ops.>.

Exit codes:

    0  done, or (without --yes) shown
    1  a step failed; those before it are done, and it can be run again
    2  wrong usage or settings, no connection, or no answer

Examples:

    NATS_URL=nats://127.0.0.1:4222 crashctl stream apply
    NATS_URL=nats://127.0.0.1:4222 crashctl stream apply --yes`
}

// Run prints the plan or carries it out.
func (c *streamApply) Run(ctx context.Context, s *session) error {
	cfg, err := load(s.environ)
	if err != nil {
		return err
	}
	js, err := s.connect(ctx, cfg.Queue)
	if err != nil {
		return err
	}
	defer js.Conn().Close()
	plan, err := s.plan(ctx, js, cfg.Queue)
	if err != nil {
		return err
	}
	if len(plan) == 0 {
		say(s.out, "nothing to do")
		return nil
	}
	for _, change := range plan {
		if c.Yes && change.Risk != "" && !c.Shrink {
			return fmt.Errorf("would %s: %s; nothing was changed (--shrink does it all the same)", change.Does, change.Risk)
		}
	}
	if c.Yes {
		return s.carryOut(ctx, js.Conn(), plan)
	}
	for _, change := range plan {
		say(s.out, "would", change.Does)
		if change.Risk != "" {
			say(s.out, "  but:", change.Risk)
		}
	}
	say(s.out, "Nothing was changed. To do it: crashctl stream apply --yes")
	return nil
}

func (s *session) plan(ctx context.Context, js jetstream.JetStream, cfg queue.Config) ([]queue.Change, error) {
	ctx, cancel := s.asking(ctx, js.Conn())
	defer cancel()
	plan, err := queue.Plan(ctx, js, cfg)
	if err != nil {
		return nil, fmt.Errorf("asking for the streams: %w", cmp.Or(context.Cause(ctx), err))
	}
	return plan, nil
}

// carryOut takes the steps one by one. Making a stream of several replicas can
// take as long as an election, so each step has the whole timeout.
func (s *session) carryOut(ctx context.Context, nc *nats.Conn, plan []queue.Change) error {
	for _, change := range plan {
		if err := s.do(ctx, nc, change); err != nil {
			return &exit{exitTrouble, fmt.Errorf("could not %s: %w", change.Does, err)}
		}
		say(s.out, "done:", change.Does)
	}
	return nil
}

func (s *session) do(ctx context.Context, nc *nats.Conn, change queue.Change) error {
	ctx, cancel := s.asking(ctx, nc)
	defer cancel()
	if err := change.Do(ctx); err != nil {
		return cmp.Or(context.Cause(ctx), err)
	}
	return nil
}
