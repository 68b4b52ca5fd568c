package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"time"

	"github.com/yagi-crash/yagi/deploy/internal/loadgen"
	"github.com/yagi-crash/yagi/deploy/internal/submit"
)

type loadTest struct {
	URL            string         `name:"url" default:"http://127.0.0.1:8000" help:"Where to post to; without a path, to /submit."`
	Rate           float64        `help:"Reports a second, over all connections; 0 is as fast as answers come."`
	Connections    int            `default:"8" help:"How many reports are on their way at once, at most."`
	Size           loadgen.Size   `default:"400kB" help:"Size of a dump, such as 400kB, or a range such as 100kB-2MB."`
	Gzip           bool           `help:"Compress the bodies."`
	For            *time.Duration `placeholder:"DURATION" help:"How long to send; 10s unless there is a --count."`
	Count          *int64         `help:"How many reports to send at most."`
	Ledger         string         `placeholder:"FILE" help:"A file to which the id of each report that was promised is added, one a line."`
	Product        string         `default:"YagiLoad" help:"ProductName of the reports."`
	Seed           *uint64        `help:"What the reports' content is drawn from; a random number unless it is given."`
	RequestTimeout time.Duration  `default:"60s" help:"How long a report may take to be answered."`
	Yes            bool           `help:"Do it, though the URL does not lead to this machine."`
	JSON           bool           `help:"Print one JSON object, for machines."`
}

// Help is what crashctl load --help adds.
func (*loadTest) Help() string {
	return `Posts crash reports to an intake, for capacity tests. Each is a form of three annotations and a dump of random bytes, as Crashpad writes it, and unlike all others; it is stored like anybody's report. A host other than this machine's loopback address gets nothing without --yes.

With --rate each report has a time at which it is due, and its latency is counted from then. When all connections are busy it is sent late, and so a stall of the intake shows in the latency of all the reports that were due in it; more connections only tell whether it is the intake or their number that is in the way. Without --rate each connection sends the next report after the answer to the one before, which finds the greatest throughput, but says little of latency.

Each second a line on stderr says how far it is. Ctrl-C stops the sending and waits for the answers to what was sent; a second one does not wait. What a throttle rule discards counts as answered well. It needs no settings.

Exit codes:

    0  all reports were answered with CrashID, or discarded by a rule,
       or (for another machine without --yes) nothing was sent
    1  some were refused or had no answer, or the ledger failed
    2  wrong usage, or not one report had an answer

Examples:

    crashctl load --rate 200 --for 1m
    crashctl load --connections 64 --size 100kB-2MB --gzip --ledger ids
    crashctl load --count 10000 --json | jq .latency_seconds.p99`
}

// Run sends the reports and prints how they were answered.
func (c *loadTest) Run(ctx context.Context, s *session) error {
	cfg, err := c.config()
	if err != nil {
		return err
	}
	if !c.Yes && !submit.IsLoopback(cfg.URL) {
		say(s.out, "would post", plan(cfg))
		say(s.out, "Nothing was sent. To do it: add --yes")
		return nil
	}
	ledger, err := c.openLedger()
	if err != nil {
		return fmt.Errorf("opening the ledger: %w", err)
	}
	if ledger != nil {
		cfg.Ledger = ledger
	}
	cfg.Progress = func(p loadgen.Progress) { say(s.progress, progress(p)) }
	say(s.progress, "posting", plan(cfg))
	summary, err := loadgen.Run(ctx, cfg)
	err = errors.Join(err, closeLedger(ledger), c.print(s.out, summary))
	switch {
	case err != nil || summary.Answered > 0 && summary.Errors > 0:
		return &exit{exitTrouble, err}
	case summary.Answered == 0:
		return errors.New("not one report was answered")
	}
	return nil
}

func (c *loadTest) config() (loadgen.Config, error) {
	u, err := submit.URL(c.URL)
	if err != nil {
		return loadgen.Config{}, fmt.Errorf("--url: %w", err)
	}
	const mostConnections = 20_000 // of one address: it has no more ports
	switch {
	case !(c.Rate >= 0) || math.IsInf(c.Rate, 0):
		err = errors.New("--rate has to be a number, and not negative")
	case c.For != nil && *c.For <= 0 || c.Count != nil && *c.Count <= 0 || c.RequestTimeout <= 0:
		err = errors.New("--for, --count and --request-timeout have to be above 0")
	case c.Connections < 1 || c.Connections > mostConnections:
		err = fmt.Errorf("--connections: %d is not from 1 to %d", c.Connections, mostConnections)
	case c.For == nil && c.Count == nil:
		c.For = new(10 * time.Second)
	}
	seed := uint64(rand.Uint32())
	if c.Seed != nil {
		seed = *c.Seed
	}
	return loadgen.Config{
		URL: u, Rate: c.Rate, Connections: c.Connections, Size: c.Size, Gzip: c.Gzip,
		For: value(c.For), Count: value(c.Count), Product: c.Product, Seed: seed, RequestTimeout: c.RequestTimeout,
	}, err
}

// value is 0 for a flag that was not given.
func value[T any](flag *T) (v T) {
	if flag != nil {
		v = *flag
	}
	return v
}

// openLedger returns nil when none is wanted.
func (c *loadTest) openLedger() (*os.File, error) {
	if c.Ledger == "" {
		return nil, nil
	}
	return os.OpenFile(c.Ledger, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
}

func closeLedger(f *os.File) error {
	if f == nil {
		return nil
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("closing the ledger: %w", err)
	}
	return nil
}
