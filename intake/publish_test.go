package intake_test

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/devstack/devnats"
	"github.com/yagi-crash/yagi/pkg/devstack/freeport"
	"github.com/yagi-crash/yagi/pkg/queue"
)

// proxied puts a proxy between intake and the queue, for breaking.
func proxied(t *testing.T, natsURL string) (*toxiproxy.Proxy, string) {
	t.Helper()
	u, err := url.Parse(natsURL)
	if err != nil {
		t.Fatal(err)
	}
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	proxy := toxiproxy.NewProxy(server, "nats", "127.0.0.1:0", u.Host)
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Stop)
	return proxy, "nats://" + proxy.Listen
}

// cutAcks lets publishes through and nothing back, until it is undone, which
// drops the connection: what was not acknowledged by then never is.
func cutAcks(t *testing.T, proxy *toxiproxy.Proxy) (undo func()) {
	t.Helper()
	if _, err := proxy.Toxics.AddToxicJson(strings.NewReader(`{"name":"cut","type":"timeout","stream":"downstream","attributes":{"timeout":0}}`)); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := proxy.Toxics.RemoveToxic(t.Context(), "cut"); err != nil {
			t.Error(err)
		}
	}
}

// A lost ack costs a second attempt, not a second report, and no error.
func TestLostAckIsAskedForAgain(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	proxy, proxyURL := proxied(t, q.url)
	// The stall limit is over before the ack comes: a client whose body is
	// there may wait.
	i := startIntake(t, proxyURL, "INTAKE_BODY_STALL=500ms")
	crashID(t, i.post(t, report())) // connected

	undo := cutAcks(t, proxy)
	c := i.dial(t)
	c.send(request(len(report())) + report())
	q.await(t, 2) // stored, and the ack is lost
	undo()
	id := crashID(t, c.answer())
	c.send(request(len(report())) + report()) // the wait has not cost the connection
	crashID(t, c.answer())
	if all := q.stored(t); len(all) != 3 || all[1].ID != id {
		t.Errorf("the stream has %d reports, want 3, the second %s", len(all), id)
	}
	_, page := get(t, "http://"+i.admin+"/metrics")
	if strings.Contains(page, `intake_publish_attempts_total{answer="again"} 0`) || !strings.Contains(page, `intake_publish_attempts_total{answer="stored"} 3`) {
		t.Error("the client was answered without a second attempt that was acknowledged")
	}
}

// await waits until the streams hold n messages.
func (q *testQueue) await(t *testing.T, n uint64) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		var got uint64
		for p := range q.cfg.Partitions {
			stream, err := q.js.Stream(t.Context(), queue.StreamName(p))
			if err != nil {
				t.Fatal(err)
			}
			got += stream.CachedInfo().State.Msgs
		}
		if got >= n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the streams hold %d messages after 20 s, want %d", got, n)
		}
	}
}

// An election takes 4 to 9 s, in which the stream says nothing. No client is
// sent away in them.
func TestSilenceAsLongAsAnElectionFailsNoRequest(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	proxy, proxyURL := proxied(t, q.url)
	i := startIntake(t, proxyURL)
	crashID(t, i.post(t, report()))

	undo := cutAcks(t, proxy)
	over := time.AfterFunc(8*time.Second, undo)
	defer over.Stop()
	var clients sync.WaitGroup
	ids := make(chan crash.ID, 20)
	start := time.Now()
	for range cap(ids) {
		clients.Go(func() { ids <- crashID(t, i.post(t, report())) })
	}
	clients.Wait()
	close(ids)
	if took := time.Since(start); took < 8*time.Second {
		t.Errorf("answered after %s, within the silence", took)
	}
	stored := map[crash.ID]int{}
	for _, s := range q.stored(t) {
		stored[s.ID]++
	}
	for id := range ids {
		if stored[id] != 1 {
			t.Errorf("%s is in the stream %d times", id, stored[id])
		}
	}
}

// startFull starts an intake whose stream has no room for the report big.
func startFull(t *testing.T) (q *testQueue, i *tier, big string) {
	t.Helper()
	q = startQueue(t)
	i = startIntake(t, q.url)
	q.cfg.StreamMaxBytes = 1 << 20
	q.apply(t)
	big = field("ProductName", "Firefox") + dump(crash.MinidumpName, noise(600_000)) + end
	crashID(t, i.post(t, big))
	return q, i, big
}

// A full stream is said at once, and taken up again when there is room.
func TestFullStreamFailsFast(t *testing.T) {
	t.Parallel()
	q, i, big := startFull(t)

	start := time.Now()
	a := i.post(t, big)
	if a.status != http.StatusServiceUnavailable || a.body != "Discarded=unavailable" || a.head.Get("Retry-After") == "" {
		t.Errorf("answered %d %q, Retry-After %q", a.status, a.body, a.head.Get("Retry-After"))
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("it took %s to say that the stream is full", took)
	}
	if err := purge(t, q); err != nil {
		t.Fatal(err)
	}
	crashID(t, i.post(t, big))
}

