package queue

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// Change is one step that makes the server's streams what they should be.
type Change struct {
	// Does says in words what the step does.
	Does string
	// Risk says why somebody should think twice; empty for most steps.
	Risk string
	// Do takes the step. Doing it twice does no harm.
	Do func(context.Context) error
}

// Plan tells which changes the server needs. It changes nothing, and no plan
// ever removes a stream: a partition that is no longer configured is drained
// like the others.
func Plan(ctx context.Context, js jetstream.JetStream, cfg Config) ([]Change, error) {
	var plan []Change
	add := func(changes []Change, err error) error {
		plan = append(plan, changes...)
		return err
	}
	for p := range cfg.Partitions {
		if err := add(planStream(ctx, js, StreamConfig(p, cfg))); err != nil {
			return nil, err
		}
		if err := add(planConsumer(ctx, js, StreamName(p), ConsumerConfig(p, cfg))); err != nil {
			return nil, err
		}
	}
	if err := add(planStream(ctx, js, DeadLetterConfig(cfg))); err != nil {
		return nil, err
	}
	if err := add(planStream(ctx, js, HeldConfig(cfg))); err != nil {
		return nil, err
	}
	if err := add(planConsumer(ctx, js, HeldStream, HeldConsumerConfig())); err != nil {
		return nil, err
	}
	return plan, nil
}

// Apply takes every step of the plan, in order, up to the first that fails.
func Apply(ctx context.Context, plan []Change) error {
	for _, c := range plan {
		if err := c.Do(ctx); err != nil {
			return fmt.Errorf("applying %q: %w", c.Does, err)
		}
	}
	return nil
}

func planStream(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) ([]Change, error) {
	live, err := js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return []Change{{
			Does: fmt.Sprintf("create stream %s on %s, at most %s, %d replica(s)", want.Name, subjects(want.Subjects), size(want.MaxBytes), want.Replicas),
			Do: func(ctx context.Context) error {
				_, err := js.CreateStream(ctx, want)
				return err
			},
		}}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking at stream %s: %w", want.Name, err)
	}
	config, state := live.CachedInfo().Config, live.CachedInfo().State
	changes := righting(CheckStream(want, config), func(ctx context.Context) error {
		_, err := js.UpdateStream(ctx, overlay(config, want))
		return err
	})
	shrinks := want.MaxBytes > 0 && (config.MaxBytes <= 0 || want.MaxBytes < config.MaxBytes)
	if shrinks && state.Bytes > uint64(want.MaxBytes) {
		changes[0].Risk = fmt.Sprintf("%s holds %s, and would take nothing until it holds less than %s", want.Name, size(int64(state.Bytes)), size(want.MaxBytes))
	}
	return changes, nil
}

// overlay keeps of a live stream what this package has no opinion on, such as
// its placement.
func overlay(live, want jetstream.StreamConfig) jetstream.StreamConfig {
	want.Placement, want.Metadata, want.RePublish = live.Placement, live.Metadata, live.RePublish
	return want
}

func planConsumer(ctx context.Context, js jetstream.JetStream, stream string, want jetstream.ConsumerConfig) ([]Change, error) {
	live, err := js.Consumer(ctx, stream, want.Durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
		return []Change{{
			Does: fmt.Sprintf("create consumer %s of %s on %s", want.Durable, stream, want.FilterSubject),
			Do: func(ctx context.Context) error {
				_, err := js.CreateConsumer(ctx, stream, want)
				return err
			},
		}}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking at consumer %s of %s: %w", want.Durable, stream, err)
	}
	return righting(CheckConsumer(stream, want, live.CachedInfo().Config), func(ctx context.Context) error {
		_, err := js.UpdateConsumer(ctx, stream, want)
		return err
	}), nil
}

// righting is the one step that puts the differences of a stream or a consumer
// right, or none when there are none.
func righting(all []Difference, do func(context.Context) error) []Change {
	if len(all) == 0 {
		return nil
	}
	var what []string
	for _, d := range all {
		what = append(what, fmt.Sprintf("%s from %s to %s", d.Field, d.Live, d.Want))
	}
	return []Change{{Does: "change " + all[0].On + ": " + strings.Join(what, ", "), Do: do}}
}
