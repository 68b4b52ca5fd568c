//go:build faults

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/yagi-crash/yagi/pkg/queue"
)

// postAll has clients post so many reports each, all of which have to be promised.
func (s *system) postAll(t *testing.T, book *ledger, clients, each, most int) {
	t.Helper()
	var posting sync.WaitGroup
	for n := range clients {
		posting.Go(func() {
			c := newClient(s.url, 20, n)
			for range each {
				book.post(t, c, c.dump(most))
			}
		})
	}
	posting.Wait()
}

// ready counts the reports in the stream, stored ones too.
func ready(t *testing.T, js jetstream.JetStream) uint64 {
	t.Helper()
	s, err := js.Stream(t.Context(), queue.StreamName(0))
	if err != nil {
		t.Fatal(err)
	}
	info, err := s.Info(t.Context(), jetstream.WithSubjectFilter(queue.ReadySubject(0)))
	if err != nil {
		t.Fatal(err)
	}
	return info.State.Subjects[queue.ReadySubject(0)]
}

// The queue gets reports, and its answers are lost: intake asks again, its clients
// wait, and each report is there once.
func TestAcksAreLost(t *testing.T) {
	s := newSystem(t, 1)
	s.nats = s.newServer(t, suite.natsConf, s.natsAddr)
	s.applyStreams(t)
	js := s.jetStream(t)
	l := newLink(t, s.natsAddr)
	s.startTiers(t, "NATS_URL=nats://intake:i@"+l.addr())
	s.uploader.kill() // it has another user
	awaitHealthy(t, s.url)
	book := newLedger()
	s.postAll(t, book, 1, 1, 1000)
	l.ail(`{"name":"deaf","type":"timeout","stream":"downstream","attributes":{"timeout":0}}`)
	mended := make(chan struct{})
	go func() {
		defer close(mended)
		for ready(t, js) < 9 { // all have arrived, and no ack went back
			rest(t.Context(), 20*time.Millisecond)
		}
		l.cut()
		l.mend()
		if err := l.proxy.Toxics.RemoveToxic(t.Context(), "deaf"); err != nil {
			t.Error(err)
		}
	}()
	s.postAll(t, book, 8, 1, 100_000)
	<-mended
	if n := ready(t, js); n != 9 || book.size() != 9 {
		t.Errorf("%d reports are in the queue, %d promised, want 9", n, book.size())
	}
}

// A line to the queue that is slow, or takes long, costs time and no report. What
// intake has no room for it says so, and soon.
func TestSlowLineToTheQueue(t *testing.T) {
	for name, toxic := range map[string]string{
		"long":   `{"type":"latency","stream":"downstream","attributes":{"latency":700,"jitter":300}}`,
		"narrow": `{"type":"bandwidth","stream":"upstream","attributes":{"rate":500}}`, // kB/s
	} {
		t.Run(name, func(t *testing.T) {
			s := newSystem(t, 1)
			s.nats = s.newServer(t, suite.natsConf, s.natsAddr)
			s.applyStreams(t)
			l := newLink(t, s.natsAddr)
			s.startTiers(t)
			s.intake, s.url = s.newIntake(t, "NATS_URL=nats://intake:i@"+l.addr())
			awaitHealthy(t, s.url)
			l.ail(toxic)
			book := newLedger()
			s.postAll(t, book, 8, 2, 300_000)
			book.audit(t, s.bucket, 30*time.Second)
			if got := peakRSS(t, s.intake.cmd.Process.Pid) >> 20; got > 256 {
				t.Errorf("intake had %d MiB", got)
			}
		})
	}
}

