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

// conditions are what does not work at the moment, by what is being done. Whatever a
// worker comes across ends up here: in the log once per change, and on the heartbeat
// if it lasts. Its methods may be called from any number of goroutines.
type conditions struct {
	log    zerolog.Logger
	mu     sync.Mutex
	active map[string]condition
}

type condition struct {
	err   error
	since time.Time
}

// set says how it went: nil is well. Another error of the same thing is logged, and
// does not begin anew.
func (c *conditions) set(doing string, err error) {
	c.mu.Lock()
	was, known := c.active[doing]
	if err == nil {
		delete(c.active, doing)
	} else {
		now := condition{err, time.Now()}
		if known {
			now.since = was.since
		}
		if c.active == nil {
			c.active = map[string]condition{}
		}
		c.active[doing] = now
	}
	c.mu.Unlock()
	switch {
	case err != nil && (!known || err.Error() != was.err.Error()):
		c.log.Warn().Err(err).Str("doing", doing).Msg("failing")
	case err == nil && known:
		c.log.Info().Str("doing", doing).Dur("failed_for_ms", time.Since(was.since)).Msg("works again")
	}
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
		if failing := c.active[doing]; now.Sub(failing.since) >= lasting {
			errs = append(errs, fmt.Errorf("%s fails: %w", doing, failing.err))
		}
	}
	return errors.Join(errs...)
}
