package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/yagi-crash/yagi/deploy/internal/queuestatus"
)

type status struct {
	JSON  bool          `help:"Print one JSON object, for machines; with --watch one a line."`
	Watch bool          `help:"Look again and again, until Ctrl-C."`
	Every time.Duration `default:"2s" help:"How often, with --watch."`
}

// leastEvery keeps a slip of the keyboard from keeping the servers busy.
const leastEvery = 100 * time.Millisecond

// Validate is called by kong.
func (c *status) Validate() error {
	if c.Every < leastEvery {
		return errors.New("--every: " + c.Every.String() + " is less than " + leastEvery.String())
	}
	return nil
}

// Help is what crashctl status --help adds.
func (*status) Help() string {
	return `Shows for each partition how many reports are not uploaded yet (depth), how long the oldest of them has waited, how many are in the hands of uploaders (unacked) and were there before (redelivered), and how full the stream is; then how the dead letters, the replicas, the servers, the intakes and the uploaders are. It only asks and changes nothing.

With --watch it looks again and again, and shows besides how many reports come in and go out a second, how far the backlog is drained since its peak, and when it will be gone. On a terminal it redraws the screen; elsewhere it prints a line for each look, with a ? where something is not known. It outlasts a lost connection. Under "worth knowing" is what differs from the settings, or from other days, and needs nobody.

Needing attention is: a stream or a consumer that is missing, or so different that it could lose or hide reports; a stream without a leader or above 90% of its limit; a report that has waited for more than 15 minutes; dead letters; a replica that is offline or silent; a nats-server that is too old, or that does not sync always; a stream with fewer replicas than NATS_REPLICAS; a bucket that is missing, or cannot be reached with the settings given here; an intake or an uploader that does not answer, or whose heartbeat says that it is in trouble; an uploader whose breaker is open; a server that has lost messages which another one has.

` + needs + `
and, to tell whether the servers sync always, and, given all of them,
whether each has the same messages:

    NATS_MONITOR_URL       their monitoring addresses, with commas
                           between them (unknown without)

and, to ask the intakes and the uploaders (unknown without):

    INTAKE_URL             the addresses that clients post to, such as
                           http://127.0.0.1:8000, with commas between
                           them
    UPLOADER_URL           the uploaders' admin addresses, such as
                           http://127.0.0.1:8002, with commas
                           between them

and, to look for the bucket, as the uploader does:

    S3_BUCKET              its name (not looked for without)
    AWS_ENDPOINT_URL_S3, AWS_REGION, AWS_ACCESS_KEY_ID, ...
                           the AWS SDK's own
    S3_ADDRESSING_STYLE    as the uploader has it

Its NATS user must be allowed to publish to $JS.API.> and to subscribe to _INBOX_ops.>; to see the bucket, its access key must be allowed to list it (s3:ListBucket). Without that the bucket is unknown, and uploaders alone tell whether it takes reports.

Exit codes:

    0  all is well that was looked at
    1  something needs attention; the output says what
    2  nothing is known to be wrong, but something could not be found out:
       no connection, no answer, no permission; or wrong usage or settings

With --watch it ends at Ctrl-C, with the exit code of the last look.

Examples:

    NATS_URL=nats://127.0.0.1:4222 crashctl status
    NATS_URL=nats://127.0.0.1:4222 crashctl status --json | jq .total.backlog
    NATS_URL=nats://127.0.0.1:4222 crashctl status --watch --every=5s`
}

// Run prints the status in full, also when the exit code is not 0.
func (c *status) Run(ctx context.Context, s *session) error {
	cfg, err := load(s.environ)
	if err != nil {
		return err
	}
	if c.Watch {
		return s.watch(ctx, cfg, c.Every, c.show(s.out))
	}
	found := s.status(ctx, cfg)
	print := printTable
	if c.JSON {
		print = printJSON
	}
	if err := print(s.out, found); err != nil {
		return fmt.Errorf("printing the status: %w", err)
	}
	return verdictOf(found)
}

// verdictOf is the exit code after all has been printed.
func verdictOf(s *queuestatus.Status) error {
	switch {
	case len(s.Attention) > 0:
		return &exit{code: exitTrouble}
	case len(s.CannotTell) > 0:
		return &exit{code: exitCannotTell}
	}
	return nil
}

func (s *session) status(ctx context.Context, cfg Config) *queuestatus.Status {
	js, err := s.connect(ctx, cfg.Queue)
	if err != nil {
		return s.without(ctx, err, cfg)
	}
	defer js.Conn().Close()
	return s.read(ctx, js, cfg)
}

// without is what is known without a connection, and err says why there is none.
func (s *session) without(ctx context.Context, err error, cfg Config) *queuestatus.Status {
	ctx, cancel := context.WithTimeoutCause(ctx, s.timeout, fmt.Errorf("no answer within %s", s.timeout))
	defer cancel()
	return queuestatus.Without(ctx, err, cfg.question())
}

func (s *session) read(ctx context.Context, js jetstream.JetStream, cfg Config) *queuestatus.Status {
	ctx, cancel := s.asking(ctx, js.Conn())
	defer cancel()
	return queuestatus.Read(ctx, js, cfg.Queue, cfg.question())
}

func (c *Config) question() queuestatus.Question {
	return queuestatus.Question{Monitors: c.MonitorURLs, Bucket: c.Bucket, S3: c.S3, Intakes: c.IntakeURLs, Uploaders: c.UploaderURLs}
}

func printJSON(out io.Writer, s *queuestatus.Status) error {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false) // subjects have a >
	e.SetIndent("", "  ")
	return e.Encode(s)
}
