package intake

import (
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/yagi-crash/yagi/intake/internal/throttle"
	"github.com/yagi-crash/yagi/pkg/crash"
)

// rulesPoll is how often a rule file is looked at. A change is taken when two
// looks in a row see the same, so that a file that is half written is not.
const rulesPoll = 2 * time.Second

// judge rules on reports.
type judge interface {
	Judge(crash.Annotations) throttle.Ruling
}

// liveRules is the rules in effect. When their file changes it puts the new ones
// in their place; a file that cannot be used changes nothing. The file is read
// through its path each time, which follows the links that Kubernetes swaps.
type liveRules struct {
	source  string
	kind    string // "throttle rule", for the log
	log     zerolog.Logger
	metrics *rulesMetrics
	current atomic.Pointer[loadedRules]
	failure atomic.Pointer[string] // what is wrong with the file now; nil: nothing

	// Those of watch alone: what was seen last, and what was made of it.
	seen, taken rulesFile
}

// loadedRules is a set of rules, and since when it has been in effect.
type loadedRules struct {
	*throttle.Rules
	at time.Time
}

// rulesFile is what a look at a rule file saw.
type rulesFile struct {
	sum     [sha256.Size]byte
	failure string // or why it could not be read
}

// newRules loads the rules for the first time, when an error is final.
func newRules(source string, log zerolog.Logger, names rulesMetricNames) (*liveRules, error) {
	l := &liveRules{source: source, kind: names.rules, log: log.With().Str("source", source).Logger(), metrics: newRulesMetrics(names)}
	data, err := throttle.Read(source)
	if err == nil {
		err = l.use(data)
	}
	if err != nil {
		return nil, err
	}
	l.taken = fileOf(data, nil)
	l.seen = l.taken
	return l, nil
}

func fileOf(data []byte, err error) rulesFile {
	if err != nil {
		return rulesFile{failure: err.Error()}
	}
	return rulesFile{sum: sha256.Sum256(data)}
}

// Judge rules by the rules that are in effect now.
func (l *liveRules) Judge(annotations crash.Annotations) throttle.Ruling {
	return l.inEffect().Judge(annotations)
}

// inEffect returns the rules in effect, nil before the first load.
func (l *liveRules) inEffect() *throttle.Rules {
	if current := l.current.Load(); current != nil {
		return current.Rules
	}
	return nil
}

// watch looks for changes of all rules until ctx ends; a signal on hangup has
// them read again at once.
func watch(ctx context.Context, every time.Duration, hangup <-chan os.Signal, all ...*liveRules) {
	ticks := time.NewTicker(every)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
			for _, l := range all {
				data, err := throttle.Read(l.source)
				l.take(data, err)
			}
		case <-ticks.C:
			for _, l := range all {
				l.look()
			}
		}
	}
}

// look takes what has changed and then stayed as it is for one look.
func (l *liveRules) look() {
	data, err := throttle.Read(l.source)
	file := fileOf(data, err)
	if file != l.taken && file == l.seen {
		l.take(data, err)
	}
	l.seen = file
}

// take puts a file into effect, or says why not.
func (l *liveRules) take(data []byte, err error) {
	l.taken = fileOf(data, err)
	if err == nil {
		err = l.use(data)
	}
	if err == nil {
		return
	}
	text := err.Error()
	l.failure.Store(&text)
	l.metrics.refused()
	event := l.log.Error().Err(err).Str("hash_in_effect", l.inEffect().Hash())
	if file, ok := errors.AsType[*throttle.FileError](err); ok {
		first := file.Problems[0]
		event.Int("line", first.Line).Int("column", first.Column).Str("rule", first.Rule)
	}
	event.Msg(l.kind + "s cannot be used: the old ones stay in effect")
}

func (l *liveRules) use(data []byte) error {
	tally := &ruleCounters{}
	rules, err := throttle.Parse(l.source, data, throttle.WithTally(tally), throttle.WithCountsOf(l.inEffect()))
	if err != nil {
		return err
	}
	l.metrics.loaded(tally, rules)
	l.current.Store(&loadedRules{rules, time.Now().UTC()})
	l.failure.Store(nil)
	l.log.Info().Str("hash", rules.Hash()).Int("count", len(rules.List())).Strs("warnings", rules.Warnings()).Msg(l.kind + "s are in effect")
	return nil
}
