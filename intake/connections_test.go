package intake_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

const alive = "GET /__lbheartbeat__ HTTP/1.1\r\nHost: x\r\n\r\n"

// soon is a deadline for what is served at once: far below every timeout that
// would end the attack by itself.
func (c *conn) soon() *conn {
	c.t.Helper()
	if err := c.SetDeadline(time.Now().Add(8 * time.Second)); err != nil {
		c.t.Fatal(err)
	}
	return c
}

// checkServed posts a report and runs a health check as newcomers.
func checkServed(t *testing.T, i *tier) {
	t.Helper()
	checkHealth(t, i)
	c := i.dial(t).soon()
	c.send(request(len(report())) + report())
	crashID(t, c.answer())
}

func checkHealth(t *testing.T, i *tier) {
	t.Helper()
	c := i.dial(t).soon()
	c.send(alive)
	if a := c.answer(); a.status != 200 {
		t.Errorf("the health check is answered %d", a.status)
	}
}

// awaitLine waits until /metrics has a whole line.
func awaitLine(t *testing.T, i *tier, line string) {
	t.Helper()
	awaitMetric(t, i, "\n"+line+"\n")
}

// A newcomer displaces the connection that was idle the longest.
func TestIdleConnectionsAreEvicted(t *testing.T) {
	t.Parallel()
	i := startIntake(t, startQueue(t).url, "INTAKE_MAX_CONNECTIONS=20")
	idle := make([]*conn, 20)
	for n := range idle {
		idle[n] = i.dial(t).soon()
		idle[n].send(alive)
		idle[n].answer()
	}
	idle[0].send(alive) // 1 is the longest idle now
	idle[0].answer()
	for evicted := 0.0; evicted == 0; { // those idle for a moment stay while there is a reserve
		checkServed(t, i)
		_, page := get(t, "http://"+i.admin+"/metrics")
		evicted = metric(t, page, `intake_connections_evicted_total{state="idle"}`)
	}
	if !idle[1].isClosed() {
		t.Error("the longest idle connection is open")
	}
	for n, kept := range []*conn{idle[0], idle[19]} {
		kept.send(alive)
		if a := kept.answer(); a.status != 200 {
			t.Errorf("connection %d is answered %d", n, a.status)
		}
	}
}

// So do connections on which no request has begun, or whose head is unfinished,
// on their first request or a later one.
func TestUnfinishedHeadsAreEvicted(t *testing.T) {
	t.Parallel()
	i := startIntake(t, startQueue(t).url, "INTAKE_MAX_CONNECTIONS=20")
	for n := range 20 {
		c := i.dial(t).soon()
		switch n % 3 {
		case 1:
			c.send("POST /submit HTTP/1.1\r\nHo")
		case 2:
			c.send(alive)
			c.answer()
			c.send("P")
		}
	}
	awaitLine(t, i, "intake_connections 20")
	for range 3 {
		checkServed(t, i)
	}
}

// sender sends a large report at its leisure, 40 kB a second.
type sender struct {
	*conn

	hurry chan struct{} // closed to have the rest sent
}

func (i *tier) startSender(t *testing.T) sender {
	t.Helper()
	s := sender{i.dial(t), make(chan struct{})}
	body := field("ProductName", "Yagi") + dump("upload_file_minidump", strings.Repeat("MDMP", 1<<18)) + end
	s.send(request(len(body)))
	go func() { // ends with the body or the connection
		beat := time.NewTicker(50 * time.Millisecond)
		defer beat.Stop()
		for n := 0; n < len(body); n += 2000 {
			if _, err := io.WriteString(s, body[n:min(n+2000, len(body))]); err != nil {
				return
			}
			select {
			case <-beat.C:
			case <-s.hurry:
			}
		}
	}()
	return s
}

