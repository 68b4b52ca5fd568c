package telemetry

import (
	"io"
	"net/http"
	"net/http/pprof"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Admin is the pages that every program serves to its operators and to
// Kubernetes, on an address that clients cannot reach.
type Admin struct {
	// Registry is what /metrics shows.
	Registry *prometheus.Registry
	// Ready returns nil while the program wants new work, and otherwise the
	// reason, which /readyz shows. When Ready is nil the program always does.
	Ready func() error
	// PProf serves /debug/pprof/, which lets whoever reaches it read memory
	// and spend processor time.
	PProf bool
}

// Handler serves GET /metrics, GET /readyz (200 "ready", or 503 and the
// reason) and, if asked to, /debug/pprof/.
func (a Admin) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.Registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /readyz", a.readyz)
	if a.PProf {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return mux
}

func (a Admin) readyz(w http.ResponseWriter, _ *http.Request) {
	if a.Ready != nil {
		if err := a.Ready(); err != nil {
			reply(w, http.StatusServiceUnavailable, err.Error()+"\n")
			return
		}
	}
	reply(w, http.StatusOK, "ready\n")
}

// reply answers with text. Its error is the client's connection breaking,
// which is for the client to notice.
func reply(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}
