package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Change is one step that makes the server's streams what they should be.
type Change struct {
	// Does says in words what the step does.
	Does string
	// Risks are what the step takes away; empty for most steps. Whoever takes the
	// step must have accepted each by its name.
	Risks []Risk
	// Cannot says in words why nobody can take the step and what to do instead; empty
	// for most steps. Do returns it as an error.
	Cannot string
	// Unsafe is whether reports are at risk for as long as the step is not taken.
	Unsafe bool
	// Do takes the step. Doing it twice does no harm.
	Do func(context.Context) error
}

// Risk is what a change takes away.
type Risk struct {
	Name string // RiskReplicas, RiskShrink, RiskHeld
	What string // the consequence, in words
}

// Names of risks.
const (
	// RiskReplicas is fewer servers that hold a stream.
	RiskReplicas = "fewer-replicas"
	// RiskShrink is less room for reports.
	RiskShrink = "shrink"
	// RiskHeld is held reports that nothing refers to any more.
	RiskHeld = "forget-held"
)

// Plan returns the changes that the server needs. It changes nothing, and no plan
// ever removes a stream: a partition that is no longer configured is drained
// like the others.
func Plan(ctx context.Context, js jetstream.JetStream, cfg Config) ([]Change, error) {
	var plan []Change
	add := func(changes []Change, err error) error {
		plan = append(plan, changes...)
		return err
	}
	// The first, since report streams record which one has their references.
	if err := add(planStream(ctx, js, HeldConfig(cfg))); err != nil {
		return nil, err
	}
	if err := add(planConsumer(ctx, js, HeldStream, HeldConsumerConfig())); err != nil {
		return nil, err
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
	if err := add(planGenerations(ctx, js)); err != nil {
		return nil, err
	}
	return plan, nil
}

// Apply takes every step of the plan, in order, up to the first that fails, whatever
// its risks. A step that nobody can take is an error at the end, if it is unsafe.
func Apply(ctx context.Context, plan []Change) error {
	var cannot []error
	for _, c := range plan {
		err := c.Do(ctx)
		if err != nil {
			err = fmt.Errorf("applying %q: %w", c.Does, err)
		}
		switch {
		case err != nil && c.Cannot == "":
			return err
		case err != nil && c.Unsafe:
			cannot = append(cannot, err)
		}
	}
	return errors.Join(cannot...)
}

func planStream(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) ([]Change, error) {
	live, err := AskStream(ctx, js, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return []Change{{
			Does: fmt.Sprintf("create stream %s on %s, at most %s, %d replica(s)", want.Name, strings.Join(slices.Sorted(slices.Values(want.Subjects)), " "), size(want.MaxBytes), want.Replicas),
			Do:   func(ctx context.Context) error { return createStream(ctx, js, want) },
		}}, nil
	}
	if err != nil {
		return nil, err
	}
	m := mending{
		differences: CheckStream(want, live.Config), want: mustJSON(want), live: live.Config,
		kept: []string{"placement", "metadata", "first_seq"}, forLife: forLifeOfStream,
		instead: "drain the stream (stop intake, wait for depth 0), delete it and run crashctl stream apply again",
		update: func(ctx context.Context, config json.RawMessage) error {
			return request(ctx, js, "STREAM.UPDATE."+want.Name, config, &struct{}{})
		},
	}
	if want.Name == HeldStream {
		m.ofHeld()
	}
	return m.plan(streamRisks(want, live)), nil
}

// ofHeld adapts the mending to the stream of references: what was unsafe may have lost
// some, so that another generation begins.
func (m *mending) ofHeld() {
	m.instead = "delete the stream and run crashctl stream apply twice: the second time it says what may be lost"
	m.forLife = func(field string, live value) (forLife, alone bool) {
		if field == "retention" { // to a work queue, no more than from one
			return true, true
		}
		return forLifeOfStream(field, live)
	}
	if len(Unsafe(m.differences)) == 0 {
		return
	}
	update := m.update
	m.update = func(ctx context.Context, config json.RawMessage) error {
		config, err := withMetadata(config, mendedAt, time.Now().UTC().Format(time.RFC3339Nano))
		if err != nil {
			return err
		}
		return update(ctx, config)
	}
}

// streamRisks returns what changing the live stream to the wanted one takes away.
func streamRisks(want jetstream.StreamConfig, live *StreamInfo) (risks []Risk) {
	fields, err := fieldsOf(live.Config)
	if err != nil {
		return nil // there is a difference that says so
	}
	if n := fields["num_replicas"].number(); n > int64(want.Replicas) {
		risks = append(risks, Risk{RiskReplicas, fmt.Sprintf(
			"%s is on %d servers and would be on %d: reports that are promised are lost with a server", want.Name, n, want.Replicas)})
	}
	limit := fields["max_bytes"].number()
	if want.MaxBytes <= 0 || limit > 0 && limit <= want.MaxBytes {
		return risks
	}
	what := fmt.Sprintf("%s has room for %s and would have room for %s", want.Name, size(limit), size(want.MaxBytes))
	if live.State.Bytes > uint64(want.MaxBytes) {
		what = fmt.Sprintf("%s holds %s, and would take nothing until it holds less than %s", want.Name, size(int64(live.State.Bytes)), size(want.MaxBytes))
	}
	return append(risks, Risk{RiskShrink, what})
}

// forLifeOfStream reports whether nats-server refuses to change a stream's field from
// its live value (configUpdateCheck in its stream.go). alone is whether other fields
// can be changed as long as this one stays.
func forLifeOfStream(field string, live value) (forLife, alone bool) {
	switch field {
	case "storage", "persist_mode":
		return true, true
	case "deny_delete", "deny_purge":
		return live == "true", true
	case "retention":
		return live == `"workqueue"`, true
	case "sealed", "allow_msg_counter", "allow_msg_schedules", "allow_msg_ttl":
		return live == "true", false
	}
	return false, true
}

// forLifeOfConsumer is the same for a consumer (checkNewConsumerConfig in consumer.go).
func forLifeOfConsumer(field string, _ value) (forLife, alone bool) {
	switch field {
	case "ack_policy", "deliver_policy", "replay_policy", "max_waiting", "mem_storage",
		"opt_start_seq", "opt_start_time", "direct", "sourcing", "durable_name":
		return true, true
	case "deliver_subject", "idle_heartbeat", "flow_control": // of a push consumer
		return true, false
	}
	return false, true
}

func planConsumer(ctx context.Context, js jetstream.JetStream, stream string, want jetstream.ConsumerConfig) ([]Change, error) {
	live, err := AskConsumer(ctx, js, stream, want.Durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
		return []Change{{
			Does: fmt.Sprintf("create consumer %s of %s on %s", want.Durable, stream, want.FilterSubject),
			Do: func(ctx context.Context) error {
				_, err := js.CreateConsumer(ctx, stream, want)
				return explain(err)
			},
		}}, nil
	}
	if err != nil {
		return nil, err
	}
	m := mending{
		differences: CheckConsumer(stream, want, live.Config), want: mustJSON(want), live: live.Config,
		kept: []string{"metadata", "pause_until"}, forLife: forLifeOfConsumer,
		instead: "delete the consumer and run crashctl stream apply again; reports that the stream still has are then stored again, with the same bytes",
		update: func(ctx context.Context, config json.RawMessage) error {
			question := map[string]any{"stream_name": stream, "config": config, "action": "update"}
			return request(ctx, js, "CONSUMER.CREATE."+stream+"."+want.Durable, question, &struct{}{})
		},
	}
	return m.plan(nil), nil
}

// mending plans how to put a stream or a consumer right.
type mending struct {
	differences []Difference
	want, live  json.RawMessage
	kept        []string // fields that stay as they are
	forLife     func(field string, live value) (forLife, alone bool)
	instead     string // of changing what cannot be changed
	update      func(ctx context.Context, config json.RawMessage) error
}

// plan returns one step for what the server lets be changed, and one for what it does
// not.
func (m *mending) plan(risks []Risk) (plan []Change) {
	live, err := fieldsOf(m.live)
	if err != nil {
		return []Change{m.cannot(m.differences)}
	}
	var fixed, open []Difference
	alone := true
	for _, d := range m.differences {
		forLife, others := m.forLife(d.Field, live[d.Field])
		if !forLife {
			open = append(open, d)
			continue
		}
		fixed, alone = append(fixed, d), alone && others
	}
	if !alone {
		fixed, open = m.differences, nil
	}
	if len(open) > 0 {
		plan = append(plan, Change{
			Does: "change " + list(open), Risks: risks, Unsafe: len(Unsafe(open)) > 0,
			Do: func(ctx context.Context) error { return m.do(ctx, fixed) },
		})
	}
	if len(fixed) > 0 {
		plan = append(plan, m.cannot(fixed))
	}
	return plan
}

// cannot is the step that nobody can take.
func (m *mending) cannot(fixed []Difference) Change {
	why := "the server keeps this for life: " + m.instead
	return Change{
		Does: "change " + list(fixed), Cannot: why, Unsafe: len(Unsafe(fixed)) > 0,
		Do: func(context.Context) error { return errors.New(why) },
	}
}

// do sends the wanted configuration, with what stays from the live one.
func (m *mending) do(ctx context.Context, fixed []Difference) error {
	var config, live map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal(m.want, &config), json.Unmarshal(m.live, &live)); err != nil {
		return fmt.Errorf("reading the configurations: %w", err)
	}
	kept := slices.Clone(m.kept)
	for _, d := range fixed {
		kept = append(kept, d.Field)
	}
	maps.DeleteFunc(live, func(field string, _ json.RawMessage) bool { return !slices.Contains(kept, field) })
	for _, field := range kept {
		delete(config, field)
	}
	maps.Copy(config, live)
	text, err := json.Marshal(config)
	if err != nil {
		return fmt.Errorf("writing the configuration: %w", err)
	}
	return explain(m.update(ctx, text))
}

