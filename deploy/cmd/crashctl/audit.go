package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/yagi-crash/yagi/deploy/internal/audit"
	"github.com/yagi-crash/yagi/pkg/crash"
)

type auditReports struct {
	window

	Ledger string `type:"existingfile" help:"File of ids that clients were answered, one a line, with or without CrashID= and bp-."`
	Read   bool   `help:"Read every object and hash it, instead of asking for the SHA-256 that the store noted."`
	JSON   bool   `help:"Print one JSON object, for machines."`
}

// Help is what crashctl audit --help adds.
func (*auditReports) Help() string {
	return `Looks whether every report that the queue got within a window is in the bucket, with all its objects and with the SHA-256 that intake took of each as it arrived; or still waits in the queue, or is a dead letter. It also tells whether messages are missing in the middle of a stream, which nothing that is well ever brings about. It only asks and changes nothing; for what is lost it prints the command that brings it back.

With a ledger (crashctl load writes one) it also looks for each of its ids, in the window or not, and tells which are lost, and which are nowhere. Of a report that the queue does not have any more it only looks whether raw_crash is there, which is written last.

Reports are in the queue for UPLOADER_REPLAY_WINDOW after they were stored, so an audit reaches no further back.

` + needs + `
and the bucket:

    S3_BUCKET              its name (required)
    AWS_ENDPOINT_URL_S3, AWS_REGION, AWS_ACCESS_KEY_ID, ...
                           the AWS SDK's own
    S3_ADDRESSING_STYLE    as the uploader has it

Its NATS user must be allowed to publish to $JS.API.> and to subscribe to _INBOX_ops.>; its access key must be allowed to read objects (s3:GetObject) and to list the bucket, without which S3 denies what it should say is missing.

Exit codes:

    0  nothing is amiss
    1  something is; the output says what
    2  it could not be found out: no connection, no answer, no permission; or
       wrong usage or settings

Examples:

    crashctl audit --since 24h
    crashctl audit --since 2026-11-25T08:00:00Z --until 2026-11-25T09:30:00Z --read
    crashctl audit --since 1h --ledger acknowledged.txt`
}

// Run prints what it finds.
func (c *auditReports) Run(ctx context.Context, s *session) error {
	since, until, err := c.bounds()
	if err != nil {
		return err
	}
	ledger, err := readLedger(c.Ledger)
	if err != nil {
		return err
	}
	cfg, err := load(s.environ)
	if err != nil {
		return err
	}
	if cfg.Bucket == "" {
		return errors.New("S3_BUCKET is not set")
	}
	b, err := s.bucket(ctx, cfg)
	if err != nil {
		return err
	}
	js, streams, err := s.queue(ctx, cfg.Queue)
	if err != nil {
		return err
	}
	defer js.Conn().Close()
	if err := complete(streams, cfg.Queue); err != nil {
		return err
	}
	ctx, done := working(ctx, js.Conn())
	defer done()
	bar := s.bar("audited", 0)
	a := audit.Audit{JS: js, Lookup: b.Recorded, Since: since, Until: until, Seen: bar.left}
	if c.Read {
		a.Lookup = b.Read
	}
	if c.JSON {
		a.Seen = func(uint64) {}
	}
	found, err := a.Run(ctx, streams, ledger)
	bar.end()
	if err == nil && found.Amiss() { // a bucket that went meanwhile looks like one that lost everything
		err = s.check(ctx, b, cfg.Bucket)
	}
	if err != nil {
		return cmp.Or(context.Cause(ctx), err)
	}
	if c.JSON {
		err = s.printJSON(found)
	} else {
		c.print(s, found, since, until)
	}
	if err == nil && found.Amiss() {
		err = &exit{code: exitTrouble}
	}
	return err
}

func (c *auditReports) print(s *session, f *audit.Findings, since, until time.Time) {
	say(s.out, "from", since.Format(time.RFC3339), "until", until.Format(time.RFC3339))
	format := "%s report(s) in the queue: %s stored, %s waiting, %s dead letter(s), %s lost"
	if len(f.Unknown) > 0 {
		format = "%s report(s) in the queue: %s stored, %s waiting, %s dead letter(s), %s of these lost, and others that nobody has looked at"
	}
	line := fmt.Sprintf(format,
		comma(f.Reports), comma(f.Stored), comma(f.Waiting), comma(f.Dead), comma(uint64(len(f.Lost))))
	if len(f.Unsure) > 0 {
		line += fmt.Sprintf(", %s lost or waiting", comma(uint64(len(f.Unsure))))
	}
	say(s.out, line)
	if c.Ledger != "" {
		say(s.out, fmt.Sprintf("%s id(s) in the ledger: %s nowhere", comma(uint64(f.Ledger)), comma(uint64(len(f.Unqueued)))))
	}
	for _, short := range f.Short {
		say(s.out, "of the window,", short)
	}
	for _, r := range f.Lost {
		say(s.out, "lost:", finding(r))
	}
	for _, r := range f.Unsure {
		say(s.out, "not in the bucket:", finding(r))
	}
	for _, gap := range f.Gaps {
		say(s.out, "missing in the stream:", gap)
	}
	for _, unknown := range f.Unknown {
		say(s.out, "not audited:", unknown)
	}
	for _, id := range f.Unqueued {
		say(s.out, "nowhere:", id)
	}
	bring := slices.DeleteFunc(slices.Concat(f.Lost, f.Unsure), func(r audit.Report) bool { return r.ID == "" })
	if len(bring) > 0 { // what nobody can read, no replay can store
		say(s.out, "To bring back what is lost:", replayOf(bring))
	}
}

func finding(r audit.Report) string {
	return fmt.Sprintf("%s (message %d of %s): %s", cmp.Or(string(r.ID), "a report"), r.Sequence, r.Stream, r.What)
}

// mostIDs is how many ids the command for a replay names; for more it takes all
// reports of their time.
const mostIDs = 100

// replayOf is the command that replays reports: no more of the window than has to be.
func replayOf(reports []audit.Report) string {
	first, last := reports[0].Time, reports[0].Time
	ids := map[crash.ID]bool{}
	for _, r := range reports {
		if r.Time.Before(first) {
			first = r.Time
		}
		if r.Time.After(last) {
			last = r.Time
		}
		ids[r.ID] = true
	}
	first, last = first.UTC().Truncate(time.Second), last.UTC().Truncate(time.Second).Add(time.Second)
	words := []string{"crashctl replay --since", first.Format(time.RFC3339), "--until", last.Format(time.RFC3339)}
	if len(ids) <= mostIDs {
		for _, id := range slices.Sorted(maps.Keys(ids)) {
			words = append(words, "--id", string(id))
		}
	}
	return strings.Join(append(words, "--yes"), " ")
}

// readLedger reads a file of ids.
func readLedger(path string) ([]crash.ID, error) {
	if path == "" {
		return nil, nil
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading the ledger: %w", err)
	}
	defer func() { _ = file.Close() }()
	var ids []crash.ID
	lines := bufio.NewScanner(file)
	for n := 1; lines.Scan(); n++ {
		word := strings.TrimPrefix(strings.TrimPrefix(strings.TrimSpace(lines.Text()), "CrashID="), "bp-")
		if word == "" {
			continue
		}
		id, err := crash.ParseID(word)
		if err != nil {
			return nil, fmt.Errorf("reading the ledger: line %d: %w", n, err)
		}
		ids = append(ids, id)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading the ledger: %w", err)
	}
	return ids, nil
}
