package intake

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/yagi-crash/yagi/intake/internal/throttle"
	"github.com/yagi-crash/yagi/pkg/telemetry"
)

// adminRoutes is everything that the admin listener answers.
func (s *Server) adminRoutes(admin telemetry.Admin) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /rules", s.rules)
	mux.Handle("/", admin.Handler())
	return mux
}

// rulesPage is what GET /rules on the admin address shows.
type rulesPage struct {
	Source    string          `json:"source"`
	Hash      string          `json:"hash"`
	LoadedAt  time.Time       `json:"loaded_at"`
	LastError *string         `json:"last_error"` // of the file as it is now; null when it is in effect
	Warnings  []string        `json:"warnings"`
	Rules     []throttle.Rule `json:"rules"`
	Limit     *throttle.Limit `json:"limit,omitempty"`
	Shadow    *rulesPage      `json:"shadow,omitempty"`
}

func (l *liveRules) page() rulesPage {
	current := l.current.Load()
	page := rulesPage{
		Source: current.Source(), Hash: current.Hash(), LoadedAt: current.at, LastError: l.failure.Load(),
		Warnings: current.Warnings(), Rules: current.List(),
	}
	if limit, ok := current.Limit(); ok {
		page.Limit = &limit
	}
	return page
}

func (r ruleSets) page() rulesPage {
	page := r.live.page()
	if r.shadow != nil {
		shadow := r.shadow.page()
		page.Shadow = &shadow
	}
	return page
}

// ServeHTTP shows the rules in effect.
func (r ruleSets) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	page := json.NewEncoder(w)
	page.SetEscapeHTML(false) // conditions have < and >
	page.SetIndent("", "  ")
	_ = page.Encode(r.page()) // fails when the reader has gone
}