// list names differences of one stream or consumer.
func list(all []Difference) string {
	var what []string
	for _, d := range all {
		what = append(what, fmt.Sprintf("%s from %s to %s", d.Field, d.Live, d.Want))
	}
	return all[0].On + ": " + strings.Join(what, ", ")
}

// explain adds to the server's refusal what to change, where a limit of the server or
// of its account is in the way.
func explain(err error) error {
	api, ok := errors.AsType[*jetstream.APIError](err)
	if !ok {
		return err
	}
	hint := ""
	switch text := api.Description; {
	case strings.Contains(text, "duplicates window"):
		hint = fmt.Sprintf("raise duplicate_window in the limits of the server's jetstream block to %s or more", DuplicateWindow)
	case strings.Contains(text, "max ack pending"):
		hint = "lower NATS_MAX_ACK_PENDING, or raise max_ack_pending in the limits of the server or the account"
	case strings.Contains(text, "insufficient storage"), strings.Contains(text, "resource limits exceeded"),
		strings.Contains(text, "max stream bytes"):
		hint = "lower NATS_STREAM_MAX_BYTES or NATS_PARTITIONS, or raise the store's limit of the server or the account"
	case strings.Contains(text, "replicas"), strings.Contains(text, "no suitable peers"):
		hint = "NATS_REPLICAS must not exceed the servers of the cluster, and must be 1 without one"
	default:
		return err
	}
	return fmt.Errorf("%w (%s)", err, hint)
}
