package intake_test

import (
	"io"
	"strings"
	"sync"
	"testing"
	"time"
)

// What other pages there are for the public, and which there are not.
func TestPages(t *testing.T) {
	t.Parallel()
	i := startIntake(t, startQueue(t).url)
	for path, want := range map[string]int{
		"/__lbheartbeat__": 200, "/__heartbeat__": 200, "/__version__": 200, "/__broken__": 404, "/metrics": 404, "/readyz": 404,
	} {
		if status, _ := get(t, "http://"+i.addr+path); status != want {
			t.Errorf("%s: answered %d, want %d", path, status, want)
		}
	}
}

// A client that announces a body and sends none holds no connection for ever,
// whatever it asked for.
func TestBodyThatNeverComesHoldsNothing(t *testing.T) {
	t.Parallel()
	i := startIntake(t, startQueue(t).url, "INTAKE_BODY_STALL=1s")
	var clients sync.WaitGroup
	for name, raw := range map[string]string{
		"wrong type":          request(1000, "Content-Type: text/plain"),
		"wrong type, chunked": request(-1, "Content-Type: text/plain", "Transfer-Encoding: chunked"),
		"wrong type, asking":  request(1000, "Content-Type: text/plain", "Expect: 100-continue"),
		"no such encoding":    request(1000, "Content-Encoding: br"),
		"another path":        strings.Replace(request(1000), "/submit", "/x", 1),
		"another method":      strings.Replace(request(1000), "POST", "PUT", 1),
		"a heartbeat":         strings.Replace(request(1000), "POST /submit", "GET /__lbheartbeat__", 1),
	} {
		c := i.dial(t)
		c.send(raw)
		clients.Go(func() {
			if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
				t.Error(err)
			}
			if _, err := io.Copy(io.Discard, c); err != nil {
				t.Errorf("%s: the connection is still open after 20 s: %v", name, err)
			}
		})
	}
	clients.Wait()
}
