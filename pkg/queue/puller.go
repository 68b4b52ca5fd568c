package queue

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// answerWait is how long the answer to a pull may take beside the time that the
	// server was asked to wait.
	answerWait = time.Second
	// lineWait is how long an answer may then still be on the line, behind what was
	// sent before it: longer than a connection lasts that brings nothing.
	lineWait = 15 * time.Second
	// keptMessages is how many messages and status lines may come between two calls
	// of Next. Each pull brings one at the most.
	keptMessages = 64
)

// Puller takes messages from pull consumers, one at a time. Unlike the client
// library's Fetch it loses none that takes long to come over a slow line: such a
// message would lie with nobody until its ack wait is over, and its bytes would
// have kept the next ones waiting. Its methods must not be called by two goroutines
// at once.
type Puller struct {
	nc    *nats.Conn
	inbox string
	sub   *nats.Subscription
	came  chan *nats.Msg
	pulls int
}

// NewPuller returns a puller that the caller has to Close. The error is about a
// connection that is closed.
func NewPuller(nc *nats.Conn) (*Puller, error) {
	p := &Puller{nc: nc, inbox: nc.NewInbox(), came: make(chan *nats.Msg, keptMessages)}
	var err error
	if p.sub, err = nc.ChanSubscribe(p.inbox+".*", p.came); err != nil {
		return nil, fmt.Errorf("subscribing to the answers of pulls: %w", err)
	}
	return p, nil
}

// Close ends the subscription and returns what came and was not taken.
func (p *Puller) Close() []jetstream.Msg {
	_ = p.sub.Unsubscribe() // fails on a closed connection, which has ended it
	var left []jetstream.Msg
	for msg := p.kept(); msg != nil; msg = p.kept() {
		left = append(left, msg)
	}
	return left
}

// Next returns a message, or nil and no error when there is none within wait; with
// 0 the server does not wait. It may take answerWait longer, and lineWait more when
// much is on the line. The error says why the consumer gives none: it is missing,
// for example, or without a leader.
func (p *Puller) Next(stream, consumer string, wait time.Duration) (jetstream.Msg, error) {
	if msg := p.kept(); msg != nil {
		return msg, nil
	}
	p.pulls++
	reply := p.inbox + "." + strconv.Itoa(p.pulls)
	pull := fmt.Sprintf(`{"batch":1,"expires":%d}`, wait.Nanoseconds())
	if wait == 0 {
		pull = `{"batch":1,"no_wait":true}`
	}
	if err := p.nc.PublishRequest(jetstream.DefaultAPIPrefix+"CONSUMER.MSG.NEXT."+stream+"."+consumer, reply, []byte(pull)); err != nil {
		return nil, fmt.Errorf("asking %s of %s for a message: %w", consumer, stream, err)
	}
	timer := time.NewTimer(wait + answerWait)
	defer timer.Stop()
	for {
		select {
		case msg := <-p.came:
			switch {
			case msg.Reply != "":
				return delivery{msg}, nil
			case msg.Subject == reply:
				return nil, statusOf(msg)
			}
		case <-timer.C:
			return p.flush()
		}
	}
}

// flush waits for what is on the line from the server: its answer to a ping comes
// behind that. What comes later still, from another server by way of this one, is
// kept.
func (p *Puller) flush() (jetstream.Msg, error) {
	if !p.nc.IsConnected() {
		return nil, nats.ErrDisconnected
	}
	err := p.nc.FlushTimeout(lineWait)
	if msg := p.kept(); msg != nil {
		return msg, nil
	}
	if err != nil {
		return nil, fmt.Errorf("waiting for what is on the line: %w", err)
	}
	return nil, nil
}

// kept returns a message that has come already, or nil.
func (p *Puller) kept() jetstream.Msg {
	for {
		select {
		case msg := <-p.came:
			if msg.Reply != "" {
				return delivery{msg}
			}
		default:
			return nil
		}
	}
}

// statusOf reads a status line (ADR-37 of nats-architecture-and-design): nil when
// there is no message.
func statusOf(msg *nats.Msg) error {
	switch status := msg.Header.Get("Status"); status {
	case "404", "408":
		return nil
	case "503":
		return nats.ErrNoResponders
	default:
		return errors.New(strings.TrimSpace(status + " " + msg.Header.Get("Description")))
	}
}
