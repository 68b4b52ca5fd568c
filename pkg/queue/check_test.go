package queue_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/yagi-crash/yagi/pkg/queue"
)

// with returns the JSON of a configuration with one field more, or another one.
func with(t *testing.T, config any, field, value string) json.RawMessage {
	t.Helper()
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil {
		t.Fatal(err)
	}
	fields[field] = json.RawMessage(value)
	if text, err = json.Marshal(fields); err != nil {
		t.Fatal(err)
	}
	return text
}

// What differs is unsafe, unless it is on the short list of what is harmless.
func TestCheckSaysHowBadADifferenceIs(t *testing.T) {
	cfg := queue.Config{Replicas: 3, StreamMaxBytes: 1 << 30, MaxAckPending: 1000}
	stream, consumer := queue.StreamConfig(0, cfg), queue.ConsumerConfig(0, cfg)
	for _, c := range []struct{ field, live, how string }{
		{"retention", `"workqueue"`, "fatal"},
		{"discard", `"old"`, "fatal"},
		{"subjects", `["crash.0.ready"]`, "fatal"},
		{"max_age", `3600000000000`, "unsafe"},
		{"storage", `"memory"`, "unsafe"},
		{"persist_mode", `"async"`, "unsafe"},
		{"max_msgs_per_subject", `1`, "unsafe"},
		{"num_replicas", `1`, "warning"},
		{"num_replicas", `5`, "warning"},
		{"no_ack", `true`, "unsafe"},
		{"sealed", `true`, "unsafe"},
		{"mirror", `{"name":"OTHER"}`, "unsafe"},
		{"sources", `[{"name":"OTHER"}]`, "unsafe"},
		{"subject_transform", `{"src":"crash.0.ready","dest":"crash.0.hidden"}`, "unsafe"},
		{"republish", `{"src":">","dest":"copy.>"}`, "unsafe"},
		{"max_consumers", `1`, "unsafe"},
		{"consumer_limits", `{"max_ack_pending":1}`, "unsafe"},
		{"discard_new_per_subject", `true`, "unsafe"},
		{"deny_purge", `true`, "unsafe"},
		{"allow_rollup_hdrs", `true`, "unsafe"},
		{"allow_msg_ttl", `true`, "unsafe"},
		{"allow_msg_counter", `true`, "unsafe"},
		{"allow_msg_schedules", `true`, "unsafe"},
		{"allow_atomic", `true`, "unsafe"},
		{"of_a_newer_server", `{"a":{"b":1}}`, "unsafe"},
		{"of_a_newer_server", `{"a":{"b":0},"c":[],"d":""}`, "none"},
		{"max_bytes", `5`, "warning"},
		{"max_bytes", `-1`, "warning"},
		{"max_msgs", `5`, "warning"},
		{"max_msg_size", `5`, "warning"},
		{"duplicate_window", `1000000000`, "warning"},
		{"duplicate_window", `1000000000000`, "warning"},
		{"allow_direct", `false`, "warning"},
		{"deny_delete", `false`, "warning"},
		{"compression", `"s2"`, "warning"},
		{"description", `"other"`, "none"},
		{"metadata", `{"_nats.ver":"9"}`, "none"},
		{"placement", `{"tags":["ssd"]}`, "none"},
		{"first_seq", `1000`, "none"},
	} {
		requireOne(t, c.live, queue.CheckStream(stream, with(t, stream, c.field, c.live)), c.field, c.how)
	}
	for _, c := range []struct{ field, live, how string }{
		{"filter_subject", `"crash.0.>"`, "fatal"},
		{"ack_policy", `"none"`, "fatal"},
		{"deliver_policy", `"new"`, "fatal"},
		{"max_deliver", `5`, "fatal"},
		{"headers_only", `true`, "unsafe"},
		{"priority_groups", `["a"]`, "unsafe"},
		{"mem_storage", `true`, "unsafe"},
		{"rate_limit_bps", `1`, "unsafe"},
		{"num_replicas", `1`, "unsafe"},
		{"opt_start_seq", `7`, "unsafe"},
		{"max_batch", `1`, "unsafe"},
		{"max_expires", `500000000`, "unsafe"},
		{"max_bytes", `1000`, "unsafe"},
		{"inactive_threshold", `1`, "unsafe"},
		{"backoff", `[1]`, "unsafe"},
		{"flow_control", `true`, "unsafe"},
		{"deliver_subject", `"x"`, "unsafe"},
		{"replay_policy", `"original"`, "unsafe"},
		{"of_a_newer_server", `1`, "unsafe"},
		{"ack_wait", `1000000000`, "warning"},
		{"max_ack_pending", `1`, "warning"},
		{"max_waiting", `1`, "warning"},
		{"sample_freq", `"100"`, "warning"},
		{"pause_until", `"2099-01-01T00:00:00Z"`, "none"},
		{"filter_subjects", `["crash.0.ready"]`, "fatal"}, // both, which no server takes
	} {
		field := c.field
		if field == "filter_subjects" {
			field = "filter_subject"
		}
		requireOne(t, c.live, queue.CheckConsumer("CRASHES_0", consumer, with(t, consumer, c.field, c.live)), field, c.how)
	}
}

