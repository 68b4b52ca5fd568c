// Command uploader moves crash reports from the queue into the bucket. It is
// set up by environment variables, which the README lists.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/yagi-crash/yagi/pkg/settings"
	"github.com/yagi-crash/yagi/pkg/telemetry"
	"github.com/yagi-crash/yagi/uploader"
)

// gcPercent is Go's own: most of what is in use are reports, and the limit of the
// heap leaves no room for as much garbage.
const gcPercent = 100

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)   // a second signal ends the process at once
	signal.Ignore(syscall.SIGPIPE) // a log whose reader is gone is no reason to end
	if err := run(ctx, os.Environ(), os.Stdout); err != nil {
		telemetry.LastWords(os.Stderr, "uploader:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, environ []string, out io.Writer) error {
	cfg, err := uploader.Load(environ)
	if err != nil {
		return err
	}
	settings.BoundHeap(cfg.HeapLimit(), gcPercent)
	log, sink := telemetry.OpenLog(cfg.Log, out)
	defer sink.Close()
	log = log.With().Str("tier", "uploader").Logger()
	log.Info().Object("settings", settings.Effective(&cfg)).Msg("settings")
	settings.LogWarnings(log, environ, &cfg)
	u, err := uploader.Listen(ctx, cfg, log)
	if err != nil {
		return err
	}
	u.CountLog(sink)
	return u.Run(ctx)
}
