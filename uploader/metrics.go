package uploader

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/yagi-crash/yagi/uploader/internal/breaker"
	"github.com/yagi-crash/yagi/uploader/internal/objstore"
)

// What became of one delivery of a report. Every delivery ends in exactly one
// of these.
const (
	resultStored  = "stored"  // in the bucket, and acknowledged
	resultRetried = "retried" // will be redelivered soon
	resultHeld    = "held"    // nothing can be done about it for now; is retried at leisure
	resultDead    = "dead"    // a dead letter, and never comes again
)

// What became of the PUT of one object.
const (
	putStored = "stored"
	putFailed = "failed"
)

// What an error is about, besides the classes of package objstore.
const (
	classQueue      = "queue"       // NATS, a stream or a consumer
	classVersion    = "version"     // a message for a newer release
	classIncomplete = "incomplete"  // a report of which a chunk is missing
	classUnreadable = "unreadable"  // a message that does not say what it holds
	classDamaged    = "damaged"     // a report that is not what intake published
	classSameID     = "same_id"     // another report of the same id was stored at the same time
	classDeadLetter = "dead_letter" // a report that could not be made a dead letter
	classPanic      = "panic"       // a fault of ours
	classGrace      = "grace"       // handed back unfinished when the process ended
)

// metrics are all metrics of this tier, in seconds and bytes.
type metrics struct {
	depth            prometheus.Gauge
	inHand           prometheus.Gauge
	held             prometheus.Gauge
	reserved         prometheus.Gauge
	receivedToStored prometheus.Histogram
	reports          *prometheus.CounterVec
	puts             *prometheus.CounterVec
	probes           *prometheus.CounterVec
	putSeconds       prometheus.Histogram
	putBytes         prometheus.Counter
	streamBytes      *prometheus.GaugeVec
	streamMaxBytes   *prometheus.GaugeVec
	bufferLeft       *prometheus.GaugeVec
	oldest           *prometheus.GaugeVec
	trimmed          prometheus.Counter
	errors           *prometheus.CounterVec
}

func newMetrics() *metrics {
	m := &metrics{
		depth: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "uploader_queue_depth",
			Help: "Reports in the queue that are not stored yet, over all partitions; every uploader says the same.",
		}),
		inHand: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "uploader_in_hand",
			Help: "Reports that workers have in hand, UPLOADER_WORKERS at the most.",
		}),
		held: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "uploader_held_reports",
			Help: "Reports that failed and are set aside, to be retried at leisure; every uploader says the same.",
		}),
		reserved: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "uploader_reserved_bytes",
			Help: "Memory set aside for reports in chunks, UPLOADER_MEMORY_BUDGET at the most.",
		}),
		receivedToStored: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "uploader_received_to_stored_seconds",
			Help:    "From when intake had a report to when it was stored and acknowledged.",
			Buckets: []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 4 * 3600, 24 * 3600},
		}),
		reports: counterVec("uploader_reports_total", "Deliveries of reports, by what became of them.", "result"),
		puts:    counterVec("uploader_puts_total", "PUTs of objects, by what became of them.", "result"),
		probes:  counterVec("uploader_probes_total", "Probes of the bucket after a failed PUT, by what became of them.", "result"),
		putSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "uploader_put_seconds",
			Help:    "Time that the PUT of an object took, failed ones too.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20, 60},
		}),
		putBytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "uploader_put_bytes_total",
			Help: "Bytes of objects that were stored.",
		}),
		streamBytes:    streamGauge("uploader_stream_bytes", "Size of a stream; every uploader says the same."),
		streamMaxBytes: streamGauge("uploader_stream_max_bytes", "Size at which a stream refuses reports."),
		bufferLeft: streamGauge("uploader_stream_buffer_left_seconds",
			"How long a stream can go on taking reports at the rate of the last five minutes if none is uploaded, at a guess."),
		oldest: streamGauge("uploader_stream_oldest_seconds", "For how long the oldest report that is not stored yet has been in a stream; 0 when there is none."),
		trimmed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "uploader_trimmed_messages_total",
			Help: "Messages of stored reports, and strays, that were removed from the streams. Uploaders that do so at the same time count the same ones.",
		}),
		errors: counterVec("uploader_errors_total", "Errors, by what they were about.", "class"),
	}
	// A series that is there from the start shows its first increase.
	zero(m.reports, resultStored, resultRetried, resultHeld, resultDead)
	zero(m.puts, putStored, putFailed)
	zero(m.probes, putStored, putFailed)
	zero(m.errors, append(objstore.Classes(), classQueue, classVersion, classUnreadable, classIncomplete, classDamaged, classSameID, classDeadLetter, classPanic, classGrace)...)
	return m
}

// register shows the metrics in reg.
func (m *metrics) register(reg prometheus.Registerer) {
	reg.MustRegister(m.depth, m.inHand, m.held, m.reserved, m.receivedToStored, m.reports, m.puts, m.probes, m.putSeconds, m.putBytes,
		m.streamBytes, m.streamMaxBytes, m.bufferLeft, m.oldest, m.trimmed, m.errors)
}

// quotaGauge shows how much of max_ack_pending is in use.
func quotaGauge(q *quotas) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "uploader_ack_pending_ratio",
		Help: "Unacknowledged reports as a part of NATS_MAX_ACK_PENDING, from 0 to 1, of the partition where it is largest. At 1 the server delivers nothing new.",
	}, q.share)
}

// breakerGauges show what the breaker does.
func breakerGauges(b *breaker.Breaker) []prometheus.Collector {
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	return []prometheus.Collector{
		gauge("uploader_breaker_open", "1 while the bucket takes nothing and no report is taken from the queue.", func() float64 {
			if b.Err() != nil {
				return 1
			}
			return 0
		}),
		gauge("uploader_concurrency", "How many workers may be at work: UPLOADER_WORKERS, or fewer after the bucket was away or asked for less.",
			func() float64 { return float64(b.Limit()) }),
	}
}

func counterVec(name, help, label string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
}

func streamGauge(name, help string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{"stream"})
}

func zero(vec *prometheus.CounterVec, values ...string) {
	for _, v := range values {
		vec.WithLabelValues(v)
	}
}
