package queue_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/yagi-crash/yagi/pkg/queue"
)

// difference returns how CRASHES_HELD differs from what partition p relies on, or "".
func difference(t *testing.T, js jetstream.JetStream, p int) string {
	t.Helper()
	held, err := queue.AskStream(t.Context(), js, queue.HeldStream)
	must(t, err)
	reports, err := queue.AskStream(t.Context(), js, queue.StreamName(p))
	must(t, err)
	var all []string
	for _, d := range queue.CheckGeneration(queue.StreamName(p), reports.Config, held) {
		if !d.Unsafe {
			t.Errorf("%s is safe", d)
		}
		all = append(all, d.String())
	}
	return strings.Join(all, "; ")
}

func risks(changes []queue.Change) (names []string) {
	for _, c := range changes {
		for _, r := range c.Risks {
			names = append(names, r.Name)
		}
	}
	return names
}

// References that may be lost are a risk that an operator has to accept, for every
// stream of reports that there is, and after what loses them was put right.
func TestLostReferencesAreARisk(t *testing.T) {
	for name, lose := range map[string]func(*testing.T, jetstream.JetStream, queue.Config){
		"deleted": func(t *testing.T, js jetstream.JetStream, _ queue.Config) {
			t.Helper()
			must(t, js.DeleteStream(t.Context(), queue.HeldStream))
		},
		"max_age": func(t *testing.T, js jetstream.JetStream, cfg queue.Config) {
			t.Helper()
			forgetful := queue.HeldConfig(cfg)
			forgetful.MaxAge, forgetful.Duplicates = time.Hour, time.Hour
			_, err := js.UpdateStream(t.Context(), forgetful)
			must(t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			js, cfg := connect(t)
			apply(t, js, cfg)
			cfg.Partitions = 1 // the other one is left behind
			lose(t, js, cfg)
			if got := risks(plan(t, js, cfg)); len(got) > 0 {
				t.Errorf("putting it right risks %v", got)
			}
			apply(t, js, cfg)
			for p := range 2 {
				if got := difference(t, js, p); !strings.Contains(got, "references to held reports may be lost") {
					t.Errorf("partition %d: %q", p, got)
				}
			}
			if got := risks(plan(t, js, cfg)); !slices.Equal(got, []string{queue.RiskHeld, queue.RiskHeld}) {
				t.Errorf("then the risks are %v", got)
			}
			apply(t, js, cfg)
			for p := range 2 {
				if got := difference(t, js, p); got != "" {
					t.Errorf("partition %d: %s, though it was accepted", p, got)
				}
			}
			if left := plan(t, js, cfg); len(left) > 0 {
				t.Errorf("still to do: %s", left[0].Does)
			}
		})
	}
}

// What is recorded leaves the rest of a stream's metadata alone, and outlives an update
// of the stream.
func TestGenerationIsRecorded(t *testing.T) {
	js, cfg := connect(t)
	cfg.Partitions = 1
	config := queue.StreamConfig(0, cfg)
	config.Metadata, config.MaxMsgs = map[string]string{"owner": "me"}, 5
	_, err := js.CreateStream(t.Context(), config)
	must(t, err)
	if changes := plan(t, js, cfg); len(risks(changes)) > 0 || len(besides(changes, "create ", "change ")) != 1 {
		t.Errorf("plan %v, want one more step than to create and change, without a risk", changes)
	}
	apply(t, js, cfg)
	if got := difference(t, js, 0); got != "" {
		t.Error(got)
	}
	live, err := js.Stream(t.Context(), queue.StreamName(0))
	must(t, err)
	if got := live.CachedInfo().Config; got.Metadata["owner"] != "me" || got.MaxMsgs != -1 {
		t.Errorf("the stream is %+v", got)
	}
}

// References that nobody takes out of their stream are of no use, and no server makes a
// work queue of it.
func TestReferencesInAnotherKindOfStream(t *testing.T) {
	js, cfg := connect(t)
	config := queue.HeldConfig(cfg)
	config.Retention = jetstream.LimitsPolicy
	_, err := js.CreateStream(t.Context(), config)
	must(t, err)
	for _, c := range besides(plan(t, js, cfg), "create ") {
		if !strings.Contains(c.Does, "retention") || !strings.Contains(c.Cannot, "delete the stream") || !c.Unsafe {
			t.Errorf("%+v", c)
		}
	}
	found, err := queue.InspectHeld(t.Context(), js, cfg)
	if len(queue.Unsafe(found.Differences)) != 1 || err == nil {
		t.Errorf("%v, %v; want the retention, and that the consumer is missing", found.Differences, err)
	}
}
