package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/yagi-crash/yagi/deploy/internal/submit"
	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/layout"
	"github.com/yagi-crash/yagi/pkg/settings"
	"github.com/yagi-crash/yagi/uploader"
)

type probe struct {
	URL     string        `name:"url" default:"http://127.0.0.1:8000" help:"Where to post to; without a path, to /submit."`
	Product string        `default:"YagiProbe" help:"ProductName of the report."`
	Wait    time.Duration `default:"30s" help:"How long to wait for the answer, and then for the bucket."`
	Yes     bool          `help:"Do it. Without this flag nothing is sent."`
	JSON    bool          `help:"Print one JSON object, for machines."`
}

// Help is what crashctl probe --help adds.
func (*probe) Help() string {
	return `Posts one report as a crash client does, follows it into the bucket, and tells how long each leg took, counted from the one before. The report has a dump of 64 bytes and the annotations ProductName, Version and YagiProbe=1. Between answer and bucket it asks nobody: what is answered CrashID is on disk in the queue. In the bucket it looks every 100 ms for raw_crash, which is written last, and then compares dump_names and the dump with what it sent.

The report stays in the bucket, under the keys that are printed, and whatever processes crash reports sees it.

To look for it in the bucket, it needs these environment variables, as the uploader does:

    S3_BUCKET              its name (not looked for without)
    AWS_ENDPOINT_URL_S3, AWS_REGION, AWS_ACCESS_KEY_ID, ...
                           the AWS SDK's own; it only reads
    S3_ADDRESSING_STYLE    as the uploader has it

Its access key must be allowed to read objects (s3:GetObject) and to list the bucket (s3:ListBucket), without which S3 denies what it should say is not there yet.

Exit codes:

    0  all legs that could be looked at are done,
       or (without --yes) nothing was sent
    1  a leg failed or took too long
    2  wrong usage or settings, or no connection

Examples:

    crashctl probe
    S3_BUCKET=crashes crashctl probe --yes
    S3_BUCKET=crashes crashctl probe --yes --url https://crash.example.org --json`
}

// probeConfig is what crashctl probe takes from its environment, where the AWS
// SDK finds the rest.
type probeConfig struct {
	Bucket string `env:"S3_BUCKET"`
	S3     uploader.S3
}

// Run follows a report on its way, or says that it would.
func (c *probe) Run(ctx context.Context, s *session) error {
	u, err := submit.URL(c.URL)
	if err != nil {
		return fmt.Errorf("--url: %w", err)
	}
	if c.Wait <= 0 {
		return errors.New("--wait: it must be above 0")
	}
	var cfg probeConfig
	if err := settings.Load(s.environ, &cfg); err != nil {
		return err
	}
	bucket, err := openBucket(ctx, cfg)
	if err != nil {
		return err
	}
	if !c.Yes {
		say(s.out, "would post a report to", u.Redacted(), "and follow it into the bucket:", bucket)
		say(s.out, "Nothing was sent. To do it: crashctl probe --yes")
		return nil
	}
	client := submit.NewClient(u, 1)
	defer client.Close()
	j := &journey{client: client, bucket: bucket, wait: c.Wait, dump: tinyDump(), product: c.Product, legs: []leg{}}
	err = j.run(ctx)
	if printErr := c.print(s.out, j); printErr != nil {
		return fmt.Errorf("printing the legs: %w", printErr)
	}
	return err
}

// tinyDump is a minidump without streams, and random bytes behind its header by
// which it is known again.
func tinyDump() []byte {
	const header, size = 32, 64
	dump := make([]byte, size)
	copy(dump, "MDMP\x93\xa7\x00\x00") // and the version
	dump[12] = header                  // where the streams would be
	rand.Read(dump[header:])           // never fails (crypto/rand)
	return dump
}

// A leg of a report's way.
type leg struct {
	Name string `json:"name"`
	// State is done, failed, or unknown when nobody looked.
	State   string   `json:"state"`
	Seconds *float64 `json:"seconds"` // since the leg before
	Note    string   `json:"note"`
}

const (
	legDone    = "done"
	legFailed  = "failed"
	legUnknown = "unknown"
)

func (c *probe) print(out io.Writer, j *journey) error {
	keys := []string{} // [] in JSON, when there are none
	if j.id != "" {
		keys = []string{layout.DumpNames(j.id), layout.Dump(crash.MinidumpName, j.id), layout.RawCrash(j.id)}
	}
	if c.JSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(struct {
			CrashID crash.ID `json:"crash_id"`
			Keys    []string `json:"keys"`
			Legs    []leg    `json:"legs"`
		}{j.id, keys, j.legs})
	}
	for _, l := range j.legs {
		took := "-"
		if l.Seconds != nil {
			took = ms(*l.Seconds)
		}
		say(out, strings.TrimRight(fmt.Sprintf("%-10s %9s  %s", l.Name, took, l.text()), " "))
	}
	for _, key := range keys {
		say(out, "key       ", key)
	}
	return nil
}

func (l leg) text() string {
	if l.State == legFailed {
		return "FAILED: " + l.Note
	}
	return l.Note
}