// A backlog of reports as large as messages can be drains as fast as the uploader's
// line brings it (100 Mbit/s), and no report waits out an ack wait, or is taken twice.
func TestLargeBacklogOverASlowLine(t *testing.T) {
	const reports, size, rate = 24, 7_500_000, 12_500_000
	s := newSystem(t, 1)
	s.nats = s.newServer(t, suite.natsConf, s.natsAddr)
	s.applyStreams(t)
	s.startTiers(t)
	s.uploader.kill()
	awaitHealthy(t, s.url)
	book, c := newLedger(), newClient(s.url, 22, 0)
	for range reports {
		book.post(t, c, c.bytes(size))
	}
	l := newLink(t, s.natsAddr)
	l.ail(fmt.Sprintf(`{"type":"bandwidth","stream":"downstream","attributes":{"rate":%d}}`, rate/1000)) // kB/s
	s.uploader.env = append(s.uploader.env, "NATS_URL=nats://uploader:u@"+l.addr())
	begun := time.Now()
	s.uploader.start()
	book.audit(t, s.bucket, 3*time.Minute)
	took, least := time.Since(begun), time.Duration(reports*size/rate)*time.Second
	t.Logf("%d reports were stored within %v, the line alone needs %v", book.size(), took, least)
	if took < least || took > 4*least { // other things run at the same time
		t.Errorf("%d reports were stored within %v, the line alone needs %v", book.size(), took, least)
	}
	eventually(t, "counting each report once", 10*time.Second, func() error {
		want := fmt.Sprintf("uploader_reports_total{result=\"stored\"} %d\n", reports)
		if _, page := s.page(t, s.uploaderURL+"/metrics"); !strings.Contains(page, want) {
			return fmt.Errorf("no %s", want)
		}
		return nil
	})
}

// An operator deletes the consumer, and later the stream: heartbeats are red, no
// process ends, nothing is promised that is nowhere, and all is well again once
// the streams are applied.
func TestConsumerAndStreamAreDeleted(t *testing.T) {
	s := startSystem(t, "INTAKE_PUBLISH_TIMEOUT=10s")
	js := s.jetStream(t)
	book := newLedger()
	ctx, stopPosting := context.WithCancel(t.Context())
	defer stopPosting()
	var clients sync.WaitGroup
	for n := range 2 {
		clients.Go(func() { postUntil(ctx, newClient(s.url, 21, n), book) })
	}
	s.morePromises(t, book, 20)
	if err := js.DeleteConsumer(t.Context(), queue.StreamName(0), queue.Consumer); err != nil {
		t.Fatal(err)
	}
	awaitSick(t, s.uploaderURL)
	s.morePromises(t, book, 20) // intake does not notice
	s.applyStreams(t)
	awaitHealthy(t, s.uploaderURL)
	stopPosting()
	clients.Wait()
	if len(book.refused) > 0 {
		t.Errorf("without a consumer clients were sent away: %v", book.refused)
	}
	book.audit(t, s.bucket, 30*time.Second)

	if err := js.DeleteStream(t.Context(), queue.StreamName(0)); err != nil {
		t.Fatal(err)
	}
	awaitSick(t, s.url)
	awaitSick(t, s.uploaderURL)
	c := newClient(s.url, 22, 0)
	if _, err := c.post(t.Context(), c.dump(1000)); err == nil || !strings.HasPrefix(err.Error(), "503 Discarded=unavailable") {
		t.Errorf("without a stream a client is answered %v", err)
	}
	s.applyStreams(t)
	awaitHealthy(t, s.url)
	awaitHealthy(t, s.uploaderURL)
	s.postAll(t, book, 2, 10, 100_000)
	book.audit(t, s.bucket, 30*time.Second)
}

// morePromises waits until so many more reports are promised.
func (s *system) morePromises(t *testing.T, book *ledger, n int) {
	t.Helper()
	before := book.size()
	eventually(t, "waiting for promises", 30*time.Second, func() error {
		if book.size() < before+n {
			return errIdle
		}
		return nil
	})
}

// Both tiers are started before the server is, and before there are streams.
func TestQueueIsDownAtTheStart(t *testing.T) {
	s := newSystem(t, 1)
	s.startTiers(t, "INTAKE_PUBLISH_TIMEOUT=8s")
	awaitSick(t, s.url)
	awaitSick(t, s.uploaderURL)
	if status, _ := s.page(t, s.url+"/__lbheartbeat__"); status != http.StatusOK {
		t.Errorf("/__lbheartbeat__ is %d: a restart would not help", status)
	}
	c := newClient(s.url, 23, 0)
	begun := time.Now()
	if _, err := c.post(t.Context(), c.dump(1000)); err == nil || !strings.HasPrefix(err.Error(), "503 Discarded=unavailable") {
		t.Errorf("without a queue a client is answered %v", err)
	}
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("it was answered after %s", took)
	}
	s.nats = s.newServer(t, suite.natsConf, s.natsAddr)
	s.applyStreams(t)
	awaitHealthy(t, s.url)
	awaitHealthy(t, s.uploaderURL)
	book := newLedger()
	s.postAll(t, book, 2, 5, 100_000)
	book.audit(t, s.bucket, 20*time.Second)
}

