package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/yagi-crash/yagi/pkg/queue"
)

type stream struct {
	Apply streamApply `cmd:"" help:"Make streams and consumers, or put them right. Without --yes only say how."`
}

type streamApply struct {
	Yes    bool     `help:"Do it. Without this flag nothing is changed."`
	Accept []string `help:"With --yes, a risk that is accepted, by its name: fewer-replicas, shrink, forget-held. Several with commas between them." placeholder:"RISK,..."`
	Shrink bool     `help:"The same as --accept shrink."`
}

// Help is what crashctl stream apply --help adds.
func (*streamApply) Help() string {
	return `Makes the streams CRASHES_0, CRASHES_1, ..., CRASHES_DLQ and CRASHES_HELD with their consumers where they are missing, and changes what differs in those that are there. It prints one step a line, or that there is nothing to do. It never removes a stream, nor what is in it: uploaders drain a partition that is no longer configured like the others. What would make reports less safe, or leave less room for them, is a risk that --accept has to name: fewer-replicas where fewer servers would hold a stream, shrink where it would have less room, forget-held where CRASHES_HELD was re-created, or was mended, and references to held reports may be lost: crashctl audit names what is missing in the bucket, and crashctl replay stores it. Without that, nothing at all is changed. What a server keeps for life is told, with what to do instead. Run it before the first start, after each change of the settings below, and whenever crashctl status says so.

` + needs + `
Its user must be allowed to publish to $JS.API.> ($JS.<domain>.API.> with a domain) and to subscribe to _INBOX_ops.>.

Exit codes:

    0  done, or (without --yes) shown
    1  a step failed; those before it are done, and it can be run again. Or
       what puts reports at risk cannot be changed; the other steps are done
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
	if c.Yes {
		if err := c.refuse(plan); err != nil {
			return err
		}
		return s.carryOut(ctx, js.Conn(), plan)
	}
	s.show(plan)
	return nil
}

// refuse returns an error for the first risk that was not accepted.
func (c *streamApply) refuse(plan []queue.Change) error {
	accepted := c.Accept
	if c.Shrink {
		accepted = append(accepted, queue.RiskShrink)
	}
	for _, change := range plan {
		for _, r := range change.Risks {
			if !slices.Contains(accepted, r.Name) {
				return fmt.Errorf("would %s: %s; nothing was changed (--accept %s does it all the same)", change.Does, r.What, r.Name)
			}
		}
	}
	return nil
}

// show prints the plan.
func (s *session) show(plan []queue.Change) {
	open := 0
	for _, change := range plan {
		if change.Cannot != "" {
			say(s.out, "cannot", change.Does)
			say(s.out, "  since", change.Cannot)
			continue
		}
		open++
		say(s.out, "would", change.Does)
		for _, r := range change.Risks {
			say(s.out, "  but:", r.What, "(--accept "+r.Name+")")
		}
	}
	if open > 0 {
		say(s.out, "Nothing was changed. To do it: crashctl stream apply --yes")
	}
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
	var left error
	for _, change := range plan {
		if change.Cannot != "" {
			say(s.out, "cannot", change.Does)
			say(s.out, "  since", change.Cannot)
			if change.Unsafe {
				left = &exit{exitTrouble, fmt.Errorf("cannot %s: %s", change.Does, change.Cannot)}
			}
			continue
		}
		if err := s.do(ctx, nc, change); err != nil {
			return &exit{exitTrouble, fmt.Errorf("could not %s: %w", change.Does, err)}
		}
		say(s.out, "done:", change.Does)
	}
	return left
}

func (s *session) do(ctx context.Context, nc *nats.Conn, change queue.Change) error {
	ctx, cancel := s.asking(ctx, nc)
	defer cancel()
	if err := change.Do(ctx); err != nil {
		return cmp.Or(context.Cause(ctx), err)
	}
	return nil
}