func requireOne(t *testing.T, name string, got []queue.Difference, field, how string) {
	t.Helper()
	if how == "none" {
		if len(got) != 0 {
			t.Errorf("%s %s: got %v, want no difference", field, name, got)
		}
		return
	}
	if len(got) != 1 || got[0].Field != field {
		t.Errorf("%s %s: got %v, want one difference", field, name, got)
		return
	}
	unsafe, fatal := how != "warning", how == "fatal"
	if len(queue.Unsafe(got)) == 1 != unsafe || len(queue.Fatal(got)) == 1 != fatal {
		t.Errorf("%s %s: %v is unsafe %t and fatal %t, want it to be: %s", field, name, got, got[0].Unsafe, got[0].Fatal, how)
	}
}

func TestConfigurationThatCannotBeRead(t *testing.T) {
	for _, live := range []string{"", "null", "[]", "{"} {
		got := queue.CheckStream(queue.StreamConfig(0, queue.Config{}), json.RawMessage(live))
		if len(queue.Unsafe(got)) == 0 {
			t.Errorf("%q is no unsafe difference: %v", live, got)
		}
	}
}

// A difference is told in the words of the server's tools.
func TestDifferencesInWords(t *testing.T) {
	cfg := queue.Config{Replicas: 1, StreamMaxBytes: 64 << 20, MaxAckPending: 1000}
	stream := queue.StreamConfig(0, cfg)
	for _, c := range []struct{ field, live, says string }{
		{"max_age", "3600000000000", "max_age is 1h0m0s, should be none"},
		{"max_bytes", "-1", "max_bytes is unlimited, should be 67108864 (64 MiB)"},
		{"max_msgs", "5", "max_msgs is 5, should be unlimited"},
		{"retention", `"workqueue"`, "retention is workqueue, should be limits"},
		{"subjects", `["b","a"]`, "subjects is a b, should be crash.0.chunk crash.0.ready"},
		{"sealed", "true", "sealed is true, should be false"},
		{"allow_direct", "false", "allow_direct is false, should be true"},
		{"republish", `{"src":">","dest":"x"}`, `republish is {"dest":"x","src":"\u003e"}, should be none`},
	} {
		got := queue.CheckStream(stream, with(t, stream, c.field, c.live))
		if len(got) != 1 || got[0].String() != "stream CRASHES_0: "+c.says {
			t.Errorf("%s: %v, want %s", c.field, got, c.says)
		}
	}
}

// What lies on a subject that nobody reads is named.
func TestCheckSubjects(t *testing.T) {
	got := queue.CheckSubjects(0, map[string]uint64{"crash.0.ready": 7, "crash.0.chunk": 2, "crash.0.hidden": 3, "crash.1.ready": 1})
	if len(got) != 2 || !got[0].Unsafe || got[0].String() != "stream CRASHES_0: subject crash.0.hidden is not empty, should be empty" {
		t.Errorf("%v", got)
	}
}

