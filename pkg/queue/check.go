package queue

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/nats-io/nats.go/jetstream"
)

// Difference is one way in which a live stream or consumer is not what this
// package wants.
type Difference struct {
	On         string // what differs: "stream CRASHES_0", "consumer uploader of CRASHES_0"
	Field      string // the setting, as the server's tools spell it
	Want, Live string // both values, for people
	// Unsafe differences could lose or hide reports that were promised: the
	// tiers' heartbeats are red. Others are worth a warning.
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

// CheckStream tells how a live stream differs from the wanted one.
func CheckStream(want, live jetstream.StreamConfig) []Difference {
	c := comparison{on: "stream " + want.Name}
	c.fatal("retention", want.Retention, live.Retention)
	c.fatal("discard", want.Discard, live.Discard)
	c.fatal("subjects", subjects(want.Subjects), subjects(live.Subjects))
	c.unsafe("storage", want.Storage, live.Storage)
	c.unsafe("persist_mode", want.PersistMode, live.PersistMode)
	c.unsafe("max_age", want.MaxAge, live.MaxAge)
	c.unsafe("max_msgs_per_subject", count(want.MaxMsgsPerSubject), count(live.MaxMsgsPerSubject))
	c.warn("max_bytes", size(want.MaxBytes), size(live.MaxBytes))
	c.warn("max_msgs", count(want.MaxMsgs), count(live.MaxMsgs))
	c.warn("max_msg_size", count(int64(want.MaxMsgSize)), count(int64(live.MaxMsgSize)))
	c.warn("no_ack", want.NoAck, live.NoAck)
	c.warn("sealed", want.Sealed, live.Sealed)
	c.warn("duplicate_window", want.Duplicates, live.Duplicates)
	c.warn("num_replicas", want.Replicas, live.Replicas)
	c.warn("allow_direct", want.AllowDirect, live.AllowDirect)
	c.warn("deny_delete", want.DenyDelete, live.DenyDelete)
	c.warn("compression", want.Compression, live.Compression)
	return c.found
}

// CheckConsumer tells how a live consumer of the stream differs from the
// wanted one.
func CheckConsumer(stream string, want, live jetstream.ConsumerConfig) []Difference {
	c := comparison{on: "consumer " + want.Durable + " of " + stream}
	c.fatal("filter_subject", filters(want), filters(live))
	c.fatal("ack_policy", want.AckPolicy, live.AckPolicy)
	c.fatal("deliver_policy", want.DeliverPolicy, live.DeliverPolicy)
	c.fatal("max_deliver", count(int64(want.MaxDeliver)), count(int64(live.MaxDeliver)))
	c.unsafe("headers_only", want.HeadersOnly, live.HeadersOnly)
	c.warn("ack_wait", want.AckWait, live.AckWait)
	c.warn("backoff", fmt.Sprint(want.BackOff), fmt.Sprint(live.BackOff))
	c.warn("inactive_threshold", want.InactiveThreshold, live.InactiveThreshold)
	c.warn("max_ack_pending", want.MaxAckPending, live.MaxAckPending)
	c.warn("max_waiting", want.MaxWaiting, live.MaxWaiting)
	return c.found
}

// comparison gathers the differences of one stream or consumer.
type comparison struct {
	on    string
	found []Difference
}

func (c *comparison) warn(field string, want, live any)   { c.compare(field, want, live) }
func (c *comparison) unsafe(field string, want, live any) { c.compare(field, want, live).Unsafe = true }

func (c *comparison) fatal(field string, want, live any) {
	d := c.compare(field, want, live)
	d.Unsafe, d.Fatal = true, true
}

// compare adds a difference if there is one and returns it for marking.
func (c *comparison) compare(field string, want, live any) *Difference {
	d := Difference{On: c.on, Field: field, Want: words(want), Live: words(live)}
	if d.Want == d.Live {
		return &d
	}
	c.found = append(c.found, d)
	return &c.found[len(c.found)-1]
}

func words(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case time.Duration:
		if v == 0 {
			return "none"
		}
	}
	return strings.ToLower(fmt.Sprint(v)) // the client library spells policies with a capital
}

func size(n int64) string {
	if n <= 0 {
		return "unlimited"
	}
	return fmt.Sprintf("%d (%s)", n, humanize.IBytes(uint64(n)))
}

func count(n int64) string {
	if n <= 0 {
		return "unlimited"
	}
	return strconv.FormatInt(n, 10)
}

func subjects(s []string) string {
	return strings.Join(slices.Sorted(slices.Values(s)), " ")
}

func filters(c jetstream.ConsumerConfig) string {
	if c.FilterSubject != "" {
		return c.FilterSubject
	}
	return subjects(c.FilterSubjects)
}
