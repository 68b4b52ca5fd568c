package uploader

import (
	"fmt"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/layout"
	"github.com/yagi-crash/yagi/pkg/queue"
)

// newChosen makes a report with an id that its client chose.
func newChosen(tb testing.TB, id crash.ID, dump string) *crash.Sealed {
	tb.Helper()
	r := crash.Report{
		ID: id, IDGiven: true, Received: time.Now().UTC(),
		Annotations: crash.Annotations{"ProductName": crash.Text(dump)},
		Dumps:       []crash.Part{crash.NewPart(crash.MinidumpName, []byte(dump), crash.Sum([]byte(dump)))},
	}
	sealed, err := r.Seal()
	must(tb, err)
	return sealed
}

// whole counts the objects of a report that the bucket has.
func (w *world) whole(s *crash.Sealed) (n int) {
	w.tb.Helper()
	objects, err := layout.Objects(s)
	must(w.tb, err)
	for _, o := range objects {
		if o.Key == layout.DumpNames(s.ID) { // is the same in both
			continue
		}
		head, err := w.s3.HeadObject(w.tb.Context(), &s3.HeadObjectInput{Bucket: &w.cfg.Bucket, Key: &o.Key})
		must(w.tb, err)
		if *head.ContentLength == o.Part.Size {
			n++
		}
	}
	return n
}

// Of two reports with one id that are stored at the same time, one is stored whole.
func TestTwoReportsOfOneID(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	type pair struct{ one, other *crash.Sealed }
	var pairs []pair
	for i := range 100 {
		id := crash.NewID(time.Now(), crash.Accept)
		p := pair{newChosen(t, id, fmt.Sprintf("dump %d", i)), newChosen(t, id, fmt.Sprintf("another dump %d", i))}
		pairs = append(pairs, p)
		w.send(0, message(t, p.one))
		w.send(0, message(t, p.other))
	}
	w.run(nil)
	w.run(nil)
	await(t, "the queue is drained", func() bool { return w.drained(0) })
	for i, p := range pairs {
		if one, other := w.whole(p.one), w.whole(p.other); one+other != 2 || one == 1 {
			t.Errorf("pair %d: the bucket has %d objects of one and %d of the other", i, one, other)
		}
	}
	if n := len(w.deadLetters()); n != 0 {
		t.Errorf("%d dead letters", n)
	}
	if held, err := queue.HeldReports(t.Context(), w.js, queue.StreamName(0)); err != nil || len(held) > 0 {
		t.Errorf("%d reports are held, error %v", len(held), err)
	}
}
