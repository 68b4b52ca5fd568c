// Command local runs all of Yagi on this machine, in one process: both tiers as
// they run in production, and between and behind them an embedded NATS server
// and an embedded S3 server that keep their data in a folder. It is for trying
// Yagi out and for working on it.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/yagi-crash/yagi/pkg/telemetry"
)

func main() {
	if len(os.Args) > 1 {
		fmt.Fprintln(os.Stderr, "local runs all of Yagi on this machine until Ctrl-C. It takes no arguments; README.md lists its settings, which are environment variables.")
		os.Exit(2)
	}
	// A SIGHUP comes when the terminal is closed.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if err := run(ctx, os.Environ(), os.Stdout); err != nil {
		telemetry.LastWords(os.Stderr, "local:", err)
		os.Exit(1)
	}
}
