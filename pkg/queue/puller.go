package queue

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// pullsAtOnce is how many messages are on their way to a process at a time.
	// Together they are less than the 64 MB that a server has wait for a client
	// (max_pending) before it hangs up, and a line of 4 MB/s brings them before the
	// connection goes for dead.
	pullsAtOnce = 4
	// answerWait is how long the answer to a pull may take beside the time that the
	// server was asked to wait.
	answerWait = time.Second
	// lineWait is how long an answer may then still be on the line, behind what was
	// sent before it: longer than a connection lasts that brings nothing.
	lineWait = 15 * time.Second
	// keptMessages is how many messages and status lines may come between two calls
	// of Next. Each pull brings one, and one pull is out at a time.
	keptMessages = 16
)

// Pullers are the few that pull messages for all workers of a process. Their methods
// may be called from any number of goroutines.
type Pullers struct{ idle chan *Puller }

// NewPullers returns pullers over the connection and in the domain of js, which the
// caller has to Close. The error is about a connection that is closed.
func NewPullers(js jetstream.JetStream) (*Pullers, error) {
	p := &Pullers{idle: make(chan *Puller, pullsAtOnce)}
	all := &answers{}
	for range pullsAtOnce {
		one := &Puller{nc: js.Conn(), prefix: prefixOf(js), answers: all, came: make(chan *nats.Msg, keptMessages)}
		if err := one.listen(); err != nil {
			return nil, errors.Join(err, p.Close())
		}
		p.idle <- one
	}
	return p, nil
}

// Take returns what ask gets of a puller, once one is free; nil and no error when ctx
// ends before that.
func (p *Pullers) Take(ctx context.Context, ask func(*Puller) (jetstream.Msg, error)) (jetstream.Msg, error) {
	select {
	case one := <-p.idle:
		defer func() { p.idle <- one }()
		return ask(one)
	case <-ctx.Done():
		return nil, nil
	}
}

// Close hands back what came and nobody has taken. No Take may be under way, or come
// after it.
func (p *Pullers) Close() error {
	var errs []error
	for range len(p.idle) {
		one := <-p.idle
		_ = one.sub.Unsubscribe() // fails on a closed connection, which has ended it
		for msg := one.kept(); msg != nil; msg = one.kept() {
			errs = append(errs, msg.Nak()) // otherwise it comes again after its ack wait
		}
	}
	return errors.Join(errs...)
}

// Puller takes messages from pull consumers, one at a time. Unlike the client
// library's Fetch it loses none that takes long to come over a slow line: such a
// message would lie with nobody until its ack wait is over, and its bytes would
// have kept the next ones waiting.
type Puller struct {
	nc      *nats.Conn
	prefix  string   // of the subjects of requests
	answers *answers // of all pullers
	inbox   string
	sub     *nats.Subscription
	came    chan *nats.Msg
	pulls   int
}

// listen subscribes to a new inbox.
func (p *Puller) listen() error {
	p.inbox = p.nc.NewInbox()
	sub, err := p.nc.ChanSubscribe(p.inbox+".*", p.came)
	if err != nil {
		return fmt.Errorf("subscribing to the answers of pulls: %w", err)
	}
	p.sub = sub
	return nil
}

// Next returns a message, or nil and no error when there is none within wait; with
// 0 the server does not wait. It may take answerWait longer, and lineWait more when
// much is on the line. The error says why the consumer gives none: it is missing,
// for example, or without a leader. It wraps ErrUnanswered from the second pull in a
// row on that the consumer did not answer.
func (p *Puller) Next(stream, consumer string, wait time.Duration) (jetstream.Msg, error) {
	if msg := p.kept(); msg != nil {
		return msg, nil
	}
	answers := p.answers.of(stream, consumer)
	how, err := answers.begin(wait, time.Now())
	if err != nil {
		return nil, err
	}
	p.pulls++
	reply := p.inbox + "." + strconv.Itoa(p.pulls)
	if err := p.nc.PublishRequest(p.prefix+"CONSUMER.MSG.NEXT."+stream+"."+consumer, reply, how.request()); err != nil {
		return nil, fmt.Errorf("asking %s of %s for a message: %w", consumer, stream, err)
	}
	timer := time.NewTimer(how.wait + answerWait)
	defer timer.Stop()
	for {
		select {
		case msg := <-p.came:
			if found, ok, err := p.read(msg, reply, answers); ok {
				return found, err
			}
		case <-timer.C:
			return p.giveUp(answers, how, reply)
		}
	}
}

// read returns a message, or what a status line says of the pull that has this reply
// subject; ok is false for status lines of earlier pulls. A message may be of an earlier
// pull from another consumer.
func (p *Puller) read(msg *nats.Msg, reply string, answers *answering) (found jetstream.Msg, ok bool, err error) {
	switch {
	case msg.Reply != "":
		found = delivery{msg}
		if m, err := found.Metadata(); err == nil {
			p.answers.of(m.Stream, m.Consumer).answered()
		}
		return found, true, nil
	case msg.Subject == reply:
		answers.answered()
		return nil, true, statusOf(msg)
	}
	return nil, false, nil
}

// giveUp waits for what is on the line from the server: its answer to a ping comes
// after that. If the pull's answer is not among it, the server may keep the pull for
// ever: it does so with one that is not to wait, at a consumer that has handed out all
// that it may (max_ack_pending). It forgets those whose inbox is gone.
func (p *Puller) giveUp(answers *answering, how pull, reply string) (jetstream.Msg, error) {
	if !p.nc.IsConnected() {
		return nil, nats.ErrDisconnected
	}
	err := p.nc.FlushTimeout(lineWait)
	for range len(p.came) {
		if found, ok, err := p.read(<-p.came, reply, answers); ok {
			return found, err
		}
	}
	if err != nil {
		return nil, fmt.Errorf("waiting for what is on the line: %w", err)
	}
	old := p.sub
	if err := p.listen(); err != nil {
		return nil, err
	}
	return nil, errors.Join(answers.unanswered(how, time.Now()), old.Unsubscribe())
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
