package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http/httptrace"
	"time"

	"github.com/yagi-crash/yagi/deploy/internal/lookup"
	"github.com/yagi-crash/yagi/deploy/internal/submit"
	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/layout"
)

// journey is the way of a report from a client into the bucket.
type journey struct {
	client  *submit.Client
	bucket  *bucketReader
	wait    time.Duration
	dump    []byte
	product string

	id   crash.ID
	at   time.Time // when the last leg was done
	legs []leg
}

// run goes the way until a leg fails. The legs say what there is to say; an error
// besides them is that nobody could be reached.
func (j *journey) run(ctx context.Context) error {
	j.at = time.Now()
	answer, err := j.post(ctx)
	if err != nil {
		return err
	}
	if !answer.Promised() {
		j.fail("answered", advice(answer))
		return &exit{code: exitTrouble}
	}
	j.id = answer.ID
	j.done("answered", "CrashID=bp-"+string(j.id))
	j.legs = append(j.legs, leg{Name: "queued", State: legDone, Note: "on disk in the queue when it was answered"})
	if j.bucket.name == "" {
		j.legs = append(j.legs, leg{Name: "in bucket", State: legUnknown, Note: j.bucket.String()})
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, j.wait)
	defer cancel()
	if err := j.await(ctx); err != nil {
		j.fail("in bucket", err.Error())
		return &exit{code: exitTrouble}
	}
	j.done("in bucket", j.bucket.String())
	if err := j.check(ctx); err != nil {
		j.fail("checked", err.Error())
		return &exit{code: exitTrouble}
	}
	j.done("checked", "dump_names and the dump are what was sent")
	return nil
}

func (j *journey) done(name, note string) { j.end(name, legDone, note) }
func (j *journey) fail(name, note string) { j.end(name, legFailed, note) }

func (j *journey) end(name, state, note string) {
	now := time.Now()
	took := now.Sub(j.at).Seconds()
	j.at = now
	j.legs = append(j.legs, leg{name, state, &took, note})
}

// post posts the report; the legs have the connection, and a failure after it.
func (j *journey) post(ctx context.Context) (submit.Answer, error) {
	report := submit.Report{Dump: j.dump, Fields: []submit.Field{
		{Name: "ProductName", Value: j.product}, {Name: "Version", Value: "1.0"}, {Name: "YagiProbe", Value: "1"},
	}}
	var body bytes.Buffer
	if err := report.Write(&body); err != nil {
		return submit.Answer{}, fmt.Errorf("making the report: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, j.wait)
	defer cancel()
	connected := make(chan time.Time, 1)
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) {
		select {
		case connected <- time.Now():
		default: // another try
		}
	}})
	answer, err := j.client.Post(traced, body.Bytes(), "")
	select {
	case at := <-connected:
		took := at.Sub(j.at).Seconds()
		j.legs, j.at = append(j.legs, leg{"connected", legDone, &took, ""}), at
	default:
		return answer, fmt.Errorf("connecting to the intake: %w", err)
	}
	if err != nil {
		j.fail("answered", submit.Kind(err))
		return answer, &exit{code: exitTrouble}
	}
	return answer, nil
}

// advice says what to do about an answer that promises nothing.
func advice(a submit.Answer) string {
	if a.Ruled() {
		return a.String() + ": a throttle rule does not store this product; name one that is stored with --product"
	}
	return a.String()
}

// bucketReader looks into the bucket, or nowhere without a name.
type bucketReader struct {
	*lookup.Bucket

	name string
}

func openBucket(ctx context.Context, cfg probeConfig) (*bucketReader, error) {
	if cfg.Bucket == "" {
		return &bucketReader{}, nil
	}
	b, err := lookup.Open(ctx, cfg.S3, cfg.Bucket, 1) // it is asked again and again anyway
	return &bucketReader{b, cfg.Bucket}, err
}

func (b *bucketReader) String() string {
	if b.name == "" {
		return "not looked for (S3_BUCKET is not set)"
	}
	return b.name
}

// await returns once raw_crash is there. What goes wrong in the meantime may be
// what holds the report up, and so it is tried again until ctx ends.
func (j *journey) await(ctx context.Context) error {
	every := time.NewTicker(100 * time.Millisecond)
	defer every.Stop()
	key := layout.RawCrash(j.id)
	why := errors.New("there was no time to look")
	for {
		_, _, err := j.bucket.Recorded(ctx, key)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			why = err
		}
		select {
		case <-every.C:
		case <-ctx.Done():
			return fmt.Errorf("after %s: %w", time.Since(j.at).Round(100*time.Millisecond), j.reason(ctx, why))
		}
	}
}

// reason tells an object that is not there from a bucket that is not.
func (j *journey) reason(ctx context.Context, why error) error {
	if !errors.Is(why, lookup.ErrNoObject) {
		return why
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := j.bucket.Check(ctx); err != nil {
		return fmt.Errorf("looking for bucket %s: %w", j.bucket, err)
	}
	return why
}

// check compares what lies in the bucket with what was sent.
func (j *journey) check(ctx context.Context) error {
	for _, want := range []struct {
		key  string
		text []byte
	}{
		{layout.DumpNames(j.id), []byte(`["` + crash.MinidumpName + `"]`)},
		{layout.Dump(crash.MinidumpName, j.id), j.dump},
	} {
		got, _, err := j.bucket.Read(ctx, want.key)
		if err != nil {
			return err
		}
		if got != crash.Sum(want.text) {
			return errors.New(want.key + " is not what was sent")
		}
	}
	return nil
}
