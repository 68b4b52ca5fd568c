//go:build faults

package e2e

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Intake dies after the second chunk of a report of 20 MB. The client posts it
// again, and another one posts its own at the same time: whatever was promised is
// stored whole, and of what died nobody sees anything.
func TestLargeReportThatIsCutAndPostedAgain(t *testing.T) {
	s := startSystem(t)
	js := s.jetStream(t)
	book := newLedger()
	first := newClient(s.url, 3, 0)
	dump := first.bytes(20_000_000)
	cut := make(chan error, 1)
	go func() {
		_, err := first.post(context.WithoutCancel(t.Context()), dump)
		cut <- err
	}()
	eventually(t, "waiting for the second chunk", 20*time.Second, func() error { return holds(t.Context(), js, 2) })
	s.intake.kill()
	s.intake.start()
	if err := <-cut; err == nil {
		t.Fatal("the report was promised before intake was killed")
	}
	awaitHealthy(t, s.url)
	var clients sync.WaitGroup
	for n := range 2 {
		clients.Go(func() {
			c := newClient(s.url, 4, n)
			mine := dump
			if n > 0 {
				mine = c.bytes(20_000_000)
			}
			book.post(t, c, mine)
		})
	}
	clients.Wait()
	book.audit(t, s.bucket, time.Minute)
	if n := s.bucket.reports(t); n != book.size() {
		t.Errorf("%d reports in the bucket, %d were promised", n, book.size())
	}
}

// Eight reports as large as a post may be, at once, and the most memory that each
// process may have had by then, in MiB.
func TestLargestReportsAtOnceTakeLittleMemory(t *testing.T) {
	s := startSystem(t)
	book := newLedger()
	var clients sync.WaitGroup
	for burst := range 3 { // the server keeps some of the memory of each
		for n := range 8 {
			clients.Go(func() {
				c := newClient(s.url, 5, 8*burst+n)
				book.post(t, c, c.bytes(25<<20-1000))
			})
		}
		clients.Wait()
	}
	book.audit(t, s.bucket, time.Minute)
	for p, most := range map[*process]int64{s.intake: 256, s.uploader: 256, s.nats: 300} {
		if got := peakRSS(t, p.cmd.Process.Pid) >> 20; got > most {
			t.Errorf("%s had %d MiB, want at most %d", p.name, got, most)
		} else {
			t.Logf("%s had %d MiB at the most", p.name, got)
		}
	}
}

// A backlog of reports that just fit into a message, and of such that do not: the
// uploader has as many in hand as it has workers, and keeps within its memory.
func TestBacklogOfLargeReportsTakesLittleMemory(t *testing.T) {
	s := startSystem(t)
	s.uploader.kill()
	book := newLedger()
	var clients sync.WaitGroup
	for n := range 4 {
		clients.Go(func() {
			c := newClient(s.url, 23, n)
			for range 18 {
				book.post(t, c, c.bytes(7_900_000))
			}
			for range 6 {
				book.post(t, c, c.bytes(20_000_000))
			}
		})
	}
	clients.Wait()
	s.uploader.start()
	book.audit(t, s.bucket, 2*time.Minute)
	if got := peakRSS(t, s.uploader.cmd.Process.Pid) >> 20; got > 256 {
		t.Errorf("%s had %d MiB, want at most 256", s.uploader.name, got)
	} else {
		t.Logf("%s had %d MiB at the most", s.uploader.name, got)
	}
}

// reports counts the reports in the bucket.
func (b *bucket) reports(t *testing.T) int {
	t.Helper()
	list, err := b.client.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &b.name, Prefix: aws.String("v1/raw_crash/")})
	if err != nil {
		t.Fatal(err)
	}
	return len(list.Contents)
}
