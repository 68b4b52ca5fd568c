//go:build faults

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/yagi-crash/yagi/deploy/internal/queuestatus"
	"github.com/yagi-crash/yagi/pkg/queue"
)

// largestDump is the largest object, in bytes, that limiter lets pass below v1/dump/.
const largestDump = 50_000

// limiter stands before the bucket as a proxy does whose limit for bodies is too low, and
// that says so with 400. open lets everything pass.
type limiter struct {
	proxy *httputil.ReverseProxy
	open  atomic.Bool
}

// limit starts one and returns its URL.
func limit(t *testing.T) (*limiter, string) {
	t.Helper()
	target, err := url.Parse(suite.s3.Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	l := &limiter{proxy: &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host // the signature covers it
	}}}
	server := httptest.NewServer(l)
	t.Cleanup(server.Close)
	return l, server.URL
}

// ServeHTTP implements http.Handler.
func (l *limiter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if l.open.Load() || r.ContentLength <= largestDump || !strings.Contains(r.URL.Path, "/v1/dump/") {
		l.proxy.ServeHTTP(w, r)
		return
	}
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(http.StatusBadRequest)
	_, _ = io.WriteString(w, "<Error><Code>InvalidRequest</Code></Error>")
}

// More reports are refused than may be unacknowledged, and then more are of a newer
// format: those after them are stored, status and heartbeat say what is wrong, and what
// was refused is stored once it is accepted.
func TestRefusedReportsStopNoUploader(t *testing.T) {
	proxy, address := limit(t)
	s := startSystem(t, "AWS_ENDPOINT_URL_S3="+address, "UPLOADER_RETRY_MAX=2s")
	refused, good := newLedger(), newLedger()
	c := newClient(s.url, 1, 0)
	const many = 1010 // ten times as many as may be unacknowledged here
	for range many {
		refused.post(t, c, c.dump(largestDump+10_000))
	}
	for range 55 {
		good.post(t, c, c.dump(5_000))
	}
	began := time.Now()
	good.audit(t, s.bucket, time.Minute)
	t.Logf("55 reports after %d refused ones are stored after %v", many, time.Since(began).Round(time.Millisecond))
	ops := s.jetStream(t)
	s.awaitWork(t, "refused reports")
	js := s.publisher(t)
	for range many {
		_, msg := readyMessage(t, c.dump(1_000))
		msg.Header.Set(queue.HeaderFormat, "2")
		if _, err := js.PublishMsg(t.Context(), msg); err != nil {
			t.Fatal(err)
		}
	}
	more := newLedger()
	for range 55 {
		more.post(t, c, c.dump(5_000))
	}
	began = time.Now()
	more.audit(t, s.bucket, time.Minute)
	t.Logf("55 reports after %d of a newer format are stored after %v", many, time.Since(began).Round(time.Millisecond))
	s.awaitWork(t, "reports of a newer format")
	if found := s.status(t); !strings.Contains(strings.Join(found.Attention, "\n"), "held: they failed") {
		t.Errorf("crashctl status says %q", found.Attention)
	}
	proxy.open.Store(true)
	held, err := queue.HeldReports(t.Context(), ops, queue.StreamName(0))
	if err != nil || len(held) < many {
		t.Errorf("%d reports are held, error %v; want those of a newer format at least", len(held), err)
	}
}

// awaitWork waits until the uploader's heartbeat says that not every report is stored.
func (s *system) awaitWork(t *testing.T, because string) {
	t.Helper()
	eventually(t, "waiting for an unhealthy heartbeat: "+because, 30*time.Second, func() error {
		status, page := s.page(t, s.uploaderURL+"/__heartbeat__")
		if status != http.StatusServiceUnavailable || !strings.Contains(page, `"name":"work"`) {
			return fmt.Errorf("status %d, %s", status, page)
		}
		return nil
	})
}

// status is what crashctl status says.
func (s *system) status(t *testing.T) *queuestatus.Status {
	t.Helper()
	return queuestatus.Read(t.Context(), s.jetStream(t), s.config(), queuestatus.Question{})
}
