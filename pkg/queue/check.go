package queue

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
)

// Difference is one way in which a live stream or consumer is not what this
// package wants.
type Difference struct {
	On         string // what differs: "stream CRASHES_0", "consumer uploader of CRASHES_0"
	Field      string // the setting, as the server's tools spell it
	Want, Live string // both values, for people
	// Unsafe differences may lose or hide reports that were promised: heartbeats are
	// unhealthy, and intake promises nothing to the stream. Others are warnings.
	Unsafe bool
	// Fatal differences are unsafe to work with: an uploader ends. With the
	// other unsafe ones it goes on, because what it stores is saved.
	Fatal bool
}

// String says the difference in words.
func (d Difference) String() string {
	return fmt.Sprintf("%s: %s is %s, should be %s", d.On, d.Field, d.Live, d.Want)
}

// Fatal returns the fatal ones among the differences.
func Fatal(all []Difference) []Difference {
	return slices.DeleteFunc(slices.Clone(all), func(d Difference) bool { return !d.Fatal })
}

// Unsafe returns the unsafe ones among the differences, fatal or not.
func Unsafe(all []Difference) []Difference {
	return slices.DeleteFunc(slices.Clone(all), func(d Difference) bool { return !d.Unsafe })
}

// severity is how bad a difference in a field is. A field that no list names is
// unsafe: what this release does not know may hide or remove reports.
type severity int

const (
	unsafe severity = iota
	fatal
	warning
	ignored
)

// CheckStream returns how a live stream, whose configuration the server wrote as
// JSON, differs from the wanted one. Fields that this release does not know count.
func CheckStream(want jetstream.StreamConfig, live json.RawMessage) []Difference {
	return compare("stream "+want.Name, want, live, streamSeverity)
}

// CheckConsumer returns how a live consumer of the stream, whose configuration the
// server wrote as JSON, differs from the wanted one. Fields that this release does
// not know count. A pause is not a difference.
func CheckConsumer(stream string, want jetstream.ConsumerConfig, live json.RawMessage) []Difference {
	return compare("consumer "+want.Durable+" of "+stream, want, live, consumerSeverity)
}

// mostSubjects bounds how many subjects are told.
const mostSubjects = 5

// CheckSubjects returns an unsafe difference for each subject, up to five, of partition
// p's stream that has messages and that nobody reads. A stream's configuration does not
// tell: a subject_transform that is gone again has left its messages behind.
func CheckSubjects(p int, messages map[string]uint64) (found []Difference) {
	for _, subject := range slices.Sorted(maps.Keys(messages)) {
		if subject == ReadySubject(p) || subject == ChunkSubject(p) || messages[subject] == 0 {
			continue
		}
		found = append(found, Difference{
			On: "stream " + StreamName(p), Field: "subject " + subject, Want: "empty", Live: "not empty", Unsafe: true,
		})
		if len(found) == mostSubjects {
			break
		}
	}
	return found
}

func streamSeverity(field string, want, live value) severity {
	switch field {
	case "retention", "discard", "subjects":
		return fatal
	case "description", "metadata":
		return ignored // words
	case "placement", "first_seq":
		return ignored // where the stream lies, and where it began to count
	case "num_replicas":
		// More servers hold it, or fewer: then a server that is lost may take reports with
		// it, while refusing all of them until somebody applies the setting would lose them
		// for certain.
		return warning
	case "max_bytes", "max_msgs", "max_msg_size":
		return warning // with discard new these refuse reports, which are not promised then
	case "duplicate_window":
		return warning // what is stored twice is stored with the same bytes
	case "allow_direct", "compression":
		return warning // cost alone: the leader answers instead
	case "deny_delete":
		return warning // guards against people
	}
	return unsafe
}

func consumerSeverity(field string, _, _ value) severity {
	switch field {
	case "filter_subject", "ack_policy", "deliver_policy", "max_deliver":
		return fatal
	case "name", "description", "metadata":
		return ignored
	case "pause_until":
		return ignored // a state that crashctl pause and resume change
	case "ack_wait", "max_ack_pending", "max_waiting", "sample_freq":
		return warning // pace alone: reports are redelivered sooner or later
	}
	return unsafe
}

// compare returns the differences in the order of their fields' names, the fatal
// ones first.
func compare(on string, want any, live json.RawMessage, severityOf func(field string, want, live value) severity) []Difference {
	wanted, err := fieldsOf(mustJSON(want))
	there, liveErr := fieldsOf(live)
	if err != nil || liveErr != nil {
		return []Difference{{On: on, Field: "configuration", Want: "readable", Live: "not JSON that this release can read", Unsafe: true}}
	}
	var found []Difference
	all := maps.Clone(wanted)
	maps.Copy(all, there)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		w, l := wanted[name], there[name]
		if w == l {
			continue
		}
		how := severityOf(name, w, l)
		if how == ignored {
			continue
		}
		found = append(found, Difference{
			On: on, Field: name, Want: w.words(name, l), Live: l.words(name, w),
			Unsafe: how == unsafe || how == fatal, Fatal: how == fatal,
		})
	}
	slices.SortStableFunc(found, func(a, b Difference) int { return b.rank() - a.rank() })
	return found
}

func (d Difference) rank() int {
	switch {
	case d.Fatal:
		return 2
	case d.Unsafe:
		return 1
	}
	return 0
}

// mustJSON writes a configuration of the client library, all of whose fields can be
// written.
func mustJSON(config any) json.RawMessage {
	text, err := json.Marshal(config)
	if err != nil {
		panic(fmt.Sprintf("queue: writing %T: %v", config, err))
	}
	return text
}
