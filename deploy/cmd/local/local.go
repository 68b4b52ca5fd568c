package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/mattn/go-isatty"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/yagi-crash/yagi/intake"
	"github.com/yagi-crash/yagi/pkg/devstack/devnats"
	"github.com/yagi-crash/yagi/pkg/devstack/devs3"
	"github.com/yagi-crash/yagi/pkg/queue"
	"github.com/yagi-crash/yagi/pkg/telemetry"
	"github.com/yagi-crash/yagi/uploader"
)

// run starts everything in the order of dependence, says where it is, and
// stops it in the direction of travel once ctx ends: intake, uploader, and the
// servers when both are done with them.
func run(ctx context.Context, environ []string, out io.Writer) error {
	c, err := load(environ, logFormat(out))
	if err != nil {
		return err
	}
	log := telemetry.NewLogger(c.intake.Log, out)
	b, err := startBackends(ctx, c, log)
	if err != nil {
		return err
	}
	defer b.stop()
	c.intake.NATS.URL, c.uploader.NATS.URL, c.uploader.S3.Endpoint = b.nats.URL(), b.nats.URL(), b.s3.Endpoint()
	if err := applyStreams(ctx, c.intake.NATS); err != nil {
		return err
	}
	front, err := intake.Listen(ctx, c.intake, tier(log, "intake"))
	if err != nil {
		return err
	}
	back, err := uploader.Listen(ctx, c.uploader, tier(log, "uploader"))
	if err != nil {
		return err
	}
	if err := banner(out, where{
		Intake: front.Addr(), IntakeAdmin: front.AdminAddr(), UploaderAdmin: back.AdminAddr(),
		NATS: b.nats.URL(), Monitor: b.nats.MonitorURL(), S3: b.s3.Endpoint(), Web: b.s3.WebURL(), Dir: b.dir,
	}); err != nil {
		return fmt.Errorf("printing where everything is: %w", err)
	}
	return runTiers(ctx, front, back)
}

// runTiers runs both until ctx ends or one of them fails. The uploader goes on
// until intake has promised its last report.
func runTiers(ctx context.Context, front *intake.Server, back *uploader.Uploader) error {
	group, ctx := errgroup.WithContext(ctx)
	later, stopUploader := context.WithCancel(context.WithoutCancel(ctx))
	group.Go(func() error {
		defer stopUploader()
		return front.Run(ctx)
	})
	group.Go(func() error { return back.Run(later) })
	return group.Wait()
}

// backends are the servers that production has elsewhere.
type backends struct {
	nats *devnats.Server
	s3   *devs3.Server
	dir  string // absolute: the S3 server changes the working directory
}

func startBackends(ctx context.Context, c configs, log zerolog.Logger) (*backends, error) {
	dir, err := filepath.Abs(c.local.DataDir)
	if err != nil {
		return nil, fmt.Errorf("finding LOCAL_DATA_DIR: %w", err)
	}
	b := &backends{dir: dir}
	b.nats, err = devnats.Start(ctx, devnats.Config{
		Addr: c.local.NATSAddr, MonitorAddr: c.local.NATSMonitorAddr, Dir: filepath.Join(dir, "nats"),
		MaxPayload: queue.MaxPayload, Log: tier(log, "nats").Level(zerolog.WarnLevel),
	})
	if err != nil {
		return nil, err
	}
	b.s3, err = devs3.Start(ctx, devs3.Config{
		Addr: c.local.S3Addr, WebAddr: c.local.S3WebAddr, Dir: filepath.Join(dir, "s3"),
		AccessKey: accessKey, SecretKey: secretKey, Region: region, Buckets: []string{bucket},
	})
	if err != nil {
		b.nats.Stop()
		return nil, err
	}
	return b, nil
}

func (b *backends) stop() {
	_ = b.s3.Stop() // says only that uploads were cut, which come again
	b.nats.Stop()
}

// applyStreams does what crashctl stream apply --yes does in production.
func applyStreams(ctx context.Context, cfg queue.Config) error {
	nc, err := queue.Connect(cfg, "ops", zerolog.Nop())
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := queue.Open(nc, cfg)
	if err != nil {
		return err
	}
	plan, err := queue.Plan(ctx, js, cfg)
	if err != nil {
		return err
	}
	return queue.Apply(ctx, plan)
}

func tier(log zerolog.Logger, name string) zerolog.Logger {
	return log.With().Str("tier", name).Logger()
}

// logFormat is console where a person reads the log.
func logFormat(out io.Writer) string {
	if f, ok := out.(*os.File); ok && isatty.IsTerminal(f.Fd()) {
		return "console"
	}
	return "json"
}