// While no report is promised the heartbeat is red, whatever the server says of the
// stream, and green again after the first that is.
func TestNoPromisesAreARedHeartbeat(t *testing.T) {
	t.Parallel()
	q, i, big := startFull(t)
	const soon = 5 * time.Second // brokenAfter
	begun := time.Now()
	for {
		if a := i.post(t, big); a.status != http.StatusServiceUnavailable {
			t.Fatalf("answered %d %q", a.status, a.body)
		}
		status, body := get(t, "http://"+i.addr+"/__heartbeat__")
		if status == http.StatusServiceUnavailable && strings.Contains(body, "maximum bytes") {
			break
		}
		if time.Since(begun) > 4*soon {
			t.Fatalf("after %s the heartbeat is %d %s", time.Since(begun), status, body)
		}
		<-time.After(200 * time.Millisecond) // other tests run too
	}
	if time.Since(begun) < soon {
		t.Error("one refusal made the heartbeat red")
	}
	if err := purge(t, q); err != nil {
		t.Fatal(err)
	}
	crashID(t, i.post(t, big))
	if status, body := get(t, "http://"+i.addr+"/__heartbeat__"); status != http.StatusOK {
		t.Errorf("heartbeat %d %s", status, body)
	}
}

func purge(t *testing.T, q *testQueue) error {
	t.Helper()
	stream, err := q.js.Stream(t.Context(), queue.StreamName(0))
	if err != nil {
		return err
	}
	return stream.Purge(t.Context())
}

// A full partition is left for another.
func TestFullPartitionIsLeftForTheNext(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	q.cfg.Partitions = 2
	q.apply(t)
	small := queue.StreamConfig(0, q.cfg)
	small.MaxBytes = 100
	if _, err := q.js.UpdateStream(t.Context(), small); err != nil {
		t.Fatal(err)
	}
	i := startIntake(t, q.url, "NATS_PARTITIONS=2")
	for range 10 {
		crashID(t, i.post(t, report()))
	}
	q.await(t, 10)
}

// Without a stream, or without a server, a report is not promised, within the
// publish timeout and not before; and the next one is, once they are there.
func TestAbsentQueueIsWaitedForAndHeals(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	if err := q.js.DeleteStream(t.Context(), queue.StreamName(0)); err != nil {
		t.Fatal(err)
	}
	i := startIntake(t, q.url, "INTAKE_PUBLISH_TIMEOUT=1500ms")
	start := time.Now()
	a := i.post(t, report())
	if took := time.Since(start); a.status != http.StatusServiceUnavailable || took < 1400*time.Millisecond || took > 4*time.Second {
		t.Errorf("without a stream: answered %d %q after %s", a.status, a.body, took)
	}
	if status, body := get(t, "http://"+i.addr+"/__heartbeat__"); status != 503 || !strings.Contains(body, queue.StreamName(0)) {
		t.Errorf("heartbeat %d %s, want 503 naming the stream", status, body)
	}
	q.apply(t)
	crashID(t, i.post(t, report()))
	if status, body := get(t, "http://"+i.addr+"/__heartbeat__"); status != 200 {
		t.Errorf("heartbeat %d %s", status, body)
	}
}

func TestServerThatComesLater(t *testing.T) {
	t.Parallel()
	address, err := new(freeport.Finder).Addr(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := startIntake(t, "nats://"+address, "INTAKE_PUBLISH_TIMEOUT=500ms")
	if a := i.post(t, report()); a.status != http.StatusServiceUnavailable {
		t.Errorf("without a server: answered %d %q", a.status, a.body)
	}
	if status, body := get(t, "http://"+i.addr+"/__heartbeat__"); status != 503 || strings.Count(body, "not connected to NATS") != 2 || strings.Contains(body, "buffer") {
		t.Errorf("heartbeat %d %s", status, body)
	}
	if status, _ := get(t, "http://"+i.addr+"/__lbheartbeat__"); status != 200 {
		t.Errorf("lbheartbeat %d: the load balancer would restart what heals by itself", status)
	}
	server, err := devnats.Start(t.Context(), devnats.Config{Addr: address, Dir: t.TempDir(), Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	q := connectQueue(t, server.URL())
	q.apply(t)
	awaitHealthy(t, i)
	crashID(t, i.post(t, report()))
}

func awaitHealthy(t *testing.T, i *tier) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		status, body := get(t, "http://"+i.addr+"/__heartbeat__")
		if status == 200 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("heartbeat %d %s after 30 s", status, body)
		}
	}
}

