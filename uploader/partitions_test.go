package uploader

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/yagi-crash/yagi/pkg/crash"
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
