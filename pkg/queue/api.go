package queue

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Open returns JetStream over nc, in the domain that the settings name. Readers,
// pullers, copiers and everything else in this package ask in the same domain.
func Open(nc *nats.Conn, cfg Config) (js jetstream.JetStream, err error) {
	if cfg.Domain == "" {
		js, err = jetstream.New(nc)
	} else {
		js, err = jetstream.NewWithDomain(nc, cfg.Domain)
	}
	if err != nil {
		return nil, fmt.Errorf("opening JetStream: %w", err)
	}
	return js, nil
}

// prefixOf returns what the subjects of requests to JetStream begin with,
// "$JS.API." without a domain.
func prefixOf(js jetstream.JetStream) string {
	switch o := js.Options(); {
	case o.Domain != "":
		return "$JS." + o.Domain + ".API."
	case o.APIPrefix != "":
		return strings.TrimSuffix(o.APIPrefix, ".") + "."
	default:
		return jetstream.DefaultAPIPrefix
	}
}

// StreamInfo is the answer of a stream's leader about its stream.
type StreamInfo struct {
	Created time.Time              `json:"created"`
	Server  time.Time              `json:"ts"` // the leader's clock when it answered
	State   jetstream.StreamState  `json:"state"`
	Cluster *jetstream.ClusterInfo `json:"cluster"`
	// Config is the live configuration as the server wrote it, with fields that this
	// release does not know.
	Config json.RawMessage `json:"config"`
}

// Limits are the limits of a stream, 0 or less where there is none.
type Limits struct {
	MaxBytes   int64 `json:"max_bytes"`
	MaxMsgSize int64 `json:"max_msg_size"` // bytes of one message, headers included
}

// Limits returns the limits that the stream has now.
func (s *StreamInfo) Limits() (Limits, error) {
	var l Limits
	if err := json.Unmarshal(s.Config, &l); err != nil {
		return Limits{}, fmt.Errorf("reading the stream's configuration: %w", err)
	}
	return l, nil
}

// AskStream asks the leader of a stream about it, with the number of messages on
// each subject (State.Subjects). The error wraps jetstream.ErrStreamNotFound when
// there is no such stream.
func AskStream(ctx context.Context, js jetstream.JetStream, name string) (*StreamInfo, error) {
	return askStream(ctx, js, name, ">")
}

// askStream is AskStream with the number of messages on the subjects that a filter
// matches; empty matches none.
func askStream(ctx context.Context, js jetstream.JetStream, name, subjects string) (*StreamInfo, error) {
	question := struct {
		Subjects string `json:"subjects_filter,omitempty"`
	}{subjects}
	info := &StreamInfo{}
	if err := request(ctx, js, "STREAM.INFO."+name, question, info); err != nil {
		return nil, fmt.Errorf("looking at stream %s: %w", name, err)
	}
	return info, nil
}

// ConsumerInfo is the answer of a consumer's leader about its consumer.
type ConsumerInfo struct {
	NumPending    uint64 `json:"num_pending"`     // not delivered yet
	NumAckPending int    `json:"num_ack_pending"` // delivered and not acknowledged
	// NumRedelivered counts those of NumAckPending that were delivered before.
	NumRedelivered int `json:"num_redelivered"`
	// Config is the live configuration as the server wrote it, with fields that this
	// release does not know.
	Config json.RawMessage `json:"config"`
}

// MaxAckPending returns how many messages may be delivered and not acknowledged; 0 or
// less is any number.
func (c *ConsumerInfo) MaxAckPending() (int, error) {
	var config struct {
		MaxAckPending int `json:"max_ack_pending"`
	}
	if err := json.Unmarshal(c.Config, &config); err != nil {
		return 0, fmt.Errorf("reading the consumer's configuration: %w", err)
	}
	return config.MaxAckPending, nil
}

// AskConsumer asks the leader of a consumer of the stream about it. The error wraps
// jetstream.ErrConsumerNotFound or jetstream.ErrStreamNotFound when there is none.
func AskConsumer(ctx context.Context, js jetstream.JetStream, stream, name string) (*ConsumerInfo, error) {
	info := &ConsumerInfo{}
	if err := request(ctx, js, "CONSUMER.INFO."+stream+"."+name, nil, info); err != nil {
		return nil, fmt.Errorf("looking at consumer %s of %s: %w", name, stream, err)
	}
	return info, nil
}

// requestTimeout ends a request whose context has no deadline, as in the client library:
// a cluster without a leader does not answer.
const requestTimeout = 5 * time.Second

// request asks JetStream and reads its answer. What the server refuses is a
// *jetstream.APIError, which matches the library's own errors.
func request(ctx context.Context, js jetstream.JetStream, subject string, question, answer any) error {
	var text []byte
	if question != nil {
		var err error
		if text, err = json.Marshal(question); err != nil {
			return fmt.Errorf("writing the request: %w", err)
		}
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, requestTimeout)
		defer cancel()
	}
	reply, err := js.Conn().RequestWithContext(ctx, prefixOf(js)+subject, text)
	if err != nil {
		return err
	}
	var refusal struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(reply.Data, &refusal); err != nil {
		return fmt.Errorf("reading the server's answer: %w", err)
	}
	if refusal.Error != nil {
		return refusal.Error
	}
	if err := json.Unmarshal(reply.Data, answer); err != nil {
		return fmt.Errorf("reading the server's answer: %w", err)
	}
	return nil
}
