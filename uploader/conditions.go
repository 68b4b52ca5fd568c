package uploader

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// lasting is how long something must fail before the heartbeat says so: longer than
// a leader election (4 to 9 s) or a reconnect.
const lasting = 10 * time.Second

const (
	// calmAfter is how long there must have been no error before a success ends a
	// condition: many workers do the same at a time, and some may succeed.
	calmAfter = 5 * time.Second
	// onceFor is how long errors of a moment are known, where nothing is tried again:
	// longer than between two surveys.
	onceFor = 20 * time.Second
	// forgottenAfter is the same for errors that have come back: longer than between two
	// retries of a report.
	forgottenAfter = 3 * time.Minute
)

// conditions are what does not work at the moment, by what is being done. Whatever a
// worker comes across ends up here: in the log once per change, and on the heartbeat
// if it lasts. Its methods may be called from any number of goroutines.
type conditions struct {
	log    zerolog.Logger
	mu     sync.Mutex
	active map[string]condition
}

type condition struct {
	err         error
	since, last time.Time // of the first error, and of err
}

// lasts reports whether the condition has lasted at the time now.
func (c *condition) lasts(now time.Time) bool {
	known := onceFor
	if c.last.Sub(c.since) >= lasting {
		known = forgottenAfter
	}
	return now.Sub(c.since) >= lasting && now.Sub(c.last) <= known
}

// set records how it went; nil is success. What can fail on one stream and succeed on
// another must name the stream in doing. An error extends a condition of the same
// name; a success ends it only calmAfter the last error.
func (c *conditions) set(doing string, err error) {
	now := time.Now()
	c.mu.Lock()
	was, known := c.active[doing]
	known = known && now.Sub(was.last) < forgottenAfter
	ends := err == nil && known && now.Sub(was.last) >= calmAfter
	switch {
	case ends:
		delete(c.active, doing)
	case err != nil:
		is := condition{err, now, now}
		if known {
			is.since = was.since
		}
		if c.active == nil {
			c.active = map[string]condition{}
		}
		c.active[doing] = is
	}
	c.mu.Unlock()
	switch {
	case err != nil && (!known || err.Error() != was.err.Error()):
		c.log.Warn().Err(err).Str("doing", doing).Msg("failing")
	case ends:
		c.log.Info().Str("doing", doing).Dur("failed_for_ms", time.Since(was.since)).Msg("works again")
	}
}

// forget drops what is not done any more.
func (c *conditions) forget(doing string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.active, doing)
}

// keep forgets what begins with prefix and is about none of these streams: the others
// are gone.
func (c *conditions) keep(prefix string, streams []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.active, func(doing string, _ condition) bool {
		on, about := strings.CutPrefix(doing, prefix)
		return about && !slices.Contains(streams, on)
	})
}

// check returns what has failed for lasting or longer, or nil.
func (c *conditions) check(now time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, doing := range slices.Sorted(maps.Keys(c.active)) {
		if failing := c.active[doing]; failing.lasts(now) {
			errs = append(errs, fmt.Errorf("%s fails: %w", doing, failing.err))
		}
	}
	return errors.Join(errs...)
}
