package dockerflow_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/yagi-crash/yagi/pkg/dockerflow"
	"github.com/yagi-crash/yagi/pkg/telemetry"
)

// serve starts a server with the endpoints, and a catch-all as services have.
func serve(t *testing.T, cfg dockerflow.Config) string {
	t.Helper()
	mux := http.NewServeMux()
	dockerflow.Register(mux, cfg)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	server := httptest.NewServer(telemetry.Recover(mux, zerolog.Nop(), nil))
	t.Cleanup(server.Close)
	return server.URL
}

// ask sends one request, with basic auth when auth is not empty, and returns
// the reply with its body read.
func ask(t *testing.T, method, url, auth string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if user, password, ok := strings.Cut(auth, ":"); ok {
		req.SetBasicAuth(user, password)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

func TestReplies(t *testing.T) {
	fine := func(context.Context) error { return nil }
	away := func(context.Context) error { return errors.New(`no "stream"`) }
	build := telemetry.Build{Source: "https://example.org/y", Version: "v1", Commit: "abc", Build: "https://ci/1"}
	healthy := serve(t, dockerflow.Config{Build: build, Checks: []dockerflow.Check{{Name: "nats", Probe: fine}}})
	sick := serve(t, dockerflow.Config{Checks: []dockerflow.Check{
		{Name: "nats", Probe: away}, {Name: "disk", Probe: fine}, {Name: "s3", Probe: away},
	}})
	for _, tt := range []struct {
		url    string
		status int
		body   string
	}{
		{healthy + "/__lbheartbeat__", 200, `{}`},
		{sick + "/__lbheartbeat__", 200, `{}`},
		{healthy + "/__heartbeat__", 200, `{"errors":[]}`},
		{sick + "/__heartbeat__", 503, `{"errors":[{"name":"nats","msg":"no \"stream\""},{"name":"s3","msg":"no \"stream\""}]}`},
		{healthy + "/__version__", 200, `{"source":"https://example.org/y","version":"v1","commit":"abc","build":"https://ci/1"}`},
	} {
		res, body := ask(t, http.MethodGet, tt.url, "")
		if res.StatusCode != tt.status || body != tt.body {
			t.Errorf("%s = %s, %s; want %d, %s", tt.url, res.Status, body, tt.status, tt.body)
		}
		if got := res.Header.Get("Content-Type"); got != "application/json" {
			t.Errorf("%s is %q", tt.url, got)
		}
		head, none := ask(t, http.MethodHead, tt.url, "")
		length := strconv.Itoa(len(tt.body))
		if head.StatusCode != tt.status || none != "" || head.Header.Get("Content-Length") != length || res.Header.Get("Content-Length") != length {
			t.Errorf("HEAD %s = %s, %q, %v", tt.url, head.Status, none, head.Header)
		}
		post, _ := ask(t, http.MethodPost, tt.url, "")
		if post.StatusCode != 405 || post.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("POST %s = %s, Allow %q", tt.url, post.Status, post.Header.Get("Allow"))
		}
	}
}

func TestBroken(t *testing.T) {
	open := serve(t, dockerflow.Config{}) + "/__broken__"
	closed := serve(t, dockerflow.Config{BrokenAuth: "ops:pass:word"}) + "/__broken__"
	colon := serve(t, dockerflow.Config{BrokenAuth: ":"}) + "/__broken__"
	for _, tt := range []struct {
		method, url, auth string
		status            int
	}{
		{http.MethodGet, open, "", 404},
		{http.MethodGet, open, ":", 404},
		{http.MethodPost, open, "", 404},
		{http.MethodGet, closed, "", 401},
		{http.MethodGet, closed, ":", 401},
		{http.MethodGet, closed, "ops:", 401},
		{http.MethodGet, closed, "ops:pass:worD", 401},
		{http.MethodGet, closed, "ops:pass:word", 500},
		{http.MethodPost, closed, "ops:pass:word", 405},
		{http.MethodGet, colon, "", 401},
	} {
		res, _ := ask(t, tt.method, tt.url, tt.auth)
		if res.StatusCode != tt.status {
			t.Errorf("%s with %q = %s, want %d", tt.method, tt.auth, res.Status, tt.status)
		}
		if asked := res.Header.Get("WWW-Authenticate") != ""; asked != (tt.status == 401) {
			t.Errorf("%s with %q: WWW-Authenticate = %q", tt.method, tt.auth, res.Header.Get("WWW-Authenticate"))
		}
	}
}

// A check that hangs, heeding its context or not, is reported by its name
// when the timeout is over, and the others are reported as they are.
func TestHeartbeatIsBounded(t *testing.T) {
	for timeout, want := range map[time.Duration]time.Duration{0: 3 * time.Second, time.Second: time.Second} {
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			mux := http.NewServeMux()
			dockerflow.Register(mux, dockerflow.Config{Timeout: timeout, Checks: []dockerflow.Check{
				{Name: "deaf", Probe: func(context.Context) error { <-release; return nil }},
				{Name: "slow", Probe: func(ctx context.Context) error { <-ctx.Done(); return errors.New("gave up") }},
				{Name: "fine", Probe: func(context.Context) error { return nil }},
				{Name: "panicking", Probe: func(context.Context) error { panic("boom") }},
			}})
			start := time.Now()
			status, body := heartbeat(t.Context(), mux)
			if took := time.Since(start); took != want {
				t.Errorf("the reply took %v, want %v", took, want)
			}
			for _, want := range []string{fmt.Sprintf(`{"name":"deaf","msg":"no answer within %v"}`, want), `{"name":"slow",`, `{"name":"panicking","msg":"checking panicked: boom"}`} {
				if !strings.Contains(body, want) {
					t.Errorf("no %s in %s", want, body)
				}
			}
			if status != 503 || strings.Contains(body, `"fine"`) {
				t.Errorf("reply = %d, %s", status, body)
			}
			close(release)
			synctest.Wait()
		})
	}
}

// However often the heartbeat is asked, a check runs once at a time, whoever
// asked first and left; and once it answers again, so does the heartbeat.
func TestHeartbeatSharesProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		release := make(chan struct{})
		mux := http.NewServeMux()
		dockerflow.Register(mux, dockerflow.Config{Checks: []dockerflow.Check{{Name: "stuck", Probe: func(ctx context.Context) error {
			calls.Add(1)
			select {
			case <-release:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}}}})
		first, leave := context.WithCancel(t.Context())
		go heartbeat(first, mux)
		synctest.Wait()
		replies := make(chan int)
		for range 100 {
			go func() {
				status, _ := heartbeat(t.Context(), mux)
				replies <- status
			}()
		}
		synctest.Wait()
		leave()
		synctest.Wait()
		if got := calls.Load(); got != 1 {
			t.Errorf("101 heartbeats made %d calls", got)
		}
		close(release)
		for range 100 {
			if status := <-replies; status != 200 {
				t.Fatalf("status %d", status)
			}
		}
		if status, _ := heartbeat(t.Context(), mux); status != 200 || calls.Load() != 2 {
			t.Errorf("afterwards: status %d, %d calls", status, calls.Load())
		}
	})
}

// heartbeat asks without a network, which a synctest bubble cannot have.
func heartbeat(ctx context.Context, h http.Handler) (status int, body string) {
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequestWithContext(ctx, http.MethodGet, "/__heartbeat__", http.NoBody))
	return rec.Code, rec.Body.String()
}
