package intake_test

import (
	"strings"
	"testing"
	"time"

	"github.com/yagi-crash/yagi/intake"
)

// At SIGTERM what is in hand is finished and promised, and nothing new begins.
func TestStopFinishesWhatIsInHand(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	i := startIntake(t, q.url)
	slow := i.dial(t)
	slow.send(request(len(report())) + report()[:20])
	awaitInFlight(t, i)
	i.stop()
	awaitDraining(t, i)
	slow.send(report()[20:])
	a := slow.answer()
	crashID(t, a)
	if !a.closed {
		t.Error("the connection is kept, though nobody listens any more")
	}
	if err := i.ended(t, 5*time.Second); err != nil {
		t.Error(err)
	}
	if got := len(q.stored(t)); got != 1 {
		t.Errorf("%d reports in the stream, want 1", got)
	}
}

func awaitInFlight(t *testing.T, i *tier) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		if _, page := get(t, "http://"+i.admin+"/metrics"); strings.Contains(page, "intake_requests_in_flight 1") {
			return
		}
	}
	t.Fatal("the request is not in hand after 10 s")
}

func awaitDraining(t *testing.T, i *tier) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		if status, body := get(t, "http://"+i.admin+"/readyz"); status == 503 && strings.Contains(body, "draining") {
			return
		}
	}
	t.Fatal("not draining after 10 s")
}

// A lame duck is unready, and still accepts what load balancers send it.
func TestLameDuckStillAccepts(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	i := startIntake(t, q.url, "INTAKE_LAME_DUCK=2s")
	if status, _ := get(t, "http://"+i.admin+"/readyz"); status != 200 {
		t.Errorf("readyz %d", status)
	}
	i.stop()
	awaitDraining(t, i)
	a := i.post(t, report())
	crashID(t, a)
	if !a.closed {
		t.Error("a lame duck keeps connections")
	}
	if err := i.ended(t, 5*time.Second); err != nil {
		t.Error(err)
	}
}

// What a proxy sends on a connection that it has kept is answered.
func TestLameDuckServesKeptConnections(t *testing.T) {
	t.Parallel()
	i := startIntake(t, startQueue(t).url, "INTAKE_LAME_DUCK=2s")
	c := i.dial(t)
	c.send(request(len(report())) + report())
	crashID(t, c.answer())
	i.stop()
	awaitDraining(t, i)
	c.send(request(len(report())) + report())
	crashID(t, c.answer())
}

// A connection that a browser has opened in advance does not hold up the end.
func TestUnusedConnectionDoesNotHoldUpTheEnd(t *testing.T) {
	t.Parallel()
	i := startIntake(t, startQueue(t).url)
	i.dial(t)
	i.post(t, report())
	i.stop()
	if err := i.ended(t, 4*time.Second); err != nil {
		t.Error(err)
	}
}

// A client that never ends does not keep intake for ever.
func TestGraceEnds(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	i := startIntake(t, q.url, "INTAKE_GRACE=300ms")
	stuck := i.dial(t)
	stuck.send(request(1000) + "x")
	awaitInFlight(t, i)
	i.stop()
	if err := i.ended(t, 5*time.Second); err == nil || !strings.Contains(err.Error(), "300ms") {
		t.Errorf("got %v, want an error that names the grace period", err)
	}
}

func TestEverySettingProblemIsReportedAtOnce(t *testing.T) {
	t.Parallel()
	_, err := intake.Load([]string{
		"INTAKE_MAX_BODY=many", "INTAKE_PUBLISH_TIMEOUT=3m", "INTAKE_LAME_DUCK=-1s", "INTAKE_THROTTLE_RULES=none", "NATS_REPLICAS=2", "LOG_LEVEL=loud",
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, name := range []string{"NATS_URL", "INTAKE_MAX_BODY", "INTAKE_PUBLISH_TIMEOUT", "INTAKE_LAME_DUCK", "INTAKE_THROTTLE_RULES", "NATS_REPLICAS", "LOG_LEVEL"} {
		if !strings.Contains(err.Error(), name+":") {
			t.Errorf("%s is not named in:\n%v", name, err)
		}
	}
}

// A setting that would overflow a sum somewhere is refused.
func TestHugeSettingsAreRefused(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"INTAKE_MAX_BODY", "INTAKE_MAX_INFLATED", "INTAKE_MAX_JSON", "INTAKE_MAX_HEADER_BYTES", "INTAKE_MEMORY_BUDGET",
		"INTAKE_SPOOL_BUDGET", "INTAKE_PUBLISH_INFLIGHT_BYTES", "INTAKE_MAX_CONNECTIONS",
	} {
		if _, err := intake.Load([]string{"NATS_URL=nats://127.0.0.1", name + "=9223372036854775807"}); err == nil || !strings.Contains(err.Error(), name+":") {
			t.Errorf("%s: %v, want an error that names it", name, err)
		}
	}
}

func TestLimitsAreAboveZero(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"INTAKE_MAX_CONNECTIONS", "INTAKE_MAX_HEADER_BYTES", "INTAKE_MAX_HEADER_FIELDS"} {
		if _, err := intake.Load([]string{"NATS_URL=nats://127.0.0.1", name + "=0"}); err == nil || !strings.Contains(err.Error(), name+":") {
			t.Errorf("%s=0: %v, want an error that names it", name, err)
		}
	}
}

func TestMetricsCountEveryAnswer(t *testing.T) {
	t.Parallel()
	i := startIntake(t, startQueue(t).url)
	crashID(t, i.post(t, report()))
	i.post(t, end)
	_, page := get(t, "http://"+i.admin+"/metrics")
	for _, line := range []string{
		`intake_reports_total{reason="",result="queued"} 1`,
		`intake_reports_total{reason="malformed_no_annotations",result="refused"} 1`,
		`intake_reports_total{reason="too_large",result="refused"} 0`,
		`intake_publish_attempts_total{answer="stored"} 1`,
		"intake_publish_inflight_bytes 0",
		"intake_request_body_bytes_total 2", // ...
	} {
		if !strings.Contains(page, line) {
			t.Errorf("no %s in /metrics", line)
		}
	}
}
