package intake_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/devstack/devnats"
	"github.com/yagi-crash/yagi/pkg/devstack/freeport"
	"github.com/yagi-crash/yagi/pkg/queue"
)

// change has the server change a setting of partition 0's stream, as its own tools do.
func (q *testQueue) change(t *testing.T, field, value string) {
	t.Helper()
	text, err := json.Marshal(queue.StreamConfig(0, q.cfg))
	if err != nil {
		t.Fatal(err)
	}
	config := map[string]json.RawMessage{}
	if err := json.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	config[field] = json.RawMessage(value)
	if text, err = json.Marshal(config); err != nil {
		t.Fatal(err)
	}
	reply, err := q.js.Conn().RequestWithContext(t.Context(), "$JS.API.STREAM.UPDATE."+queue.StreamName(0), text)
	if err != nil || strings.Contains(string(reply.Data), `"error"`) {
		t.Fatalf("%v, %s", err, reply.Data)
	}
}

// sized is a report with a dump of that many bytes.
func sized(n int) string {
	return field("ProductName", "Firefox") + dump(crash.MinidumpName, noise(n)) + end
}

// A stream's own limit of messages is no client's fault: reports go in chunks that it
// takes, also right after it became lower.
func TestStreamThatTakesSmallMessages(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	before := startIntake(t, q.url) // that it was there before the limit
	crashID(t, before.post(t, sized(300_000)))
	q.change(t, "max_msg_size", "100000")
	after := startIntake(t, q.url)
	for _, i := range []*tier{before, after} {
		for _, size := range []int{100, 300_000, 9_000_000} {
			crashID(t, i.post(t, sized(size)))
		}
		if status, body := get(t, "http://"+i.addr+"/__heartbeat__"); status != http.StatusOK {
			t.Errorf("heartbeat %d %s", status, body)
		}
	}
	if got := len(q.stored(t)); got != 7 {
		t.Errorf("%d reports in the stream, want 7", got)
	}
}

// Where no message fits, nothing is promised, and the heartbeat says so; clients read
// 503 and not 413.
func TestLimitsBelowAnyReport(t *testing.T) {
	t.Parallel()
	for name, limit := range map[string][2]string{
		"no chunk":                {"max_msg_size", "100"},
		"no ready message":        {"max_msg_size", "1200"},
		"no message":              {"max_msgs", "1"},
		"one message per subject": {"max_msgs_per_subject", "1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q := startQueue(t)
			q.change(t, limit[0], limit[1])
			if _, err := q.js.Publish(t.Context(), queue.ReadySubject(0), nil); err != nil {
				t.Fatal(err)
			}
			i := startIntake(t, q.url)
			for deadline := time.Now().Add(time.Minute); ; {
				if a := i.post(t, sized(300_000)); a.status != http.StatusServiceUnavailable {
					t.Fatalf("answered %d %q", a.status, a.body)
				}
				status, body := get(t, "http://"+i.addr+"/__heartbeat__")
				if status == http.StatusServiceUnavailable {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("heartbeat %d %s", status, body)
				}
				<-time.After(200 * time.Millisecond) // other tests run too
			}
		})
	}
}

// A server that takes smaller messages than the one before it gets a report that was
// on its way in chunks.
func TestMaxPayloadShrinksWithinAReport(t *testing.T) {
	t.Parallel()
	address, err := new(freeport.Finder).Addr(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	start := func(maxPayload int32) *devnats.Server {
		server, err := devnats.Start(t.Context(), devnats.Config{Addr: address, Dir: dir, MaxPayload: maxPayload, Log: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(server.Stop)
		return server
	}
	first := start(0)
	connectQueue(t, first.URL()).apply(t)
	proxy, proxyURL := proxied(t, first.URL())
	i := startIntake(t, proxyURL)
	crashID(t, i.post(t, report()))
	undo := cutAcks(t, proxy)
	answers := make(chan answer, 2)
	for _, size := range []int{3_000_000, 9_000_000} {
		go func() { answers <- i.post(t, sized(size)) }()
	}
	awaitMetric(t, i, "intake_requests_in_flight 2")
	first.Stop()
	second := start(256 << 10)
	undo()
	crashID(t, <-answers)
	crashID(t, <-answers)
	if got := len(connectQueue(t, second.URL()).stored(t)); got < 3 { // or more, when an ack was lost
		t.Errorf("%d reports in the stream, want 3", got)
	}
}

// A stream that puts reports where nobody reads them gets none.
func TestNothingIsPromisedToAStreamThatHides(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	q.change(t, "subject_transform", `{"src":"crash.0.ready","dest":"crash.0.hidden"}`)
	i := startIntake(t, q.url)
	if a := i.post(t, report()); a.status != http.StatusServiceUnavailable {
		t.Errorf("answered %d %q, want 503", a.status, a.body)
	}
	if status, body := get(t, "http://"+i.addr+"/__heartbeat__"); status != 503 || !strings.Contains(body, "subject_transform") {
		t.Errorf("heartbeat %d %s, want 503 naming subject_transform", status, body)
	}
	q.apply(t)
	i.awaitAnswer(t, http.StatusOK)
}

// What is known of a stream says nothing about the one behind another connection.
func TestAnotherServerIsLookedAtFirst(t *testing.T) {
	t.Parallel()
	server := startMortal(t)
	i := startIntake(t, server.URL(), "INTAKE_PUBLISH_TIMEOUT=8s")
	crashID(t, i.post(t, report()))
	server.Stop()
	server.dir = t.TempDir()
	answered := make(chan answer, 1)
	go func() { answered <- i.post(t, report()) }() // waits for a server
	other := startElsewhere(t, server)
	if a := <-answered; a.status != http.StatusServiceUnavailable {
		t.Errorf("answered %d %q, want 503", a.status, a.body)
	}
	stream, err := other.js.Stream(t.Context(), queue.StreamName(0))
	if err != nil || stream.CachedInfo().State.Msgs != 0 {
		t.Errorf("%v, the stream has %+v, want nothing in it", err, stream.CachedInfo().State)
	}
}

// startElsewhere starts a server at the address of another one, with a stream that
// forgets; nobody hears from it before that is so.
func startElsewhere(t *testing.T, m *mortal) *testQueue {
	t.Helper()
	prepared, err := devnats.Start(t.Context(), devnats.Config{Addr: "127.0.0.1:0", Dir: m.dir, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	q := connectQueue(t, prepared.URL())
	q.apply(t)
	q.change(t, "max_age", "3600000000000")
	q.js.Conn().Close()
	prepared.Stop()
	m.start(t)
	return connectQueue(t, m.URL())
}
