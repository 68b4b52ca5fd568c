package intake

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/yagi-crash/yagi/pkg/queue"
)

const (
	// streamsEvery is how often the streams are looked at: for about so long
	// reports are promised to one that became unsafe.
	streamsEvery = 5 * time.Second
	// lookAgain is the time to the next look while a stream is unknown, and reports
	// wait for it.
	lookAgain = 500 * time.Millisecond
	// lookTimeout ends one look at one stream.
	lookTimeout = 2 * time.Second
)

// errUnsafe means that a stream is so different from what it should be that it may
// lose or hide what it has acknowledged.
var errUnsafe = errors.New("the stream could lose reports")

// look is what a look at a stream found.
type look struct {
	server     string // ConnectedServerId of the connection that was asked over
	unsafe     error  // why nothing may be promised to the stream; it wraps errUnsafe
	maxMsgSize int64  // of the stream, bytes; 0 or less is no limit
}

// looks are the last looks at each partition. A partition that was not looked at is
// not among them.
type looks struct {
	mu sync.Mutex
	of map[int]look
}

func (l *looks) get(p int) (look, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	found, ok := l.of[p]
	return found, ok
}

func (l *looks) set(p int, found look) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of == nil {
		l.of = map[int]look{}
	}
	l.of[p] = found
}

func (l *looks) forget(p int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.of, p)
}

// maxMsgSize returns the lowest limit of any partition, 0 for none.
func (l *looks) maxMsgSize() (lowest int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, found := range l.of {
		lowest = lower(lowest, found.maxMsgSize)
	}
	return lowest
}

// lower returns the lower of two limits, of which 0 or less is none.
func lower(a, b int64) int64 {
	if a <= 0 || b > 0 && b < a {
		return b
	}
	return a
}

// look asks for the stream of partition p. The error says why it is unknown.
func (q *jetStreamQueue) look(ctx context.Context, p int, cfg queue.Config) (look, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	found := look{server: q.nc.ConnectedServerId()}
	if !q.nc.IsConnected() {
		return look{}, errors.New("not connected to NATS") // nats.go would speak of its buffer
	}
	info, err := queue.AskStream(ctx, q.js, queue.StreamName(p))
	if err != nil {
		return look{}, err
	}
	limits, err := info.Limits()
	if err != nil {
		return look{}, err
	}
	if found.server != q.nc.ConnectedServerId() {
		return look{}, errors.New("the connection was lost during the look")
	}
	found.maxMsgSize = limits.MaxMsgSize
	for _, d := range queue.Unsafe(queue.CheckStream(queue.StreamConfig(p, cfg), info.Config)) {
		found.unsafe = fmt.Errorf("%w: %s", errUnsafe, d)
		break
	}
	return found, nil
}

// checkStreams returns an error unless every partition has a stream that reports may be
// promised to.
func (q *jetStreamQueue) checkStreams(ctx context.Context, cfg queue.Config) error {
	for p := range q.partitions {
		found, err := q.look(ctx, p, cfg)
		if err = errors.Join(err, found.unsafe); err != nil {
			return err
		}
	}
	return nil
}

// watchStreams keeps looking at the streams until it is stopped: now and then, and as
// soon as there is another connection.
func (q *jetStreamQueue) watchStreams(ctx context.Context, cfg queue.Config) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) // what is in flight at the end is published too
	done := make(chan struct{})
	connected := q.nc.StatusChanged(nats.CONNECTED)
	go func() {
		defer close(done)
		defer q.nc.RemoveStatusListener(connected)
		for {
			wait := time.NewTimer(q.lookAtAll(ctx, cfg))
			select {
			case <-wait.C:
			case <-connected:
			case <-ctx.Done():
			}
			wait.Stop()
			if ctx.Err() != nil {
				return
			}
		}
	}()
	return func() { cancel(); <-done }
}

// lookAtAll looks at every partition and returns the time to the next look. A stream
// that does not answer stays what it was, for as long as the connection is the same;
// one that is gone may come back as another one.
func (q *jetStreamQueue) lookAtAll(ctx context.Context, cfg queue.Config) time.Duration {
	var looking sync.WaitGroup
	for p := range q.partitions {
		looking.Go(func() {
			found, err := q.look(ctx, p, cfg)
			switch {
			case err == nil:
				q.looks.set(p, found)
			case errors.Is(err, jetstream.ErrStreamNotFound):
				q.looks.forget(p)
			}
		})
	}
	looking.Wait()
	for p := range q.partitions {
		if errors.Is(q.mayPromise(p), errNotSeen) {
			return lookAgain
		}
	}
	return streamsEvery
}

// mayPromise returns why nothing may be promised to partition p now: an error that
// wraps errUnsafe, or errNotSeen when the stream was not looked at over this
// connection, which may be to another cluster.
func (q *jetStreamQueue) mayPromise(p int) error {
	found, ok := q.looks.get(p)
	server := q.nc.ConnectedServerId() // empty while there is no connection
	if !ok || server != "" && server != found.server {
		return fmt.Errorf("%w: %s was not looked at yet", errNotSeen, queue.StreamName(p))
	}
	return found.unsafe
}
