package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/yagi-crash/yagi/deploy/internal/lookup"
	"github.com/yagi-crash/yagi/pkg/queue"
	"github.com/yagi-crash/yagi/pkg/settings"
)

// role names the operators' connection and its inbox, which permissions are
// given for.
const role = "ops"

// session is what every command works with.
type session struct {
	environ  []string
	timeout  time.Duration
	out      display
	progress display // for people who wait for what comes out
}

// connect returns a connection over which JetStream answers, or gives up after
// the timeout. Whoever asked for it closes it (js.Conn).
func (s *session) connect(ctx context.Context, cfg queue.Config) (jetstream.JetStream, error) {
	nc, err := s.dial(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connecting to NATS at %s: %w", masked(cfg), err)
	}
	js, err := s.open(ctx, nc, cfg)
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("asking JetStream at %s: %w", masked(cfg), err)
	}
	return js, nil
}

// queue is connect, with the streams of reports that there are.
func (s *session) queue(ctx context.Context, cfg queue.Config) (jetstream.JetStream, []string, error) {
	js, err := s.connect(ctx, cfg)
	if err != nil {
		return nil, nil, err
	}
	streams, err := s.streams(ctx, js)
	if err != nil {
		js.Conn().Close()
		return nil, nil, err
	}
	return js, streams, nil
}

// complete returns an error when a stream of reports is missing.
func complete(streams []string, cfg queue.Config) error {
	for p := range cfg.Partitions {
		if name := queue.StreamName(p); !slices.Contains(streams, name) {
			return fmt.Errorf("stream %s is missing (NATS_PARTITIONS is %d): crashctl stream apply makes it", name, cfg.Partitions)
		}
	}
	return nil
}

// lookups is how often crashctl audit asks for an object.
const lookups = 3

// bucket returns the bucket once it answers.
func (s *session) bucket(ctx context.Context, cfg Config) (*lookup.Bucket, error) {
	b, err := lookup.Open(ctx, cfg.S3, cfg.Bucket, lookups)
	if err == nil {
		err = s.check(ctx, b, cfg.Bucket)
	}
	return b, err
}

// check tells whether the bucket is there.
func (s *session) check(ctx context.Context, b *lookup.Bucket, name string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.timeout, fmt.Errorf("no answer within %s", s.timeout))
	defer cancel()
	if err := b.Check(ctx); err != nil {
		return fmt.Errorf("looking for bucket %s: %w", name, cmp.Or(context.Cause(ctx), err))
	}
	return nil
}

func (s *session) dial(ctx context.Context, cfg queue.Config) (*nats.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	var last failure
	nc, err := begin(ctx, cfg, &last)
	if err == nil {
		err = await(ctx, nc)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("no connection within %s%s", s.timeout, last.hint())
	}
	if err != nil && nc != nil {
		nc.Close()
	}
	return nc, err
}

// open asks the simplest question: where JetStream is not enabled, every other
// one would only be told that nobody listens.
func (s *session) open(ctx context.Context, nc *nats.Conn, cfg queue.Config) (jetstream.JetStream, error) {
	js, err := queue.Open(nc, cfg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := s.asking(ctx, nc)
	defer cancel()
	if _, err := js.AccountInfo(ctx); err != nil {
		return nil, cmp.Or(context.Cause(ctx), err)
	}
	return js, nil
}

// masked is NATS_URL without its passwords.
func masked(cfg queue.Config) string {
	all := settings.Effective(&cfg)
	i := slices.IndexFunc(all, func(s settings.Setting) bool { return s.Key == "NATS_URL" })
	return all[i].Value
}

// begin does not wait for longer than ctx. The first attempt of queue.Connect
// does: 2 s for each address that is silent, and then its goroutine ends.
func begin(ctx context.Context, cfg queue.Config, last *failure) (*nats.Conn, error) {
	type result struct {
		nc  *nats.Conn
		err error
	}
	dialed := make(chan result)
	go func() {
		nc, err := queue.Connect(cfg, role, zerolog.Nop(), nats.ReconnectErrHandler(last.note))
		select {
		case dialed <- result{nc, err}:
		case <-ctx.Done():
			if nc != nil {
				nc.Close()
			}
		}
	}()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case r := <-dialed:
		return r.nc, r.err
	}
}

func await(ctx context.Context, nc *nats.Conn) error {
	connected := nc.StatusChanged(nats.CONNECTED)
	defer nc.RemoveStatusListener(connected)
	if nc.IsConnected() {
		return nil
	}
	select {
	case <-connected:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// failure is why the last attempt to connect failed: nobody listens, or a server
// refused the credentials, for example.
type failure struct{ err atomic.Pointer[error] }

func (f *failure) note(_ *nats.Conn, err error) { f.err.Store(&err) }

func (f *failure) hint() string {
	err := f.err.Load()
	if err == nil {
		return ""
	}
	return " (" + (*err).Error() + ")"
}

// asking returns a context for questions to the server. It ends after the
// timeout, and when the server refuses one, which it does not answer otherwise;
// context.Cause says in words which it was.
func (s *session) asking(ctx context.Context, nc *nats.Conn) (context.Context, context.CancelFunc) {
	ctx, done := working(ctx, nc)
	ctx, cancel := context.WithTimeoutCause(ctx, s.timeout, fmt.Errorf("no answer within %s", s.timeout))
	return ctx, func() { cancel(); done() }
}

// working is asking without the timeout, for what takes as long as it takes.
func working(ctx context.Context, nc *nats.Conn) (context.Context, context.CancelFunc) {
	ctx, refuse := context.WithCancelCause(ctx)
	nc.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		if errors.Is(err, nats.ErrPermissionViolation) {
			refuse(err)
		}
	})
	return ctx, func() { refuse(nil) }
}
