package telemetry

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// exchange sends one POST over a connection of its own and returns all that
// comes back until the server closes it, with the events that were logged, by
// net/http too, and the number of panics counted.
func exchange(t *testing.T, handler http.HandlerFunc) (reply, events string, panics int) {
	t.Helper()
	var out bytes.Buffer
	mux := http.NewServeMux()
	mux.HandleFunc("POST /submit/{id}", handler)
	recovering := Recover(mux, zerolog.New(&out), func() { panics++ })
	done := make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(done)
		recovering.ServeHTTP(w, r)
	}))
	server.Config.ErrorLog = log.New(&out, "net/http: ", 0)
	server.Start()
	defer server.Close()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	_, err = io.WriteString(conn, "POST /submit/path-secret?q=query-secret HTTP/1.1\r\n"+
		"Host: header-secret\r\nContent-Length: 11\r\n\r\nbody-secret")
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	<-done
	return string(text), out.String(), panics
}

func TestRecoverAnswers(t *testing.T) {
	reply, events, panics := exchange(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusEarlyHints)
		panic("boom")
	})
	_, reply, _ = strings.Cut(reply, "\r\n\r\n") // what follows the early hints
	res, err := http.ReadResponse(bufio.NewReader(strings.NewReader(reply)), nil)
	if err != nil {
		t.Fatalf("reading %q: %v", reply, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || string(body) != "internal server error\n" || res.StatusCode != 500 || res.ContentLength != 22 {
		t.Errorf("reply = %s, %q, %v", res.Status, body, err)
	}
	if !res.Close || res.Header.Get("Content-Type") != "text/plain; charset=utf-8" || res.Header.Get("Content-Encoding") != "" {
		t.Errorf("closing = %t, header = %v", res.Close, res.Header)
	}
	var event struct{ Level, Route, Panic, Stack, Message string }
	if err := json.Unmarshal([]byte(events), &event); err != nil {
		t.Fatalf("reading %q: %v", events, err)
	}
	if event.Level != "error" || event.Route != "POST /submit/{id}" || event.Panic != "boom" || event.Message == "" {
		t.Errorf("event = %+v", event)
	}
	if !strings.Contains(event.Stack, "TestRecoverAnswers.func1") {
		t.Errorf("the stack does not show who panicked:\n%s", event.Stack)
	}
	for _, secret := range []string{"path-secret", "query-secret", "header-secret", "body-secret", "127.0.0.1"} {
		if strings.Contains(events, secret) {
			t.Errorf("the log has %s:\n%s", secret, events)
		}
	}
	if panics != 1 {
		t.Errorf("%d panics counted", panics)
	}
}

// Half a reply must look like one: it has no end, and the connection closes.
func TestRecoverCutsStartedReply(t *testing.T) {
	for name, start := range map[string]func(w http.ResponseWriter){
		"write":  func(w http.ResponseWriter) { _, _ = io.WriteString(w, strings.Repeat("x", 5000)) },
		"status": func(w http.ResponseWriter) { w.WriteHeader(http.StatusOK) },
		"flush":  func(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() },
	} {
		t.Run(name, func(t *testing.T) {
			reply, events, panics := exchange(t, func(w http.ResponseWriter, _ *http.Request) {
				start(w)
				panic("boom")
			})
			if strings.Contains(reply, "internal server error") || strings.Contains(reply, "\r\n0\r\n") {
				t.Errorf("reply = %q", reply)
			}
			if strings.Count(events, "\n") != 1 || panics != 1 {
				t.Errorf("%d panics counted, logged:\n%s", panics, events)
			}
		})
	}
}

func TestRecoverPassesAbortThrough(t *testing.T) {
	reply, events, panics := exchange(t, func(http.ResponseWriter, *http.Request) {
		panic(http.ErrAbortHandler)
	})
	if reply != "" || events != "" || panics != 0 {
		t.Errorf("reply %q, log %q, %d panics counted", reply, events, panics)
	}
}

func TestRecoverAfterHijack(t *testing.T) {
	reply, events, panics := exchange(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "mine")
		panic("boom")
	})
	if reply != "mine" || strings.Count(events, "\n") != 1 || panics != 1 {
		t.Errorf("reply %q, log %q, %d panics counted", reply, events, panics)
	}
}
