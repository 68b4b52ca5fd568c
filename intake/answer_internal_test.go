package intake

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/telemetry"
)

// Without a token nobody is a submitter, not even who sends none.
func TestNoTokenIsNobodys(t *testing.T) {
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/submit", http.NoBody)
	r.Header.Set("Authorization", "Bearer ")
	if (&receiver{}).isSubmitter(r) {
		t.Error("an empty token is taken where none is set")
	}
}

// faulty is a publisher with a fault of ours.
type faulty struct{}

func (faulty) Publish(context.Context, *crash.Sealed) error { panic("a fault") }

// A panic is an answer too, and is counted like any other.
func TestPanicIsAnsweredAndCounted(t *testing.T) {
	m := newMetrics(prometheus.NewRegistry(), 1)
	cfg, err := Load([]string{"NATS_URL=nats://127.0.0.1:1", "INTAKE_SPOOL_BUDGET=0"})
	if err != nil {
		t.Fatal(err)
	}
	rules, err := newRuleSets(cfg, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	store, err := openStore(cfg, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	handler := &submit{
		receiver: (&Server{cfg: cfg, rules: rules, store: store}).receiver(faulty{}),
		pace:     pace{stall: time.Second, window: time.Minute}, metrics: m, log: zerolog.Nop(),
		draining: &atomic.Bool{},
	}
	server := httptest.NewServer(telemetry.Recover(handler, zerolog.Nop(), m.panics.Inc))
	defer server.Close()
	body := "--B\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--B--\r\n"
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "multipart/form-data; boundary=B")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusInternalServerError {
		t.Errorf("answered %d, want 500", response.StatusCode)
	}
	counted := testutil.ToFloat64(m.reports.WithLabelValues(resultRefused, string(crash.ReasonInternal)))
	if panics := testutil.ToFloat64(m.panics); counted != 1 || panics != 1 {
		t.Errorf("counted %v refused and %v panics, want one of each", counted, panics)
	}
	if left := testutil.ToFloat64(m.requests); left != 0 {
		t.Errorf("%v requests are in flight still", left)
	}
}
