package intake

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/yagi-crash/yagi/intake/internal/spool"
	"github.com/yagi-crash/yagi/pkg/crash"
)

// Results of a post of a report. Every one ends in exactly one of them, so
// their sum is the number of requests answered.
const (
	resultQueued   = "queued"   // CrashID, and the stream has it
	resultFaked    = "faked"    // CrashID, and nothing is stored on purpose
	resultRejected = "rejected" // a rule discarded it
	resultRefused  = "refused"  // see the reason
)

// metrics is every metric of this tier. Sizes are bytes, times are seconds.
type metrics struct {
	reports  *prometheus.CounterVec // by result, reason
	bytes    prometheus.Counter
	requests prometheus.Gauge
	seconds  *prometheus.HistogramVec // by result
	size     prometheus.Histogram
	attempts *prometheus.CounterVec // by answer
	publish  prometheus.Histogram
	inflight prometheus.Gauge
	lost     prometheus.Counter
	panics   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, inflightLimit int64) *metrics {
	auto := promauto.With(reg)
	m := &metrics{
		reports: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "intake_reports_total",
			Help: "Posts of reports that were answered, by result (queued, faked, rejected, refused) and, where refused, by reason.",
		}, []string{"result", "reason"}),
		bytes: auto.NewCounter(prometheus.CounterOpts{
			Name: "intake_request_body_bytes_total",
			Help: "Bytes of request bodies as they arrived, before decompression: what intake is scaled by.",
		}),
		requests: auto.NewGauge(prometheus.GaugeOpts{
			Name: "intake_requests_in_flight", Help: "Posts of reports that are not answered yet.",
		}),
		seconds: auto.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "intake_request_seconds",
			Help:    "Time from a request's headers to its answer, by result.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20, 40, 60, 120},
		}, []string{"result"}),
		size: auto.NewHistogram(prometheus.HistogramOpts{
			Name:    "intake_report_bytes",
			Help:    "Size of accepted reports on the wire.",
			Buckets: prometheus.ExponentialBuckets(16<<10, 2, 12),
		}),
		attempts: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "intake_publish_attempts_total",
			Help: "Messages sent to the queue, by what came of it (stored, again, full, too_large, refused).",
		}, []string{"answer"}),
		publish: auto.NewHistogram(prometheus.HistogramOpts{
			Name:    "intake_publish_seconds",
			Help:    "Time that a report was offered to the queue, over all attempts.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20},
		}),
		inflight: auto.NewGauge(prometheus.GaugeOpts{
			Name: "intake_publish_inflight_bytes", Help: "Bytes on their way to the queue.",
		}),
		lost: auto.NewCounter(prometheus.CounterOpts{
			Name: "intake_acknowledged_lost_total",
			Help: "Messages that the queue had acknowledged and has no more, at the least, as its sequences tell that go back.",
		}),
		panics: auto.NewCounter(prometheus.CounterOpts{
			Name: "intake_panics_total", Help: "Requests that ended in a panic.",
		}),
	}
	auto.NewGauge(prometheus.GaugeOpts{
		Name: "intake_publish_inflight_bytes_limit", Help: "INTAKE_PUBLISH_INFLIGHT_BYTES.",
	}).Set(float64(inflightLimit))
	m.preset()
	return m
}

// showRoom shows how much of the store is in use, and how much there is.
func showRoom(reg prometheus.Registerer, store *spool.Store) {
	auto := promauto.With(reg)
	gauge := func(name, help string, value func() int64) {
		auto.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(value()) })
	}
	gauge("intake_memory_bytes", "Memory that reports lie in.", func() int64 { n, _ := store.Usage(); return n })
	gauge("intake_spool_bytes", "Bytes of the spool file that reports lie in.", func() int64 { _, n := store.Usage(); return n })
	auto.NewCounterFunc(prometheus.CounterOpts{
		Name: "intake_bodies_reclaimed_total",
		Help: "Bodies that were given up before they had arrived, with 503, because they held room for long that others needed.",
	}, func() float64 { return float64(store.Reclaimed()) })
	memory, file := store.Size()
	gauge("intake_memory_bytes_limit", "INTAKE_MEMORY_BUDGET.", func() int64 { return memory })
	gauge("intake_spool_bytes_limit", "INTAKE_SPOOL_BUDGET, or 0 where there could be no file.", func() int64 { return file })
}

// preset makes every series exist from the start, so that a first refusal
// counts as an increase.
func (m *metrics) preset() {
	for _, result := range []string{resultQueued, resultFaked, resultRejected} {
		m.reports.WithLabelValues(result, "")
	}
	for _, reason := range crash.Reasons() {
		m.reports.WithLabelValues(resultRefused, string(reason))
	}
	for _, a := range answers() {
		m.attempts.WithLabelValues(string(a))
	}
}

// publishing is deferred around a publish that began at start.
func (m *metrics) publishing(start time.Time) { m.publish.Observe(time.Since(start).Seconds()) }
