package intake_test

import (
	"bytes"
	"fmt"
	"sync"
	"testing"

	"github.com/yagi-crash/yagi/pkg/crash"
)

// honest are reports of the usual sizes.
func honest() []string {
	var all []string
	for _, size := range []int{2_000, 400_000, 3_000_000} {
		all = append(all, field("ProductName", "Firefox")+dump(crash.MinidumpName, noise(size))+end)
	}
	return all
}

// checkRoom fails the test if a budget is exceeded.
func checkRoom(t *testing.T, i *tier) {
	t.Helper()
	_, page := get(t, "http://"+i.admin+"/metrics")
	for _, name := range []string{"intake_memory_bytes", "intake_spool_bytes"} {
		if used, limit := metric(t, page, name), metric(t, page, name+"_limit"); used > limit {
			t.Errorf("%s is %.0f, the limit %.0f", name, used, limit)
		}
	}
}

// Clients that announce large reports and send nothing of them cost nobody theirs.
func TestAnnouncementsRefuseNobody(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	i := startIntake(t, q.url, "INTAKE_MEMORY_BUDGET=4MiB", "INTAKE_SPOOL_BUDGET=60MiB", "INTAKE_SPOOL_DIR="+t.TempDir())
	for n := range 200 {
		c := i.dial(t)
		if n%2 == 0 {
			c.send(request(25 << 20))
		} else {
			c.send(request(-1, "Transfer-Encoding: chunked"))
		}
	}
	for range 5 {
		for _, body := range honest() {
			crashID(t, i.post(t, body))
			checkRoom(t, i)
		}
	}
}

// Clients that send most of a large report, and then little or nothing, give their room
// to others and are told so at once.
func TestRoomOfStalledClientsIsReclaimed(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	i := startIntake(t, q.url, "INTAKE_MEMORY_BUDGET=4MiB", "INTAKE_SPOOL_BUDGET=28MiB", "INTAKE_SPOOL_DIR="+t.TempDir())
	stalled := make([]*conn, 12) // of which each wants an eighth of the room
	body := field("ProductName", "Firefox") + dump(crash.MinidumpName, noise(4<<20)) + end
	var clients sync.WaitGroup
	for n := range stalled {
		stalled[n] = i.dial(t)
		clients.Go(func() { // some are told to go before they have sent so much
			_, _ = fmt.Fprint(stalled[n], request(len(body))+body[:3<<20])
		})
	}
	clients.Wait()
	for range 4 {
		for _, body := range honest() {
			crashID(t, i.post(t, body))
			checkRoom(t, i)
		}
	}
	_, page := get(t, "http://"+i.admin+"/metrics")
	told := int(metric(t, page, "intake_bodies_reclaimed_total"))
	if told == 0 {
		t.Fatal("no room was reclaimed")
	}
	answered := make(chan answer, len(stalled))
	for _, c := range stalled {
		go func() {
			if line, err := c.r.Peek(12); err == nil && bytes.HasPrefix(line, []byte("HTTP/1.1 503")) {
				answered <- c.answer()
			}
		}()
	}
	for range told {
		if a := <-answered; a.body != "Discarded=unavailable" || a.head.Get("Retry-After") == "" || !a.closed {
			t.Errorf("answered %d %q %v, closed %t", a.status, a.body, a.head, a.closed)
		}
	}
}
