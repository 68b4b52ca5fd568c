//go:build faults && soak

package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/yagi-crash/yagi/pkg/queue"
)

// What is stored leaves the queue once nobody can need it any more, chunks of a
// report that was cut too, while clients go on posting; and nothing that was
// promised goes with it. It takes a little longer than queue.ReadyDeadline.
func TestTrimming(t *testing.T) {
	s := startSystem(t, "UPLOADER_REPLAY_WINDOW=0")
	js := s.jetStream(t)
	book := newLedger()
	c := newClient(s.url, 5, 0)
	cut := make(chan struct{})
	go func() {
		defer close(cut)
		_, _ = c.post(context.WithoutCancel(t.Context()), c.bytes(20_000_000))
	}()
	eventually(t, "waiting for the second chunk", 20*time.Second, func() error { return holds(t.Context(), js, 2) })
	s.intake.kill()
	<-cut
	s.intake.start()
	awaitHealthy(t, s.url)
	book.post(t, c, c.bytes(20_000_000))
	for range 20 {
		book.post(t, c, c.dump(600_000))
	}
	stream, err := js.Stream(t.Context(), queue.StreamName(0))
	if err != nil {
		t.Fatal(err)
	}
	last := stream.CachedInfo().State.LastSeq

	begun := time.Now()
	eventually(t, "waiting for the trimmer", queue.ReadyDeadline+5*time.Minute, func() error {
		rest(t.Context(), 2*time.Second)
		book.post(t, c, c.dump(600_000))
		info, err := stream.Info(t.Context())
		if err == nil && info.State.FirstSeq <= last {
			err = fmt.Errorf("the stream begins at %d, and had reached %d", info.State.FirstSeq, last)
		}
		return err
	})
	took := time.Since(begun)
	if took < queue.ReadyDeadline {
		t.Errorf("trimmed after %v, within the deadline of %v", took, queue.ReadyDeadline)
	}
	t.Logf("%d messages were trimmed after %v, %d reports are promised", last, took.Round(time.Second), book.size())
	book.audit(t, s.bucket, time.Minute)
}
