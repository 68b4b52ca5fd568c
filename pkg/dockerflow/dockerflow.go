// Package dockerflow serves the endpoints by which Mozilla's operators know a
// service (https://github.com/mozilla-services/Dockerflow#containerized-app-requirements):
//
//	/__lbheartbeat__  200 while the process answers at all; for load balancers
//	/__heartbeat__    200, or 503 when a service behind this one is in trouble
//	/__version__      which build is running
//	/__broken__       panics on purpose, to try the error reporting; behind
//	                  basic auth, and absent unless that is configured
//
// All answer GET and HEAD.
package dockerflow

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/yagi-crash/yagi/pkg/settings"
	"github.com/yagi-crash/yagi/pkg/telemetry"
)

// defaultTimeout is less than what load balancers and Kubernetes are usually
// told to wait for a heartbeat, 10 s, and than crashctl status waits.
const defaultTimeout = 3 * time.Second

// Config is what the endpoints need to know of a service.
type Config struct {
	// Build is what /__version__ shows.
	Build telemetry.Build
	// Checks are the services behind this one, asked at every heartbeat.
	Checks []Check
	// Timeout is how long a heartbeat waits for its checks; 0 means 3 s.
	Timeout time.Duration
	// BrokenAuth is "user:password" for /__broken__, which is 404 when this is
	// empty.
	BrokenAuth settings.Secret
}

// Paths returns the paths of the endpoints.
func Paths() []string {
	return []string{"/__lbheartbeat__", "/__heartbeat__", "/__version__", "/__broken__"}
}

// Register adds the endpoints to mux. It panics when mux has one of them
// already. /__broken__ counts on the handler around mux to recover.
func Register(mux *http.ServeMux, cfg Config) {
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	mux.Handle("/__lbheartbeat__", readOnly(lbheartbeat))
	mux.Handle("/__heartbeat__", readOnly(newHeartbeat(cfg.Checks, cfg.Timeout).serve))
	mux.Handle("/__version__", readOnly(version(cfg.Build)))
	mux.Handle("/__broken__", broken(cfg.BrokenAuth))
}

// readOnly refuses what is neither GET nor HEAD. A method in the mux pattern
// would not do: a handler at "/" would then get such requests.
func readOnly(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		next(w, r)
	})
}

func lbheartbeat(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, struct{}{})
}

func version(build telemetry.Build) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, build)
	}
}

func broken(auth settings.Secret) http.Handler {
	if auth == "" {
		return http.NotFoundHandler()
	}
	want := sha256.Sum256([]byte(auth.Reveal()))
	return readOnly(func(w http.ResponseWriter, r *http.Request) {
		user, password, ok := r.BasicAuth()
		// Digests, because comparing texts would tell their length.
		got := sha256.Sum256([]byte(user + ":" + password))
		if !ok || subtle.ConstantTimeCompare(got[:], want[:]) == 0 {
			w.Header().Set("WWW-Authenticate", `Basic realm="yagi", charset="UTF-8"`)
			http.Error(w, "unauthorized", http.StatusUnauthorized)
			return
		}
		panic("/__broken__ was asked for")
	})
}

// reply answers with body as JSON. It panics when body cannot be JSON, which
// no body here is. An error in writing is the client's connection breaking,
// which is for the client to notice.
func reply(w http.ResponseWriter, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		panic(fmt.Sprintf("dockerflow: encoding a reply: %v", err))
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	_, _ = w.Write(text)
}