// Whatever somebody changed on a real server is seen, and put right or named as what
// the server keeps for life.
func TestApplyMendsOrSaysWhyNot(t *testing.T) {
	js, cfg := connect(t)
	cfg.Partitions = 1
	name := queue.StreamName(0)
	for _, c := range []struct {
		field, live string
		mends       bool
	}{
		{"subject_transform", `{"src":"crash.0.ready","dest":"crash.0.hidden"}`, true},
		{"republish", `{"src":"crash.0.ready","dest":"copy"}`, true},
		{"max_msgs_per_subject", "5", true},
		{"max_consumers", "3", true},
		{"no_ack", "true", true},
		{"allow_atomic", "true", true},
		{"allow_rollup_hdrs", "true", true},
		{"max_msg_size", "5000", true},
		{"retention", `"interest"`, true},
		{"consumer_limits", `{"max_ack_pending":5000}`, true},
		{"sources", `[{"name":"OTHER"}]`, true},
		{"deny_purge", "true", false},
		{"sealed", "true", false},
		{"allow_msg_ttl", "true", false},
		{"storage", `"memory"`, false},
		{"persist_mode", `"async"`, false},
		{"retention", `"workqueue"`, false},
	} {
		config := map[string]json.RawMessage{}
		if err := json.Unmarshal(with(t, queue.StreamConfig(0, cfg), c.field, c.live), &config); err != nil {
			t.Fatal(err)
		}
		delete(config, "sealed") // no stream begins so
		create(t, js, "STREAM.CREATE."+name, config)
		if c.field == "sealed" {
			config["sealed"] = json.RawMessage("true")
			create(t, js, "STREAM.UPDATE."+name, config)
		}
		requireMended(t, js, cfg, c.field, c.mends)
		if err := js.DeleteStream(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	apply(t, js, cfg)
	for _, c := range []struct {
		field, live string
		mends       bool
	}{
		{"max_expires", "500000000", true},
		{"max_batch", "1", true},
		{"max_bytes", "1000", true},
		{"inactive_threshold", "3600000000000", true},
		{"headers_only", "true", true},
		{"max_deliver", "3", true},
		{"sample_freq", `"10"`, true},
		{"backoff", "[1000000000]", true},
		{"filter_subject", `"crash.0.chunk"`, true},
		{"max_waiting", "7", false},
		{"mem_storage", "true", false},
		{"deliver_policy", `"new"`, false},
		{"ack_policy", `"all"`, false},
		{"deliver_subject", `"somewhere"`, false},
	} {
		if err := js.DeleteConsumer(t.Context(), name, queue.Consumer); err != nil {
			t.Fatal(err)
		}
		var config map[string]json.RawMessage
		if err := json.Unmarshal(with(t, queue.ConsumerConfig(0, cfg), c.field, c.live), &config); err != nil {
			t.Fatal(err)
		}
		if c.field == "deliver_subject" {
			delete(config, "max_waiting")
		}
		create(t, js, "CONSUMER.CREATE."+name+"."+queue.Consumer, map[string]any{"stream_name": name, "config": config})
		requireMended(t, js, cfg, c.field, c.mends)
	}
}

// create asks the server for something as its own tools do.
func create(t *testing.T, js jetstream.JetStream, subject string, question any) {
	t.Helper()
	text, err := json.Marshal(question)
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		reply, err := js.Conn().RequestWithContext(t.Context(), "$JS.API."+subject, text)
		switch {
		case err != nil:
			t.Fatalf("%s %s: %v", subject, text, err)
		case !strings.Contains(string(reply.Data), `"error"`):
			return
		case strings.Contains(string(reply.Data), `"err_code":10049`) && time.Now().Before(deadline):
			// The server is still removing the files of a stream of that name.
		default:
			t.Fatalf("%s %s: %s", subject, text, reply.Data)
		}
	}
}

// besides returns the steps that do not begin with one of these words.
func besides(changes []queue.Change, words ...string) []queue.Change {
	return slices.DeleteFunc(changes, func(c queue.Change) bool {
		return slices.ContainsFunc(words, func(word string) bool { return strings.HasPrefix(c.Does, word) })
	})
}

func requireMended(t *testing.T, js jetstream.JetStream, cfg queue.Config, field string, mends bool) {
	t.Helper()
	changes := besides(plan(t, js, cfg), "create ", "record ")
	if len(changes) == 0 {
		t.Errorf("%s is not seen", field)
		return
	}
	err := queue.Apply(t.Context(), changes)
	left := besides(plan(t, js, cfg), "create ", "record ")
	if mends && (err != nil || len(left) > 0) {
		t.Errorf("%s is not mended: %v, %v", field, err, left)
	}
	if !mends && (len(left) != 1 || !strings.Contains(left[0].Cannot, "for life") || !strings.Contains(left[0].Does, field)) {
		t.Errorf("%s: left is %v, error %v, want one step that says that it cannot be changed", field, left, err)
	}
}

// A paused consumer stays paused when something else of it is put right, and so does
// where a stream lies.
func TestApplyKeepsAPause(t *testing.T) {
	js, cfg := connect(t)
	cfg.Partitions = 1
	apply(t, js, cfg)
	config := map[string]json.RawMessage{}
	if err := json.Unmarshal(with(t, queue.ConsumerConfig(0, cfg), "metadata", `{"owner":"me"}`), &config); err != nil {
		t.Fatal(err)
	}
	config["max_batch"] = json.RawMessage("1")
	create(t, js, "CONSUMER.CREATE."+queue.StreamName(0)+"."+queue.Consumer,
		map[string]any{"stream_name": queue.StreamName(0), "config": config, "action": "update"})
	if _, err := js.PauseConsumer(t.Context(), queue.StreamName(0), queue.Consumer, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	apply(t, js, cfg)
	consumer, err := js.Consumer(t.Context(), queue.StreamName(0), queue.Consumer)
	if err != nil {
		t.Fatal(err)
	}
	if info := consumer.CachedInfo(); !info.Paused || info.Config.Metadata["owner"] != "me" || info.Config.MaxRequestBatch != 0 {
		t.Errorf("after apply the consumer is %+v", info)
	}
}

// A risk is named: fewer servers, less room.
func TestPlanNamesWhatIsLost(t *testing.T) {
	js, cfg := connect(t)
	cfg.Partitions = 1
	apply(t, js, cfg)
	cfg.StreamMaxBytes /= 2
	var names []string
	for _, c := range plan(t, js, cfg) {
		for _, r := range c.Risks {
			names = append(names, r.Name+" "+r.What)
		}
	}
	if len(names) != 2 || !strings.HasPrefix(names[0], "shrink CRASHES_0 has room for 67108864") {
		t.Errorf("the risks of half the room are %q", names)
	}
	cfg.StreamMaxBytes *= 4
	for _, c := range plan(t, js, cfg) {
		if len(c.Risks) > 0 {
			t.Errorf("more room has risks %v", c.Risks)
		}
	}
}
