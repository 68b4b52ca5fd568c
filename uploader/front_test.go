package uploader

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
)

// front stands between an uploader and the S3 server: it notes every PUT in the
// order in which they come, and can be slow, or gone.
type front struct {
	tb     testing.TB
	addr   string
	proxy  *httputil.ReverseProxy
	server *http.Server

	mu      sync.Mutex
	meddle  func(*http.Request) // called before a PUT goes on; may be nil
	refuse  func(key string) *refusalOf
	others  *refusalOf // what is answered to other methods than PUT, if anything
	lose    func(key string) bool
	arrived []string // keys, as their PUTs come
	done    []string // keys, as their PUTs are answered with 200
}

// newFront opens a front and has the world's uploaders go through it.
func (w *world) newFront() *front {
	w.tb.Helper()
	target, err := url.Parse(endpoint)
	must(w.tb, err)
	f := &front{tb: w.tb, addr: "127.0.0.1:0"}
	f.proxy = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // the signature covers it
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	f.open()
	w.tb.Cleanup(f.close)
	w.cfg.S3.Endpoint = "http://" + f.addr
	return f
}

// open listens, at the same address each time.
func (f *front) open() {
	f.tb.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(context.WithoutCancel(f.tb.Context()), "tcp", f.addr)
	must(f.tb, err)
	f.addr = l.Addr().String()
	server := &http.Server{Handler: f}
	f.server = server
	go func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			f.tb.Error(err)
		}
	}() // ends with close
}

// close stops listening and cuts every connection.
func (f *front) close() { _ = f.server.Close() }

func (f *front) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPut {
		f.mu.Lock()
		no := f.others
		f.mu.Unlock()
		if no != nil {
			no.answer(rw)
			return
		}
		f.proxy.ServeHTTP(rw, r)
		return
	}
	_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	f.mu.Lock()
	f.arrived = append(f.arrived, key)
	meddle, refuse, lose := f.meddle, f.refuse, f.lose
	f.mu.Unlock()
	if meddle != nil {
		meddle(r)
	}
	if refuse != nil {
		if no := refuse(key); no != nil {
			_, _ = io.Copy(io.Discard, r.Body)
			no.answer(rw)
			return
		}
	}
	if lose != nil && lose(key) {
		f.proxy.ServeHTTP(httptest.NewRecorder(), r)
		if strings.Contains(key, "dump") { // of the others nothing is answered at all
			rw.Header().Set("Content-Length", "1")
			rw.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(rw).Flush()
		}
		panic(http.ErrAbortHandler)
	}
	status := &statusWriter{ResponseWriter: rw}
	f.proxy.ServeHTTP(status, r)
	if status.code == http.StatusOK {
		f.mu.Lock()
		f.done = append(f.done, key)
		f.mu.Unlock()
	}
}

// onPut has every later PUT call meddle first.
func (f *front) onPut(meddle func(*http.Request)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.meddle = meddle
}

// refusalOf is an answer of a store that does not take an object.
type refusalOf struct {
	status int
	code   string
}

func (no *refusalOf) answer(rw http.ResponseWriter) {
	rw.WriteHeader(no.status)
	_, _ = fmt.Fprintf(rw, "<Error><Code>%s</Code></Error>", no.code)
}

// onOthers has every later request that is no PUT refused, unless no is nil.
func (f *front) onOthers(no *refusalOf) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.others = no
}

// onKey has every later PUT refused for which refuse returns something.
func (f *front) onKey(refuse func(key string) *refusalOf) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refuse = refuse
}

// onAnswer has the answer to every later PUT lost for which lose is true: the
// store has the object, and the connection breaks, before the answer or behind its
// head.
func (f *front) onAnswer(lose func(key string) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lose = lose
}

// hold keeps every later PUT waiting until release is called.
func (f *front) hold() (release func()) {
	held := make(chan struct{})
	f.onPut(func(r *http.Request) {
		select {
		case <-held:
		case <-r.Context().Done():
		}
	})
	release = sync.OnceFunc(func() { close(held) })
	f.tb.Cleanup(release)
	return release
}

// came lists the keys whose PUTs came, in order.
func (f *front) came() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.arrived)
}

// went lists the keys whose PUTs were answered well, in order.
func (f *front) went() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.done)
}

type statusWriter struct {
	http.ResponseWriter

	code int
}

func (w *statusWriter) WriteHeader(code int) {
	w.code = code
	w.ResponseWriter.WriteHeader(code)
}
