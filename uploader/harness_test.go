package uploader

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/devstack/devnats"
	"github.com/yagi-crash/yagi/pkg/devstack/devs3"
	"github.com/yagi-crash/yagi/pkg/layout"
	"github.com/yagi-crash/yagi/pkg/queue"
)

const (
	region    = "us-east-1"
	accessKey = "test"
	secretKey = "test-secret"
)

// endpoint is the S3 server that all tests share, since a process has room for
// one; each test has a bucket of its own. TestMain sets it.
var endpoint string

func TestMain(m *testing.M) { os.Exit(withS3(m)) }

func withS3(m *testing.M) int {
	dir, err := os.MkdirTemp("", "uploader-test")
	if err != nil {
		log.Print(err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	server, err := devs3.Start(context.Background(), devs3.Config{
		Addr: "127.0.0.1:0", Dir: dir, Region: region, AccessKey: accessKey, SecretKey: secretKey,
	})
	if err != nil {
		log.Print(err)
		return 1
	}
	defer func() { _ = server.Stop() }()
	endpoint = server.Endpoint()
	return m.Run()
}

// world is a queue, a bucket, and how an uploader reaches both.
type world struct {
	tb   testing.TB
	nats *devnats.Server
	nc   *nats.Conn
	js   jetstream.JetStream
	s3   *s3.Client
	cfg  Config

	natsDir string
}

// newWorld starts a queue with the given number of partitions and makes a
// bucket.
func newWorld(tb testing.TB, partitions int) *world {
	tb.Helper()
	w := bareWorld(tb)
	w.apply(partitions)
	return w
}

// bareWorld is a world without streams.
func bareWorld(tb testing.TB) *world {
	tb.Helper()
	dir := tb.TempDir()
	server, err := devnats.Start(tb.Context(), devnats.Config{Addr: "127.0.0.1:0", Dir: dir})
	must(tb, err)
	tb.Cleanup(server.Stop)
	nc, err := nats.Connect(server.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	must(tb, err)
	tb.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	must(tb, err)
	w := &world{tb: tb, nats: server, nc: nc, js: js, s3: s3Client(), natsDir: dir}
	w.cfg, err = Load([]string{
		"UPLOADER_ADMIN_ADDR=127.0.0.1:0", "UPLOADER_WORKERS=4",
		"UPLOADER_RETRY_MIN=50ms", "UPLOADER_RETRY_MAX=200ms", "UPLOADER_PROBE_INTERVAL=100ms",
		"NATS_URL=" + server.URL(), "NATS_STREAM_MAX_BYTES=1GiB", "S3_BUCKET=" + bucketName(tb.Name()),
	})
	must(tb, err)
	w.cfg.S3 = S3{Endpoint: endpoint, Region: region, AccessKey: accessKey, SecretKey: secretKey}
	w.makeBucket()
	return w
}

func s3Client() *s3.Client {
	return s3.New(s3.Options{
		Region: region, BaseEndpoint: &endpoint, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(accessKey, secretKey, ""),
	})
}

func bucketName(test string) string {
	letters := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' {
			return r
		}
		return -1
	}, strings.ToLower(test))
	return fmt.Sprintf("%.40s-%d", letters, time.Now().UnixNano())
}

func (w *world) makeBucket() {
	w.tb.Helper()
	_, err := w.s3.CreateBucket(w.tb.Context(), &s3.CreateBucketInput{Bucket: &w.cfg.Bucket})
	must(w.tb, err)
}

// apply makes the streams and consumers of that many partitions.
func (w *world) apply(partitions int) {
	w.tb.Helper()
	cfg := w.cfg.NATS
	cfg.Partitions = partitions
	plan, err := queue.Plan(w.tb.Context(), w.js, cfg)
	must(w.tb, err)
	must(w.tb, queue.Apply(w.tb.Context(), plan))
}

// newReport makes a report with a minidump and an auxiliary dump.
func newReport(tb testing.TB, dump string) *crash.Sealed {
	tb.Helper()
	now := time.Now()
	r := crash.Report{
		ID:          crash.NewID(now, crash.Accept),
		Received:    now.UTC(),
		Annotations: crash.Annotations{"ProductName": crash.Text("Testproduct")},
		Dumps: []crash.Part{
			crash.NewPart(crash.MinidumpName, []byte(dump), crash.Sum([]byte(dump))),
			crash.NewPart("browser", []byte("aux"), crash.Sum([]byte("aux"))),
		},
	}
	sealed, err := r.Seal()
	must(tb, err)
	return sealed
}

// message is what intake would publish.
func message(tb testing.TB, s *crash.Sealed) *nats.Msg {
	tb.Helper()
	msg, err := queue.Encode(nil, s, queue.InlineLimit(queue.MaxPayload))
	must(tb, err)
	return msg
}

// send publishes a message to partition p.
func (w *world) send(p int, msg *nats.Msg) {
	w.tb.Helper()
	msg.Subject = queue.ReadySubject(p)
	_, err := w.js.PublishMsg(w.tb.Context(), msg)
	must(w.tb, err)
}

// publish publishes n new reports to partition p and returns them.
func (w *world) publish(p, n int) []*crash.Sealed {
	w.tb.Helper()
	var reports []*crash.Sealed
	for i := range n {
		s := newReport(w.tb, fmt.Sprintf("dump %d", i))
		w.send(p, message(w.tb, s))
		reports = append(reports, s)
	}
	return reports
}

// running is an uploader at work.
type running struct {
	*Uploader
	w     *world
	end   context.CancelFunc
	ended chan error
}

