package uploader

import (
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestAdminPages(t *testing.T) {
	t.Parallel()
	r := newWorld(t, 1).run(nil)
	r.heartbeat()
	for path, want := range map[string]struct {
		status int
		text   string
	}{
		"/readyz":            {http.StatusOK, "ready"},
		"/metrics":           {http.StatusOK, "\nuploader_queue_depth 0\n"},
		"/__lbheartbeat__":   {http.StatusOK, ""},
		"/__version__":       {http.StatusOK, `"commit"`},
		"/__broken__":        {http.StatusNotFound, ""}, // nobody was named
		"/debug/pprof/":      {http.StatusNotFound, ""}, // not asked for
		"/something/unknown": {http.StatusNotFound, ""},
	} {
		if status, page := r.get(path); status != want.status || !strings.Contains(page, want.text) {
			t.Errorf("%s is %d %.200q, want %d with %q", path, status, page, want.status, want.text)
		}
	}
}

// Metrics are named as Prometheus asks for, and each series is there from the
// start.
func TestMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	newMetrics().register(reg)
	problems, err := testutil.GatherAndLint(reg)
	must(t, err)
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	for name, want := range map[string]int{
		"uploader_queue_depth": 1, "uploader_in_hand": 1, "uploader_received_to_stored_seconds": 1,
		"uploader_reports_total": 4, "uploader_puts_total": 2, "uploader_put_seconds": 1,
		"uploader_put_bytes_total": 1, "uploader_errors_total": 22, "uploader_probes_total": 2,
	} {
		got, err := testutil.GatherAndCount(reg, name)
		must(t, err)
		if got != want {
			t.Errorf("%s has %d series, want %d", name, got, want)
		}
	}
}