// A request in progress keeps its connection. While every slot is taken by one,
// health checks are answered, and a report waits for a slot.
func TestFullHouse(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	i := startIntake(t, q.url, "INTAKE_MAX_CONNECTIONS=2")
	busy := []sender{i.startSender(t), i.startSender(t)}
	awaitLine(t, i, "intake_requests_in_flight 2")
	checkHealth(t, i)
	late := i.dial(t).soon()
	late.send(whole(report()))
	if !late.comesNothing() {
		t.Error("a third report is served")
	}
	late.soon()
	checkHealth(t, i)
	close(busy[0].hurry)
	crashID(t, busy[0].answer())
	crashID(t, late.answer())
	close(busy[1].hurry)
	crashID(t, busy[1].answer())
	if got := len(q.stored(t)); got != 3 {
		t.Errorf("%d reports in the stream, want 3", got)
	}
}

// later reads an answer while the test goes on. The zero answer means that there was none.
func (c *conn) later() <-chan answer {
	got := make(chan answer, 1)
	go func() { // ends with the connection
		response, err := http.ReadResponse(c.r, nil)
		if err != nil {
			got <- answer{}
			return
		}
		defer func() { _ = response.Body.Close() }()
		body, _ := io.ReadAll(response.Body)
		got <- answer{response.StatusCode, response.Header, string(body), response.Close}
	}()
	return got
}

// Those who find no slot are told so. Only some may wait for one, so that
// health checks are answered however many come.
func TestFullHouseRefuses(t *testing.T) {
	t.Parallel()
	i := startIntake(t, startQueue(t).url, "INTAKE_MAX_CONNECTIONS=2")
	busy := []sender{i.startSender(t), i.startSender(t)}
	awaitLine(t, i, "intake_requests_in_flight 2")
	var crowd []<-chan answer
	for n := range 60 { // within the reserve: beyond it those are evicted that have their answer
		c := i.dial(t)
		c.send(whole(report()))
		crowd = append(crowd, c.later()) // a client reads at once
		if n%20 == 19 {
			checkHealth(t, i)
		}
	}
	for n, answered := range crowd { // some of them had waited
		if a := <-answered; a.status != 503 || a.body != "Discarded=unavailable" || a.head.Get("Retry-After") == "" || !a.closed {
			t.Errorf("%d is answered %d %q %v, closed %t", n, a.status, a.body, a.head, a.closed)
		}
	}
	for _, c := range busy {
		close(c.hurry)
		crashID(t, c.answer())
	}
	checkServed(t, i)
}

// It costs nothing to announce a body: who sends nothing of it, or next to nothing, takes
// no slot, and is displaced by others.
func TestAnnouncedBodiesAreEvicted(t *testing.T) {
	t.Parallel()
	i := startIntake(t, startQueue(t).url, "INTAKE_MAX_CONNECTIONS=2")
	for n := range 100 {
		i.dial(t).send([]string{
			request(25 << 20),
			request(25<<20) + "--B",
			request(25<<20, "Expect: 100-continue"),
			request(-1, "Transfer-Encoding: chunked") + "ffff",
			strings.Replace(request(-1, "Transfer-Encoding: chunked"), "HTTP/1.1", "HTTP/1.0", 1) + "f",
		}[n%5])
		if n%20 == 19 {
			checkServed(t, i)
		}
	}
	awaitMetric(t, i, `intake_connections_evicted_total{state="announced"} `)
}

// Who sends next to nothing loses its slot to one who waits for it, and is told.
func TestStalledBodyLosesItsSlot(t *testing.T) {
	t.Parallel()
	i := startIntake(t, startQueue(t).url, "INTAKE_MAX_CONNECTIONS=1")
	stalled := i.dial(t).soon()
	stalled.send(request(100_000) + strings.Repeat("-", 600))
	awaitBody(t, i, 600)
	checkServed(t, i)
	if a := stalled.answer(); a.status != 503 || a.body != "Discarded=unavailable" || a.head.Get("Retry-After") == "" || !a.closed {
		t.Errorf("answered %d %q %v, closed %t", a.status, a.body, a.head, a.closed)
	}
}

// What is answered holds no slot while its body is read to its end.
func TestAnsweredRequestsAreEvicted(t *testing.T) {
	t.Parallel()
	i := startIntake(t, startQueue(t).url, "INTAKE_MAX_CONNECTIONS=2")
	for n := range 100 {
		c := i.dial(t).soon()
		c.send(strings.Replace(request(100_000), "/submit", "/x", 1))
		if n%10 == 9 {
			checkServed(t, i)
		}
	}
}