// run starts an uploader, which ends with the test at the latest. change may
// touch it before, and may be nil.
func (w *world) run(change func(*Uploader)) *running {
	w.tb.Helper()
	ctx, end := context.WithCancel(w.tb.Context())
	u, err := Listen(ctx, w.cfg, zerolog.New(zerolog.NewTestWriter(w.tb)))
	must(w.tb, err)
	u.heldFor = 200 * time.Millisecond // as soon as others are retried
	if change != nil {
		change(u)
	}
	r := &running{Uploader: u, w: w, end: end, ended: make(chan error, 1)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.ended <- u.Run(ctx)
	}()
	w.tb.Cleanup(func() { end(); <-done })
	return r
}

// stop ends the uploader as a SIGTERM does.
func (r *running) stop() {
	r.w.tb.Helper()
	r.end()
	if err := <-r.ended; err != nil {
		r.w.tb.Errorf("Run returned: %v", err)
	}
}

// get returns an admin page's status and body.
func (r *running) get(path string) (int, string) {
	r.w.tb.Helper()
	req, err := http.NewRequestWithContext(r.w.tb.Context(), http.MethodGet, "http://"+r.AdminAddr()+path, nil)
	must(r.w.tb, err)
	resp, err := http.DefaultClient.Do(req)
	must(r.w.tb, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(r.w.tb, err)
	return resp.StatusCode, string(body)
}

// keys lists what is in the bucket, but for what probes put there.
func (w *world) keys() []string {
	w.tb.Helper()
	var keys []string
	pages := s3.NewListObjectsV2Paginator(w.s3, &s3.ListObjectsV2Input{Bucket: &w.cfg.Bucket})
	for pages.HasMorePages() {
		page, err := pages.NextPage(w.tb.Context())
		must(w.tb, err)
		for _, o := range page.Contents {
			keys = append(keys, aws.ToString(o.Key))
		}
	}
	return slices.DeleteFunc(keys, layout.IsProbe)
}

// remove takes an object out of the bucket.
func (w *world) remove(key string) error {
	_, err := w.s3.DeleteObject(w.tb.Context(), &s3.DeleteObjectInput{Bucket: &w.cfg.Bucket, Key: &key})
	return err
}

// stored counts the reports of which the bucket has the raw_crash.
func (w *world) stored() (n int) {
	w.tb.Helper()
	for _, key := range w.keys() {
		if strings.Contains(key, "/"+crash.RawCrashName+"/") {
			n++
		}
	}
	return n
}

// consumer tells how partition p's consumer stands.
func (w *world) consumer(p int) *jetstream.ConsumerInfo {
	w.tb.Helper()
	c, err := w.js.Consumer(w.tb.Context(), queue.StreamName(p), queue.Consumer)
	must(w.tb, err)
	return c.CachedInfo()
}

// drained reports whether partition p holds nothing that is not acknowledged, and
// nothing of it is held.
func (w *world) drained(p int) bool {
	w.tb.Helper()
	return w.acknowledged(p) && w.heldOf(p) == 0
}

// heldOf counts the held reports of partition p.
func (w *world) heldOf(p int) int {
	w.tb.Helper()
	all, err := queue.HeldReports(w.tb.Context(), w.js, queue.StreamName(p))
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return 0
	}
	must(w.tb, err)
	return len(all)
}

// acknowledged reports whether partition p holds nothing that is not acknowledged. What
// was just published the consumer's numbers may not count yet.
func (w *world) acknowledged(p int) bool {
	w.tb.Helper()
	info := w.consumer(p)
	if info.NumPending > 0 || info.NumAckPending > 0 {
		return false
	}
	next, err := queue.NewReader(w.js).NextReady(w.tb.Context(), p, info.AckFloor.Stream+1)
	must(w.tb, err)
	return next == nil
}

// checkStored fails the test unless the bucket holds exactly these reports,
// byte for byte.
func (w *world) checkStored(reports []*crash.Sealed) {
	w.tb.Helper()
	var want []string
	for _, s := range reports {
		objects, err := layout.Objects(s)
		must(w.tb, err)
		for _, o := range objects {
			want = append(want, o.Key)
			w.checkObject(o)
		}
	}
	slices.Sort(want)
	if got := w.keys(); !slices.Equal(got, want) {
		w.tb.Errorf("the bucket has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func (w *world) checkObject(o layout.Object) {
	w.tb.Helper()
	got, err := w.s3.GetObject(w.tb.Context(), &s3.GetObjectInput{Bucket: &w.cfg.Bucket, Key: &o.Key})
	must(w.tb, err)
	defer got.Body.Close()
	body, err := io.ReadAll(got.Body)
	must(w.tb, err)
	want, err := o.Part.AppendTo(nil)
	must(w.tb, err)
	if !bytes.Equal(body, want) {
		w.tb.Errorf("%s holds %q, want %q", o.Key, body, want)
	}
	if aws.ToString(got.ContentType) != o.ContentType {
		w.tb.Errorf("%s has type %s, want %s", o.Key, aws.ToString(got.ContentType), o.ContentType)
	}
}

// patience is longer than anything here takes, and well below the ack wait: what
// comes within it did not wait for that.
const patience = 40 * time.Second

// await returns once ok does, and fails the test when it never does.
func await(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			tb.Fatalf("waited in vain: %s", what)
		}
	}
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// failing lists the names of the checks that a heartbeat page says are failing.
func failing(tb testing.TB, page string) (names []string) {
	tb.Helper()
	var heartbeat struct {
		Errors []struct{ Name string }
	}
	must(tb, json.Unmarshal([]byte(page), &heartbeat))
	for _, e := range heartbeat.Errors {
		names = append(names, e.Name)
	}
	return names
}
