package intake

import (
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/yagi-crash/yagi/intake/internal/transport"
	"github.com/yagi-crash/yagi/pkg/dockerflow"
	"github.com/yagi-crash/yagi/pkg/telemetry"
)

// router answers everything on the public address. It never redirects: crash clients
// take a redirect for success, and the report would be lost.
type router struct {
	paths  []submitPath
	submit http.Handler
	pages  http.Handler // Dockerflow's
	count  func(status int)
}

// ServeHTTP implements http.Handler.
func (h *router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	isPage := slices.Contains(dockerflow.Paths(), r.URL.Path)
	path := -1
	if !isPage {
		path = h.find(r.URL.Path)
	}
	if path >= 0 && r.Method == http.MethodPost {
		r.Pattern = http.MethodPost + " " + h.paths[path].String() // for the log of a panic
		h.submit.ServeHTTP(w, r)
		return
	}
	counted := &statusWriter{ResponseWriter: w, status: http.StatusOK}
	defer func() { h.count(counted.status) }()
	switch {
	case r.RequestURI == "*": // HTTP/2's preface, and OPTIONS
		plain(counted, http.StatusBadRequest, "")
	case isPage:
		h.pages.ServeHTTP(counted, r)
	case path >= 0:
		w.Header().Set("Allow", http.MethodPost)
		plain(counted, http.StatusMethodNotAllowed, "Method Not Allowed\n")
	default:
		plain(counted, http.StatusNotFound, "404 page not found\n")
	}
}

// find returns the index of a pattern that stands for a request's path, or -1.
func (h *router) find(path string) int {
	if !strings.HasPrefix(path, "/") { // "*", or none after a host
		return -1
	}
	have := segments(path)
	if slices.Contains(have, ".") || slices.Contains(have, "..") { // of which somebody in front may make another path
		return -1
	}
	return slices.IndexFunc(h.paths, func(p submitPath) bool { return p.match(have) })
}

// plain answers in text that has nothing of the request.
func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	if status == http.StatusBadRequest {
		w.Header().Set("Connection", "close")
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text) // a client that is gone is told nothing
}

// statusWriter knows the status of an answer.
type statusWriter struct {
	http.ResponseWriter

	status int
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// framed sees to what net/http has no setting for: a body that no handler asks for
// is read by net/http itself, and must not be waited for without end; and a
// connection is closed after a request that somebody in front may frame otherwise,
// so that nothing hides in it, and while draining.
func (s *Server) framed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn := transport.Of(r.Context())
		chunked, old := r.ContentLength < 0, !r.ProtoAtLeast(1, 1)
		if !old { // in HTTP/1.0 net/http does not see a chunked body
			conn.Body(r.ContentLength)
		}
		if chunked || old || conn.Ambiguous() || r.Method == http.MethodConnect || s.draining.Load() {
			w.Header().Set("Connection", "close")
		}
		if r.Body != http.NoBody {
			// Fails on a connection that is gone, which the next read tells.
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(headerTimeout))
		}
		next.ServeHTTP(w, r)
		conn.Answered()
	})
}

// routes is everything that the public listener answers.
func (s *Server) routes(q *jetStreamQueue, build telemetry.Build, m *metrics, count func(status int)) (http.Handler, error) {
	paths, err := parseSubmitPaths(s.cfg.SubmitPaths)
	if err != nil {
		return nil, err
	}
	pages := http.NewServeMux()
	dockerflow.Register(pages, dockerflow.Config{Build: build, BrokenAuth: s.cfg.BrokenAuth, Checks: s.checks(q)})
	return &router{
		paths: paths, count: count,
		submit: telemetry.Recover(s.submit(q, m), s.log, m.panics.Inc),
		pages:  telemetry.Recover(pages, s.log, m.panics.Inc),
	}, nil
}
