package transport

import (
	"slices"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	open    prometheus.Gauge
	evicted *prometheus.CounterVec // by state
	others  *prometheus.CounterVec // by status
}

func newMetrics(reg prometheus.Registerer) *metrics {
	auto := promauto.With(reg)
	m := &metrics{
		open: auto.NewGauge(prometheus.GaugeOpts{
			Name: "intake_connections",
			Help: "Connections of clients that are open, idle ones too; above INTAKE_MAX_CONNECTIONS only while those have a request in progress or are a second old.",
		}),
		evicted: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "intake_connections_evicted_total",
			Help: "Connections closed to admit others, by state (fresh: no byte arrived; head: its head was unfinished; announced: less than 512 bytes of its body had arrived; answered: its body was not read to its end; idle: kept alive).",
		}, []string{"state"}),
		others: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "intake_other_requests_total",
			Help: "Requests that are no reports, by the status of their answer (200, 400, 401, 404, 405, 417, 431, 500, 501, 503, 505, other): health checks, wrong paths and methods, and what is not HTTP.",
		}, []string{"status"}),
	}
	for s := range busy {
		m.evicted.WithLabelValues(s.String())
	}
	for _, status := range append(statuses(), 0) {
		m.others.WithLabelValues(label(status))
	}
	return m
}

// statuses returns those that have a label value of their own.
func statuses() []int { return []int{200, 400, 401, 404, 405, 417, 431, 500, 501, 503, 505} }

// label returns the label value of a status.
func label(status int) string {
	if slices.Contains(statuses(), status) {
		return strconv.Itoa(status)
	}
	return "other"
}

// Count counts a request that is no report by the status of its answer.
func (l *Listener) Count(status int) { l.metrics.others.WithLabelValues(label(status)).Inc() }
