package intake

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/yagi-crash/yagi/intake/internal/throttle"
)

// rulesMetrics is what is counted about a set of rules. Its series are those of
// the rules in effect: a file bounds their number.
type rulesMetrics struct {
	verdicts *prometheus.CounterVec // by rule, verdict
	errors   *prometheus.CounterVec // by rule
	failed   prometheus.Gauge
	loads    *prometheus.CounterVec // by result
	info     *prometheus.GaugeVec   // by source, hash

	counted map[throttle.Ruling]bool // the series of verdicts that there are
}

// Results of a load of rules.
const (
	loadLoaded  = "loaded"
	loadRefused = "refused"
)

// rulesMetricNames are what the metrics of a set of rules are called.
type rulesMetricNames struct{ rules, verdicts, errors, failed, loads, info string }

// liveNames are the names for the rules that decide.
func liveNames() rulesMetricNames {
	return rulesMetricNames{
		rules: "throttle rule", verdicts: "intake_rule_verdicts_total", errors: "intake_rule_errors_total",
		failed: "intake_rules_load_failed", loads: "intake_rules_loads_total", info: "intake_rules_info",
	}
}

// shadowNames are the names for the rules that are only tried out.
func shadowNames() rulesMetricNames {
	return rulesMetricNames{
		rules: "shadow rule", verdicts: "intake_shadow_verdicts_total", errors: "intake_shadow_errors_total",
		failed: "intake_shadow_load_failed", loads: "intake_shadow_loads_total", info: "intake_shadow_info",
	}
}

func newRulesMetrics(n rulesMetricNames) *rulesMetrics {
	m := &rulesMetrics{
		verdicts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: n.verdicts,
			Help: "Reports that a " + n.rules + " matched, by rule and verdict. Those that no rule decided on are NO_MATCH.",
		}, []string{"rule", "verdict"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: n.errors,
			Help: "Conditions that could not be evaluated, by " + n.rules + "; the rule then counted as not matching.",
		}, []string{"rule"}),
		failed: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: n.failed,
			Help: "Whether the " + n.rules + " file cannot be used (1), so that the rules before it stay in effect.",
		}),
		loads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: n.loads, Help: "Loads of " + n.rules + "s, by result (loaded, refused).",
		}, []string{"result"}),
		info: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: n.info, Help: "The " + n.rules + "s in effect (1), by source and hash of the content.",
		}, []string{"source", "hash"}),
		counted: map[throttle.Ruling]bool{},
	}
	m.loads.WithLabelValues(loadLoaded)
	m.loads.WithLabelValues(loadRefused)
	return m
}

func (m *rulesMetrics) register(reg prometheus.Registerer) {
	reg.MustRegister(m.verdicts, m.errors, m.failed, m.loads, m.info)
}

func (m *rulesMetrics) refused() {
	m.failed.Set(1)
	m.loads.WithLabelValues(loadRefused).Inc()
}

// loaded makes every series of the rules exist, fills their tally, and forgets
// the series of rules that are gone. What the old rules still count then is
// counted nowhere.
func (m *rulesMetrics) loaded(tally *ruleCounters, rules *throttle.Rules) {
	gone := m.counted
	m.counted = map[throttle.Ruling]bool{}
	tally.verdicts = map[throttle.Ruling]prometheus.Counter{}
	tally.errors = map[string]prometheus.Counter{}
	for _, r := range rules.Verdicts() {
		tally.verdicts[r] = m.verdicts.WithLabelValues(r.Rule, r.Outcome.String())
		tally.errors[r.Rule] = m.errors.WithLabelValues(r.Rule)
		m.counted[r] = true
	}
	for r := range gone {
		if !m.counted[r] {
			m.verdicts.DeleteLabelValues(r.Rule, r.Outcome.String())
		}
		if tally.errors[r.Rule] == nil {
			m.errors.DeleteLabelValues(r.Rule)
		}
	}
	m.info.Reset()
	m.info.WithLabelValues(rules.Source(), rules.Hash()).Set(1)
	m.failed.Set(0)
	m.loads.WithLabelValues(loadLoaded).Inc()
}

// ruleCounters counts for one set of rules.
type ruleCounters struct {
	verdicts map[throttle.Ruling]prometheus.Counter
	errors   map[string]prometheus.Counter
}

// Verdict implements throttle.Tally.
func (c *ruleCounters) Verdict(r throttle.Ruling) { c.verdicts[r].Inc() }

// Failed implements throttle.Tally.
func (c *ruleCounters) Failed(rule string) { c.errors[rule].Inc() }