// Unfinished heads are bounded in number, below the limit on connections.
func TestUnfinishedHeadsAreBounded(t *testing.T) {
	t.Parallel()
	i := startIntake(t, startQueue(t).url, "INTAKE_MAX_CONNECTIONS=200") // a tenth and 64: 84
	heads := make([]*conn, 92)
	for n := range heads {
		heads[n] = i.dial(t).soon()
		heads[n].send("POST /submit HTTP/1.1\r\n")
		if n == 83 {
			awaitLine(t, i, "intake_connections 84")
		}
	}
	awaitLine(t, i, `intake_connections_evicted_total{state="head"} 8`)
	heads[91].send(strings.TrimPrefix(whole(report()), "POST /submit HTTP/1.1\r\n"))
	crashID(t, heads[91].answer())
}

// A head of many tiny fields is refused while it arrives: on the first request,
// on a later one, and right after another request's bytes.
func TestTinyFieldsAreRefusedWhileTheyArrive(t *testing.T) {
	t.Parallel()
	i := startIntake(t, startQueue(t).url)
	var tiny strings.Builder
	tiny.WriteString("POST /submit HTTP/1.1\r\nHost: x\r\n")
	for n := range 900 {
		fmt.Fprintf(&tiny, "%x:\n", n)
	}
	first, later, behind := i.dial(t).soon(), i.dial(t).soon(), i.dial(t).soon()
	later.send(alive)
	later.answer()
	behind.send(whole(report()) + tiny.String())
	crashID(t, behind.answer())
	first.send(tiny.String())
	later.send(tiny.String())
	for n, c := range []*conn{first, later, behind} {
		a := c.answer()
		if a.status != 431 || !a.closed {
			t.Errorf("connection %d: answered %d %q, closed %t", n, a.status, a.body, a.closed)
		}
	}
	awaitLine(t, i, `intake_other_requests_total{status="431"} 3`)
}

// A client whose head is half sent at SIGTERM gets to finish it, on a new
// connection and on a kept one. Connections without a request are closed soon.
func TestHalfSentHeadAtTheEnd(t *testing.T) {
	t.Parallel()
	i := startIntake(t, startQueue(t).url)
	idle, unused, fresh, kept := i.dial(t), i.dial(t), i.dial(t), i.dial(t)
	for _, c := range []*conn{idle, kept} {
		c.send(alive)
		c.answer()
	}
	whole := request(len(report())) + report()
	fresh.send(whole[:30])
	kept.send(whole[:2])
	checkHealth(t, i) // both pieces are read by now, or will be in time
	i.stop()
	awaitDraining(t, i)
	if !idle.isClosed() || !unused.isClosed() {
		t.Error("a connection without a request is kept")
	}
	fresh.send(whole[30:])
	kept.send(whole[2:])
	for n, c := range []*conn{fresh, kept} {
		a := c.answer()
		crashID(t, a)
		if !a.closed {
			t.Errorf("connection %d is kept, though nobody listens any more", n)
		}
	}
	if err := i.ended(t, 5*time.Second); err != nil {
		t.Error(err)
	}
}

// A head that is never finished holds up the end no longer than any other.
func TestUnfinishedHeadDoesNotHoldUpTheEnd(t *testing.T) {
	t.Parallel()
	i := startIntake(t, startQueue(t).url, "INTAKE_GRACE=50s", "INTAKE_IDLE_TIMEOUT=10m")
	c := i.dial(t)
	c.send(alive)
	c.answer()
	c.send("P")
	i.stop()
	if err := i.ended(t, 30*time.Second); err != nil {
		t.Error(err)
	}
}

func TestIdleTimeout(t *testing.T) {
	t.Parallel()
	i := startIntake(t, startQueue(t).url, "INTAKE_IDLE_TIMEOUT=100ms")
	c := i.dial(t).soon()
	c.send(alive)
	c.answer()
	if !c.isClosed() {
		t.Error("an idle connection is open after its time")
	}
}
