package uploader

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/sync/errgroup"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/layout"
	"github.com/yagi-crash/yagi/pkg/queue"
)

// backlog is how many reports of about 400 kB are drained at a time: enough for
// the start of an uploader not to matter.
const backlog = 400

// BenchmarkDrain drains a backlog with an uploader, and has two references in the
// same run: to put the same objects with nothing but the SDK, as many at a time
// (of-puts is the part of that rate which is left), and to take messages, put the
// objects and acknowledge with nothing but the two clients (of-bare). The queue
// and the store run in this process, so whatever taking costs, putting lacks.
func BenchmarkDrain(b *testing.B) {
	w := newWorld(b, 1)
	w.cfg.Workers = 16
	raw := &rawWorld{world: w, client: rawS3(w.cfg.Workers)}
	var puts, bare, drain time.Duration
	for b.Loop() {
		puts += raw.put(w.newBacklog())
		bare += raw.takeAndPut(w.newBacklog())
		drain += w.drainBacklog(w.newBacklog())
	}
	rate := func(took time.Duration) float64 { return float64(backlog*b.N) / took.Seconds() }
	b.ReportMetric(rate(drain), "drained/s")
	b.ReportMetric(rate(drain)/rate(puts), "of-puts")
	b.ReportMetric(rate(drain)/rate(bare), "of-bare")
	b.ReportMetric(0, "ns/op") // it would be of all three together
}

// newBacklog makes new reports each time, since the queue takes none twice.
func (w *world) newBacklog() []*crash.Sealed {
	w.tb.Helper()
	dump := strings.Repeat("x", 400_000)
	reports := make([]*crash.Sealed, backlog)
	for i := range reports {
		reports[i] = newReport(w.tb, dump)
		reports[i].Dumps = reports[i].Dumps[:1]
	}
	return reports
}

// queueUp has the reports, and nothing else, wait in the queue.
func (w *world) queueUp(reports []*crash.Sealed) {
	w.tb.Helper()
	stream, err := w.js.Stream(w.tb.Context(), queue.StreamName(0))
	must(w.tb, err)
	must(w.tb, stream.Purge(w.tb.Context()))
	for _, s := range reports {
		w.send(0, message(w.tb, s))
	}
}

// drainBacklog returns how long it takes from an uploader's start until all of the
// reports are acknowledged.
func (w *world) drainBacklog(reports []*crash.Sealed) time.Duration {
	w.tb.Helper()
	w.queueUp(reports)
	u, err := Listen(w.tb.Context(), w.cfg, nopLog())
	must(w.tb, err)
	ctx, end := context.WithCancel(w.tb.Context())
	ended := make(chan error, 1)
	begun := time.Now()
	go func() { ended <- u.Run(ctx) }()
	await(w.tb, "all are acknowledged", func() bool { return w.drained(0) })
	took := time.Since(begun)
	end()
	must(w.tb, <-ended)
	if n := testutil.ToFloat64(u.metrics.reports.WithLabelValues(resultStored)); n != float64(len(reports)) {
		w.tb.Fatalf("%v of %d reports were drained", n, len(reports))
	}
	return took
}

// rawWorld does what an uploader does with the clients alone.
type rawWorld struct {
	*world

	client *s3.Client
}

// rawObject is an object whose body lies in one piece.
type rawObject struct {
	layout.Object

	body []byte
}

// objects lists what is to be put for each report.
func (w *rawWorld) objects(reports []*crash.Sealed) map[string][]rawObject {
	w.tb.Helper()
	all := map[string][]rawObject{}
	for _, s := range reports {
		objects, err := layout.Objects(s)
		must(w.tb, err)
		for _, o := range objects {
			body, err := o.Part.AppendTo(nil)
			must(w.tb, err)
			all[string(s.ID)] = append(all[string(s.ID)], rawObject{Object: o, body: body})
		}
	}
	return all
}

// put returns how long it takes to put the reports, one a goroutine.
func (w *rawWorld) put(reports []*crash.Sealed) time.Duration {
	w.tb.Helper()
	all := w.objects(reports)
	begun := time.Now()
	group, ctx := errgroup.WithContext(w.tb.Context())
	group.SetLimit(w.cfg.Workers)
	for _, objects := range all {
		group.Go(func() error { return w.putAll(ctx, objects) })
	}
	must(w.tb, group.Wait())
	return time.Since(begun)
}

// takeAndPut returns how long it takes to take the reports' messages one by one,
// put what belongs to them, and acknowledge.
func (w *rawWorld) takeAndPut(reports []*crash.Sealed) time.Duration {
	w.tb.Helper()
	w.queueUp(reports)
	all := w.objects(reports)
	consumer, err := w.js.Consumer(w.tb.Context(), queue.StreamName(0), queue.Consumer)
	must(w.tb, err)
	begun := time.Now()
	group, ctx := errgroup.WithContext(w.tb.Context())
	group.SetLimit(w.cfg.Workers)
	for range reports {
		group.Go(func() error {
			msg, err := consumer.Next(jetstream.FetchMaxWait(patience))
			if err != nil {
				return err
			}
			if err := w.putAll(ctx, all[msg.Headers().Get(queue.HeaderMsgID)]); err != nil {
				return err
			}
			return msg.DoubleAck(ctx)
		})
	}
	must(w.tb, group.Wait())
	return time.Since(begun)
}

func (w *rawWorld) putAll(ctx context.Context, objects []rawObject) error {
	for _, o := range objects {
		sum := o.Part.SHA256[:]
		_, err := w.client.PutObject(ctx, &s3.PutObjectInput{
			Bucket: &w.cfg.Bucket, Key: &o.Key, ContentType: &o.ContentType, Body: bytes.NewReader(o.body),
			ChecksumSHA256: aws.String(base64.StdEncoding.EncodeToString(sum)),
		}, s3.WithAPIOptions(presetHash(hex.EncodeToString(sum))))
		if err != nil {
			return err
		}
	}
	return nil
}

// presetHash has the SDK sign a payload without hashing it.
func presetHash(sum string) func(*middleware.Stack) error {
	return func(stack *middleware.Stack) error {
		return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("PresetHash", func(
			ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler,
		) (middleware.InitializeOutput, middleware.Metadata, error) {
			return next.HandleInitialize(v4.SetPayloadHash(ctx, sum), in)
		}), middleware.Before)
	}
}

// rawS3 is a client that keeps a connection for each of so many goroutines.
func rawS3(goroutines int) *s3.Client {
	options := s3Client().Options()
	options.HTTPClient = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: goroutines}}
	options.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
	return s3.New(options)
}
