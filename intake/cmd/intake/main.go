// Command intake takes crash reports in over HTTP and promises them to the
// queue. It is set up by environment variables, which the README lists.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/yagi-crash/yagi/intake"
	"github.com/yagi-crash/yagi/pkg/settings"
	"github.com/yagi-crash/yagi/pkg/telemetry"
)

// gcPercent is how much garbage may lie beside what is in use. Go's own 100 makes
// ten thousand slow clients cost half as much again (make crowd).
const gcPercent = 50

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)   // a second signal ends the process at once
	signal.Ignore(syscall.SIGPIPE) // a log whose reader is gone is no reason to end
	if err := run(ctx, os.Environ(), os.Stdout); err != nil {
		telemetry.LastWords(os.Stderr, "intake:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, environ []string, out io.Writer) error {
	hangup := make(chan os.Signal, 1) // a SIGHUP that comes during another reload is not lost
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	cfg, err := intake.Load(environ)
	if err != nil {
		return err
	}
	settings.BoundHeap(cfg.HeapLimit(), gcPercent)
	log, sink := telemetry.OpenLog(cfg.Log, out)
	defer sink.Close()
	log = log.With().Str("tier", "intake").Logger()
	log.Info().Object("settings", settings.Effective(&cfg)).Msg("settings")
	settings.LogWarnings(log, environ, &cfg)
	server, err := intake.Listen(ctx, cfg, log)
	if err != nil {
		return err
	}
	server.ReloadOn(hangup)
	server.CountLog(sink)
	return server.Run(ctx)
}
