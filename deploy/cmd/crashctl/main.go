// Command crashctl is the operators' tool: it makes the streams and tells how
// the queue is. It takes its settings from the same environment variables as
// the services; crashctl --help lists the commands.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/yagi-crash/yagi/pkg/telemetry"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

// Exit codes other than 0.
const (
	exitTrouble    = 1 // something needs attention, or a step failed
	exitCannotTell = 2 // wrong usage or settings, or no answer
)

const about = `Makes and watches the queue that crash reports go through.

Settings come from environment variables, the same ones as the services':
at least NATS_URL, but for rules, load and probe. Each command's help lists those
that it needs.`

type commands struct {
	Timeout time.Duration    `default:"5s" help:"How long to wait for the connection, and then for the answers."`
	Version kong.VersionFlag `help:"Print the version and end."`

	Status status        `cmd:"" help:"Show how the queue is; exit 1 when something needs attention."`
	Stream stream        `cmd:"" help:"Make the streams what they should be."`
	Dead   dead          `cmd:"" help:"Look after the dead letters."`
	Audit  auditReports  `cmd:"" help:"Look whether every report of a window is in the bucket, the queue or among the dead letters."`
	Replay replayReports `cmd:"" help:"Put reports of a window into the bucket again. Without --yes only say which."`
	Pause  pauseUploads  `cmd:"" help:"Have uploaders take nothing from the queue for a while. Without --yes only say so."`
	Resume resumeUploads `cmd:"" help:"Have them go on. Without --yes only say so."`
	Rules  rules         `cmd:"" help:"Look at throttle rules."`
	Load   loadTest      `cmd:"" help:"Post crash reports to an intake, to see how much it takes."`
	Probe  probe         `cmd:"" help:"Post a crash report and follow it into the bucket. Without --yes only say so."`
}

// Validate is called by kong.
func (c *commands) Validate() error {
	if c.Timeout <= 0 {
		return fmt.Errorf("--timeout has to be above 0, not %s", c.Timeout)
	}
	return nil
}

// exit ends a command with a code of its own. Without an error the command has
// said all there is to say.
type exit struct {
	code int
	err  error
}

func (e *exit) Error() string { return fmt.Sprintf("exit code %d: %v", e.code, e.err) }

// run is all that crashctl does; it returns the exit code.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	var c commands
	out, progress := display{stdout}, display{stderr}
	told := false // --help and --version tell something, and that is all
	parser := kong.Must(&c,
		kong.Name("crashctl"),
		kong.Description(about),
		kong.Vars{"version": version()},
		kong.Writers(stdout, stderr),
		kong.Exit(func(int) { told = true }),
		kong.BindTo(ctx, (*context.Context)(nil)),
	)
	command, err := parser.Parse(args)
	if told {
		return 0
	}
	if err != nil {
		say(progress, "crashctl:", err)
		say(progress, helpOf(err), "tells how it is used.")
		return exitCannotTell
	}
	if !printsJSON(command) {
		warn(progress, environ)
	}
	err = command.Run(&session{environ: environ, timeout: c.Timeout, out: out, progress: progress})
	if err == nil {
		return 0
	}
	code := exitCannotTell
	if e, ok := errors.AsType[*exit](err); ok {
		code, err = e.code, e.err
	}
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	if err != nil {
		sayError(progress, err)
	}
	return code
}

// printsJSON reports whether a command was told to print for machines.
func printsJSON(command *kong.Context) bool {
	return slices.ContainsFunc(command.Flags(), func(f *kong.Flag) bool { return f.Name == "json" && f.Target.Bool() })
}

// helpOf is what to ask after wrong usage: the help of the command, if it is known.
func helpOf(err error) string {
	words := []string{"crashctl"}
	if wrong, ok := errors.AsType[*kong.ParseError](err); ok && wrong.Context.Selected() != nil {
		words = append(words, strings.Fields(wrong.Context.Selected().Path())...)
	}
	return strings.Join(append(words, "--help"), " ")
}

func version() string {
	b := telemetry.ReadBuild()
	if b.Commit == "" {
		return "crashctl " + b.Version
	}
	return fmt.Sprintf("crashctl %s (commit %s)", b.Version, b.Commit)
}
