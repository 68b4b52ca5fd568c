package intake

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/yagi-crash/yagi/intake/internal/throttle"
	"github.com/yagi-crash/yagi/pkg/crash"
)

// ruleSets is the rules that decide, and those that are tried out beside them.
type ruleSets struct {
	live    *liveRules
	shadow  *liveRules         // nil without shadow rules
	differs prometheus.Counter // nil without shadow rules
}

func newRuleSets(cfg Config, log zerolog.Logger) (r ruleSets, err error) {
	if r.live, err = newRules(cfg.ThrottleRules, log, liveNames()); err != nil || cfg.ShadowRules == "" {
		return r, err
	}
	r.differs = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "intake_shadow_differences_total", Help: "Reports of which the shadow rules would have made something else than the throttle rules did.",
	})
	r.shadow, err = newRules(cfg.ShadowRules, log, shadowNames())
	return r, err
}

func (r ruleSets) all() []*liveRules {
	if r.shadow == nil {
		return []*liveRules{r.live}
	}
	return []*liveRules{r.live, r.shadow}
}

func (r ruleSets) register(reg prometheus.Registerer) {
	for _, l := range r.all() {
		l.metrics.register(reg)
	}
	if r.differs != nil {
		reg.MustRegister(r.differs)
	}
}

// Judge rules by the live rules. The shadow's are asked too, and only counted.
func (r ruleSets) Judge(annotations crash.Annotations) throttle.Ruling {
	if r.shadow == nil {
		return r.live.Judge(annotations)
	}
	ruling, shadow := throttle.JudgeBoth(r.live.inEffect(), r.shadow.inEffect(), annotations)
	if ruling.Outcome != shadow.Outcome {
		r.differs.Inc()
	}
	return ruling
}

// rulesStop is how long a reload that is under way may take when intake stops.
const rulesStop = time.Second

// watchRules watches the rules' files until ctx ends or what it returns is
// called, which waits for the end; but not for a file system that is away, on
// which a read may hang for ever: the watcher has nothing that must be closed.
func (s *Server) watchRules(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		watch(ctx, rulesPoll, s.hangup, s.rules.all()...)
	}()
	return func() {
		cancel()
		select {
		case <-done:
		case <-time.After(rulesStop):
		}
	}
}
