package uploader

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/queue"
)

// Fewer workers than partitions drain them all, those too that are made while
// they work, and none waits for the others to be empty.
func TestFewWorkersDrainEveryPartition(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	w.cfg.Workers = 2
	f := w.newFront()
	var reports []*crash.Sealed
	for p := range 3 {
		reports = append(reports, w.publish(p, 20)...)
	}
	w.run(nil)
	for p := range 3 {
		await(t, fmt.Sprintf("partition %d is drained", p), func() bool { return w.drained(p) })
	}
	first := strings.Join(f.went()[:4*30], " ")
	for p := range 3 {
		if !strings.Contains(first, string(reports[20*p].ID)) {
			t.Errorf("half of the reports are stored, and not one of partition %d", p)
		}
	}

	w.apply(4)
	reports = append(reports, w.publish(3, 5)...)
	await(t, "the new partition is drained", func() bool { return w.drained(3) })
	w.checkStored(reports)
}

// Every worker helps where the work is.
func TestWorkersLeaveAnIdlePartition(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	f := w.newFront()
	release := f.hold()
	w.publish(1, 10)
	r := w.run(nil)
	await(t, "every worker has a report of partition 1 in hand", func() bool {
		return testutil.ToFloat64(r.metrics.inHand) == float64(w.cfg.Workers)
	})
	release()
	await(t, "partition 1 is drained", func() bool { return w.drained(1) })
}

// A partition that is out of order does not keep the others waiting.
func TestSickPartition(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	must(t, w.js.DeleteConsumer(t.Context(), "CRASHES_0", "uploader"))
	r := w.run(nil)
	reports := w.publish(1, 5)
	await(t, "partition 1 is drained", func() bool { return w.drained(1) })
	r.heartbeat("consumer")
	_, page := r.get("/__heartbeat__")
	if !strings.Contains(page, "CRASHES_0") || strings.Contains(page, "CRASHES_1") {
		t.Errorf("the heartbeat says %s, want it to name CRASHES_0 alone", page)
	}
	w.checkStored(reports)
}

// Depth is what is not stored yet, in hand or not, over all partitions.
func TestDepth(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	f := w.newFront()
	release := f.hold()
	w.publish(0, 7)
	w.publish(1, 5)
	r := w.run(nil)
	await(t, "depth is 12", func() bool { return testutil.ToFloat64(r.metrics.depth) == 12 })
	await(t, "every worker has a report in hand", func() bool {
		return testutil.ToFloat64(r.metrics.inHand) == float64(w.cfg.Workers)
	})
	release()
	await(t, "depth is 0", func() bool { return testutil.ToFloat64(r.metrics.depth) == 0 })
	if n := testutil.ToFloat64(r.metrics.inHand); n != 0 {
		t.Errorf("%v reports in hand, want 0", n)
	}
}

func TestBackoff(t *testing.T) {
	for n, want := range map[int]time.Duration{
		0: time.Second, 1: time.Second, 2: 2 * time.Second, 5: 16 * time.Second,
		7: time.Minute, 1000: time.Minute, 1 << 62: time.Minute,
	} {
		for range 100 {
			if got := backoff(n, time.Second, time.Minute); got < want/2-1 || got > want {
				t.Fatalf("after %d failures %v, want from %v to %v", n, got, want/2, want)
			}
		}
	}
}

// A partition that has handed out all that it may does not slow the others down.
func TestStuckPartition(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	w.cfg.NATS.MaxAckPending = 6
	w.apply(2)
	w.publish(1, 20)
	c, err := w.js.Consumer(t.Context(), queue.StreamName(1), queue.Consumer)
	must(t, err)
	for range 6 {
		_, err := c.Next()
		must(t, err)
	}
	w.run(nil)
	w.publish(0, 1)
	await(t, "the first is stored", func() bool { return w.drained(0) })
	w.publish(0, 200)
	began := time.Now()
	await(t, "partition 0 is drained", func() bool { return w.drained(0) })
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("200 reports took %v", took)
	}
}

// A consumer that delivers nothing new since all that it may is unacknowledged is
// unhealthy, if that lasts longer than reports of a killed uploader stay.
func TestQuotaThatIsUsedUp(t *testing.T) {
	var q quota
	info := func(pending int) *queue.ConsumerInfo {
		return &queue.ConsumerInfo{NumAckPending: pending, Config: []byte(`{"max_ack_pending":10}`)}
	}
	now := time.Now()
	for _, step := range []struct {
		pending int
		after   time.Duration
		healthy bool
	}{{9, 0, true}, {10, time.Second, true}, {10, usedUpFor, true}, {11, usedUpFor + time.Second, false}, {9, usedUpFor + 2*time.Second, true}, {10, 2 * usedUpFor, true}} {
		q.seenAt(info(step.pending), now.Add(step.after))
		if err := q.check(); (err == nil) != step.healthy {
			t.Errorf("%d unacknowledged after %v: %v", step.pending, step.after, err)
		}
	}
}