// The passwords of both tiers are changed underneath them, and changed back: they
// are sent away meanwhile, say so, and go on without a restart.
func TestCredentialsAreRevoked(t *testing.T) {
	s := newSystem(t, 1)
	text, err := os.ReadFile(suite.natsConf)
	if err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(t.TempDir(), "nats.conf")
	write := func(text string) {
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(string(text))
	s.nats = s.newServer(t, conf, s.natsAddr)
	s.applyStreams(t)
	s.startTiers(t, "INTAKE_PUBLISH_TIMEOUT=5s")
	awaitHealthy(t, s.url)
	awaitHealthy(t, s.uploaderURL)
	book := newLedger()
	s.postAll(t, book, 2, 5, 100_000)

	write(strings.NewReplacer("$NATS_INTAKE_PASSWORD", "other", "$NATS_UPLOADER_PASSWORD", "other").Replace(string(text)))
	s.nats.signal(syscall.SIGHUP)
	awaitSick(t, s.url)
	awaitSick(t, s.uploaderURL)
	c := newClient(s.url, 24, 0)
	if _, err := c.post(t.Context(), c.dump(1000)); err == nil || !strings.HasPrefix(err.Error(), "503 Discarded=unavailable") {
		t.Errorf("without credentials a client is answered %v", err)
	}
	write(string(text))
	s.nats.signal(syscall.SIGHUP)
	awaitHealthy(t, s.url)
	awaitHealthy(t, s.uploaderURL)
	s.postAll(t, book, 2, 5, 100_000)
	book.audit(t, s.bucket, 20*time.Second)
}

// The stream fills up while the bucket is away: clients are told to come again,
// with a time, nothing that was promised goes, and there is room again once the
// bucket is back.
func TestStreamFillsUp(t *testing.T) {
	l := newLink(t, strings.TrimPrefix(suite.s3.Endpoint(), "http://"))
	s := startSystem(t, "AWS_ENDPOINT_URL_S3=http://"+l.addr(), "UPLOADER_REPLAY_WINDOW=0s")
	js := s.jetStream(t)
	live, err := js.Stream(t.Context(), queue.StreamName(0))
	if err != nil {
		t.Fatal(err)
	}
	cfg := live.CachedInfo().Config
	cfg.MaxBytes = 3_000_000
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	l.cut()
	book := newLedger()
	c := newClient(s.url, 25, 0)
	for range 100 {
		dump := c.bytes(100_000)
		id, postErr := c.post(t.Context(), dump)
		if err = postErr; err != nil {
			break
		}
		book.enter(id, dump)
	}
	if err == nil || !strings.HasPrefix(err.Error(), "503 Discarded=unavailable") || book.size() < 20 {
		t.Fatalf("after %d reports the answer is %v", book.size(), err)
	}
	if header := s.retryAfter(t, c); header == "" {
		t.Error("there is no Retry-After")
	}
	l.mend()
	book.audit(t, s.bucket, time.Minute)
	// What is stored is trimmed by an uploader, but not before eleven minutes are
	// over: an operator makes room sooner.
	cfg.MaxBytes = 30_000_000
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	s.postAll(t, book, 2, 10, 100_000)
	book.audit(t, s.bucket, time.Minute)
}

// retryAfter posts a report that is refused, and returns the header.
func (s *system) retryAfter(t *testing.T, c *client) string {
	t.Helper()
	r, err := c.request(t.Context(), c.bytes(100_000))
	if err != nil {
		t.Fatal(err)
	}
	response, err := c.http.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("the answer is %s", response.Status)
	}
	return response.Header.Get("Retry-After")
}
