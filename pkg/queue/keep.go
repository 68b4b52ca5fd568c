package queue

import (
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Keep tells the queue every so often (InProgressEvery) that a message is in hand,
// so that nobody else gets it, until letGo has returned.
func Keep(msg jetstream.Msg, every time.Duration) (letGo func()) {
	done := make(chan struct{})
	var ended sync.WaitGroup
	ended.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				_ = msg.InProgress() // fails when NATS is away; the acknowledgement will tell
			case <-done:
				return
			}
		}
	})
	return func() {
		close(done)
		ended.Wait()
	}
}
