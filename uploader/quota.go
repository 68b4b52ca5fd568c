package uploader

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/yagi-crash/yagi/pkg/queue"
)

const (
	// pressedShare is the share of max_ack_pending from which on failed reports are
	// held instead of handed back. Below it lies what workers have in flight: two
	// thirds at most, if max_ack_pending is 1.5 times their number.
	pressedShare = 0.75
	// retriedShare is the share of it that may be redelivered reports before that
	// is unhealthy.
	retriedShare = 0.25
	// usedUpFor is how long all of max_ack_pending may be in use before that is
	// unhealthy: longer than what a killed uploader had in flight counts, an ack wait.
	usedUpFor = 90 * time.Second
	// quotaFresh is how old the numbers may be that a failed report is judged by.
	quotaFresh = 250 * time.Millisecond
)

// quota is how much of a consumer's max_ack_pending is in use: the server hands out
// nothing new when it is used up. Its methods may be called from any number of
// goroutines.
type quota struct {
	mu         sync.Mutex
	pending    int // unacknowledged, as the server said
	retried    int // those of them that were redelivered
	limit      int // max_ack_pending; 0 or less is none
	at         time.Time
	usedUp     time.Time // since when all of it is in use; zero when it is not
	handedBack int       // reports since at, by this process
	asking     bool      // the server, at the moment
}

// seen takes what the server said of the consumer.
func (q *quota) seen(info *queue.ConsumerInfo) { q.seenAt(info, time.Now()) }

func (q *quota) seenAt(info *queue.ConsumerInfo, now time.Time) {
	limit, err := info.MaxAckPending()
	if err != nil {
		limit = 0 // an unsafe difference, which the heartbeat says
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.pending, q.retried, q.limit = info.NumAckPending, info.NumRedelivered, limit
	q.at, q.handedBack = now, 0
	switch {
	case limit <= 0 || q.pending < limit:
		q.usedUp = time.Time{}
	case q.usedUp.IsZero():
		q.usedUp = now
	}
}

// pressed reports whether a report that failed should not be handed back. ask is
// called when the numbers are too old, by one goroutine at a time.
func (q *quota) pressed(ctx context.Context, ask func(context.Context) (*queue.ConsumerInfo, error)) bool {
	if q.begin() {
		if info, err := ask(ctx); err == nil { // otherwise the old numbers must do
			q.seen(info)
		}
		q.end()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.limit > 0 && float64(q.pending+q.handedBack) >= pressedShare*float64(q.limit) {
		return true
	}
	q.handedBack++
	return false
}

// begin reports whether the caller must ask the server, and then call end.
func (q *quota) begin() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.asking || time.Since(q.at) < quotaFresh {
		return false
	}
	q.asking = true
	return true
}

func (q *quota) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.asking = false
}

// share returns how much of max_ack_pending is in use, from 0 to 1.
func (q *quota) share() float64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.limit <= 0 {
		return 0
	}
	return float64(q.pending) / float64(q.limit)
}

// check returns an error when too many reports are being retried, or when nothing new
// was delivered for long.
func (q *quota) check() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.limit <= 0:
		return nil
	case !q.usedUp.IsZero() && q.at.Sub(q.usedUp) >= usedUpFor:
		return fmt.Errorf("all of the %d reports that may be unacknowledged (NATS_MAX_ACK_PENDING) have been for more than %v", q.limit, usedUpFor)
	case float64(q.retried) < retriedShare*float64(q.limit):
		return nil
	}
	return fmt.Errorf("more than %.0f %% of the %d reports that may be unacknowledged (NATS_MAX_ACK_PENDING) are retries", 100*retriedShare, q.limit)
}

// quotas are those of the consumers of every stream.
type quotas struct {
	mu       sync.Mutex
	byStream map[string]*quota
}

// of returns the quota of the uploaders' consumer of a stream.
func (q *quotas) of(stream string) *quota {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.byStream == nil {
		q.byStream = map[string]*quota{}
	}
	if q.byStream[stream] == nil {
		q.byStream[stream] = &quota{}
	}
	return q.byStream[stream]
}

// share returns the largest of their shares, from 0 to 1.
func (q *quotas) share() (most float64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, one := range q.byStream {
		most = max(most, one.share())
	}
	return most
}