// More reports than may be on their way at once wait for their turn.
func TestInflightBytesAreBounded(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	proxy, proxyURL := proxied(t, q.url)
	i := startIntake(t, proxyURL, "INTAKE_PUBLISH_INFLIGHT_BYTES=500kB") // 375 kB for large ones
	crashID(t, i.post(t, report()))
	undo := cutAcks(t, proxy)
	var clients sync.WaitGroup
	for range 10 {
		clients.Go(func() {
			crashID(t, i.post(t, field("ProductName", "Firefox")+dump(crash.MinidumpName, noise(150_000))+end))
		})
	}
	awaitMetric(t, i, "intake_requests_in_flight 10")
	if _, page := get(t, "http://"+i.admin+"/metrics"); !strings.Contains(page, "intake_publish_inflight_bytes 300") {
		t.Errorf("not two of ten reports of 150 kB are on their way at a time:\n%s", page)
	}
	undo()
	clients.Wait()
	if got := len(q.stored(t)); got != 11 {
		t.Errorf("%d reports in the stream, want 11", got)
	}
}

func awaitMetric(t *testing.T, i *tier, line string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		if _, page := get(t, "http://"+i.admin+"/metrics"); strings.Contains(page, line) {
			return
		}
	}
	t.Fatalf("no %q in /metrics after 10 s", line)
}

// A partition that says nothing is left for the next, in time for the client.
func TestSilentPartitionIsLeftForTheNext(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	q.cfg.Partitions = 2
	q.apply(t)
	if err := q.js.DeleteStream(t.Context(), queue.StreamName(0)); err != nil {
		t.Fatal(err)
	}
	i := startIntake(t, q.url, "NATS_PARTITIONS=2")
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() { crashID(t, i.post(t, report())) })
	}
	clients.Wait()
	stream, err := q.js.Stream(t.Context(), queue.StreamName(1))
	if err != nil {
		t.Fatal(err)
	}
	if got := stream.CachedInfo().State.Msgs; got != 8 {
		t.Errorf("partition 1 has %d reports, want 8", got)
	}
}

// Nothing is promised to a stream that is not Yagi's, whoever made it.
func TestForeignStreamGetsNothing(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	if err := q.js.DeleteStream(t.Context(), queue.StreamName(0)); err != nil {
		t.Fatal(err)
	}
	foreign, err := q.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "FOREIGN", Subjects: []string{queue.Subjects}})
	if err != nil {
		t.Fatal(err)
	}
	i := startIntake(t, q.url, "INTAKE_PUBLISH_TIMEOUT=1s")
	if a := i.post(t, report()); a.status != http.StatusServiceUnavailable {
		t.Errorf("answered %d %q, want 503", a.status, a.body)
	}
	info, err := foreign.Info(t.Context())
	if err != nil || info.State.Msgs != 0 {
		t.Errorf("the foreign stream has %d messages, %v", info.State.Msgs, err)
	}
}

// To a stream that forgets what it has acknowledged nothing is promised, until it is
// mended.
func TestNothingIsPromisedToAStreamThatForgets(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	i := startIntake(t, q.url)
	forgetful := queue.StreamConfig(0, q.cfg)
	forgetful.MaxAge = time.Hour
	if _, err := q.js.UpdateStream(t.Context(), forgetful); err != nil {
		t.Fatal(err)
	}
	if status, body := get(t, "http://"+i.addr+"/__heartbeat__"); status != 503 || !strings.Contains(body, "max_age") {
		t.Errorf("heartbeat %d %s, want 503 naming max_age", status, body)
	}
	i.awaitAnswer(t, http.StatusServiceUnavailable)
	q.apply(t)
	i.awaitAnswer(t, http.StatusOK)
}

// awaitAnswer posts until the answer is that.
func (i *tier) awaitAnswer(t *testing.T, status int) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		a := i.post(t, report())
		if a.status == status {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("answered %d %q for 20 s, want %d", a.status, a.body, status)
		}
		<-time.After(200 * time.Millisecond) // other tests run too
	}
}

// A client that hangs up once it has sent everything has sent a whole report.
func TestClientThatHangsUpIsNotForgotten(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	if err := q.js.DeleteStream(t.Context(), queue.StreamName(0)); err != nil {
		t.Fatal(err)
	}
	i := startIntake(t, q.url)
	c := i.dial(t)
	c.send(request(len(report())) + report())
	for waiting := false; !waiting; { // for a stream to publish to
		_, page := get(t, "http://"+i.admin+"/metrics")
		waiting = !strings.Contains(page, "intake_publish_inflight_bytes 0\n")
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	q.apply(t)
	q.await(t, 1)
}
