//go:build faults

package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/yagi-crash/yagi/pkg/queue"
)

// The bucket is away while clients post 5,000 reports: every one is promised, no
// attempt is wasted on them, the uploader says what is wrong, and then all of
// them are stored.
func TestBucketAwayForABacklog(t *testing.T) {
	backlog := number(t, "E2E_BACKLOG", 5000)
	l := newLink(t, strings.TrimPrefix(suite.s3.Endpoint(), "http://"))
	s := startSystem(t, "AWS_ENDPOINT_URL_S3=http://"+l.addr())
	js := s.jetStream(t)
	book := newLedger()
	l.cut()
	var clients sync.WaitGroup
	const at = 8
	for n := range at {
		clients.Go(func() {
			c := newClient(s.url, 6, n)
			for range backlog / at {
				book.post(t, c, c.dump(4000))
			}
		})
	}
	clients.Wait()
	if n := uint64(book.size()); n != backlog/at*at {
		t.Errorf("%d reports are promised, want every one of %d", n, backlog/at*at)
	}
	eventually(t, "waiting for the uploader's heartbeat", 30*time.Second, func() error {
		status, page := s.page(t, s.uploaderURL+"/__heartbeat__")
		if status != http.StatusServiceUnavailable || !strings.Contains(page, `"bucket"`) {
			return fmt.Errorf("it is %d %s", status, page)
		}
		return nil
	})
	if status, page := s.page(t, s.url+"/__heartbeat__"); status != http.StatusOK {
		t.Errorf("intake's heartbeat is %d %s", status, page)
	}
	c, err := js.Consumer(t.Context(), queue.StreamName(0), queue.Consumer)
	if err != nil {
		t.Fatal(err)
	}
	if info := c.CachedInfo(); info.Delivered.Consumer > 100 || info.NumPending+uint64(info.NumAckPending) != uint64(book.size()) {
		t.Errorf("%d deliveries, %d + %d reports wait", info.Delivered.Consumer, info.NumPending, info.NumAckPending)
	}

	l.mend()
	begun := time.Now()
	eventually(t, "waiting for the backlog to drain", 3*time.Minute, func() error {
		info, err := c.Info(t.Context())
		if err == nil && info.NumPending+uint64(info.NumAckPending) > 0 {
			err = fmt.Errorf("%d + %d reports wait", info.NumPending, info.NumAckPending)
		}
		return err
	})
	took := time.Since(begun)
	t.Logf("%d reports were stored within %v: %.0f a second", book.size(), took.Round(time.Millisecond), float64(book.size())/took.Seconds())
	book.audit(t, s.bucket, time.Minute)
}

// A large report over a slow line takes longer than UPLOADER_PUT_TIMEOUT, and is
// stored at the first attempt.
func TestSlowLineToTheBucket(t *testing.T) {
	l := newLink(t, strings.TrimPrefix(suite.s3.Endpoint(), "http://"))
	s := startSystem(t, "AWS_ENDPOINT_URL_S3=http://"+l.addr(), "UPLOADER_PUT_TIMEOUT=5s")
	l.ail(`{"type":"bandwidth","stream":"upstream","attributes":{"rate":200}}`) // kB/s
	book := newLedger()
	c := newClient(s.url, 7, 0)
	begun := time.Now()
	book.post(t, c, c.bytes(3_000_000))
	book.audit(t, s.bucket, time.Minute)
	if took := time.Since(begun); took < 10*time.Second {
		t.Errorf("the report was stored within %v, which proves nothing", took)
	}
	if _, metrics := s.page(t, s.uploaderURL+"/metrics"); !strings.Contains(metrics, `uploader_puts_total{result="failed"} 0`) {
		t.Error("a PUT has failed")
	}
}

// The bucket is dropped, with all that is in it, and made again: what was posted
// meanwhile is stored, and nothing became a dead letter.
func TestBucketIsDropped(t *testing.T) {
	s := startSystem(t)
	early := newLedger()
	s.postAll(t, early, 2, 10, 50_000)
	early.audit(t, s.bucket, 20*time.Second)
	s.bucket.drop(t)
	book := newLedger()
	s.postAll(t, book, 4, 25, 50_000)
	awaitSick(t, s.uploaderURL)
	s.postAll(t, book, 4, 5, 50_000)
	if _, err := s.bucket.client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &s.bucket.name}); err != nil {
		t.Fatal(err)
	}
	book.audit(t, s.bucket, time.Minute)
	dead, err := s.jetStream(t).Stream(t.Context(), queue.DeadLetterStream)
	if err != nil {
		t.Fatal(err)
	}
	if n := dead.CachedInfo().State.Msgs; n != 0 {
		t.Errorf("there are %d dead letters", n)
	}
}

// drop removes the bucket. Reports may come in meanwhile.
func (b *bucket) drop(t *testing.T) {
	t.Helper()
	eventually(t, "dropping the bucket", 20*time.Second, func() error {
		pages := s3.NewListObjectsV2Paginator(b.client, &s3.ListObjectsV2Input{Bucket: &b.name})
		for pages.HasMorePages() {
			page, err := pages.NextPage(t.Context())
			if err != nil {
				return err
			}
			for _, o := range page.Contents {
				if _, err := b.client.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &b.name, Key: o.Key}); err != nil {
					return err
				}
			}
		}
		_, err := b.client.DeleteBucket(t.Context(), &s3.DeleteBucketInput{Bucket: &b.name})
		return err
	})
}

// page returns the status and the text of a page.
func (s *system) page(t *testing.T, url string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}
