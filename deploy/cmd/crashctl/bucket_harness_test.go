package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/devstack/devs3"
	"github.com/yagi-crash/yagi/pkg/layout"
	"github.com/yagi-crash/yagi/pkg/queue"
	"github.com/yagi-crash/yagi/uploader"
)

// plant is a queue, a bucket, and what an uploader made of it.
type plant struct {
	js      jetstream.JetStream
	environ []string
	files   string // folder of the bucket
	reports []*crash.Sealed
}

// newPlant stores reports of the products, one each, the second one in chunks.
func newPlant(t *testing.T, products ...string) *plant {
	t.Helper()
	p := &plant{}
	p.js, p.environ = applied(t)
	p.environ = append(p.environ, "S3_BUCKET=crashes")
	p.files = startBucket(t)
	for i, product := range products {
		p.publish(t, product, i == 1)
	}
	p.upload(t)
	return p
}

// startBucket runs an S3 server with the bucket crashes, has the environment lead
// there, and returns the folder of the bucket.
func startBucket(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	store, err := devs3.Start(t.Context(), devs3.Config{
		Addr: "127.0.0.1:0", Dir: dir, AccessKey: "ops", SecretKey: "ops-secret", Buckets: []string{"crashes"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Stop() })
	t.Setenv("AWS_ENDPOINT_URL_S3", store.Endpoint())
	t.Setenv("AWS_REGION", "us-east-1")
	t.Setenv("AWS_ACCESS_KEY_ID", "ops")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "ops-secret")
	return filepath.Join(dir, "data", "crashes")
}

// publish publishes a report as intake does.
func (p *plant) publish(t *testing.T, product string, inChunks bool) *crash.Sealed {
	t.Helper()
	dump := bytes.Repeat([]byte(product), 500)
	r := &crash.Report{ID: crash.NewID(time.Now(), crash.Accept), Received: time.Now().UTC(), Annotations: crash.Annotations{"ProductName": crash.Text(product)}}
	r.Metadata.ThrottleRule = "rule_of_" + product
	r.Dumps = []crash.Part{crash.NewPart(crash.MinidumpName, dump, crash.Sum(dump))}
	s, err := r.Seal()
	if err != nil {
		t.Fatal(err)
	}
	var msg *nats.Msg
	if inChunks {
		msg = (&graveyard{js: p.js}).chunked(t, s)
	} else if msg, err = queue.Encode(nil, s, queue.InlineLimit(queue.MaxPayload)); err != nil {
		t.Fatal(err)
	}
	msg.Subject = queue.ReadySubject(0)
	if _, err := p.js.PublishMsg(t.Context(), msg); err != nil {
		t.Fatal(err)
	}
	p.reports = append(p.reports, s)
	return s
}

// upload runs an uploader until nothing waits.
func (p *plant) upload(t *testing.T) {
	t.Helper()
	cfg, err := uploader.Load(append(p.environ, "UPLOADER_ADMIN_ADDR=127.0.0.1:0", "UPLOADER_RETRY_MIN=10ms"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	u, err := uploader.Listen(ctx, cfg, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- u.Run(ctx) }()
	eventually(t, "the queue is drained", func() bool {
		c, err := p.js.Consumer(t.Context(), queue.StreamName(0), queue.Consumer)
		if err != nil {
			t.Fatal(err)
		}
		info := c.CachedInfo()
		if info.NumPending > 0 || info.NumAckPending > 0 {
			return false
		}
		// What was just published these numbers may not count yet.
		next, err := queue.NewReader(p.js).NextReady(t.Context(), 0, info.AckFloor.Stream+1)
		if err != nil {
			t.Fatal(err)
		}
		return next == nil
	})
	end()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

// object is the file of an object.
func (p *plant) object(key string) string { return filepath.Join(p.files, filepath.FromSlash(key)) }

// lose takes every object of a report out of the bucket.
func (p *plant) lose(t *testing.T, s *crash.Sealed) {
	t.Helper()
	for _, o := range objects(t, s) {
		if err := os.Remove(p.object(o.Key)); err != nil {
			t.Fatal(err)
		}
	}
}

// has tells whether the bucket has all of a report, byte for byte.
func (p *plant) has(t *testing.T, s *crash.Sealed) bool {
	t.Helper()
	for _, o := range objects(t, s) {
		want, err := o.Part.AppendTo(nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(p.object(o.Key)); err != nil || !bytes.Equal(got, want) {
			return false
		}
	}
	return true
}

func objects(t *testing.T, s *crash.Sealed) []layout.Object {
	t.Helper()
	all, err := layout.Objects(s)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// which says which of the plant's reports the bucket has, such as "0 2".
func (p *plant) which(t *testing.T) string {
	t.Helper()
	var all []string
	for i, s := range p.reports {
		if p.has(t, s) {
			all = append(all, strconv.Itoa(i))
		}
	}
	return strings.Join(all, " ")
}

// eventually returns once ok does, and fails the test when it does not for long.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}
