package uploader

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/yagi-crash/yagi/pkg/queue"
)

// past makes all that conditions know older.
func (c *conditions) past(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for doing, was := range c.active {
		c.active[doing] = condition{was.err, was.since.Add(-by), was.last.Add(-by)}
	}
}

// A condition outlives successes between its errors, ends with one some time after the
// last error, and is forgotten when nothing more is heard of it.
func TestConditionsLast(t *testing.T) {
	t.Parallel()
	const doing = "testing"
	c := conditions{log: nopLog()}
	lasts := func(want bool, after string) {
		t.Helper()
		if err := c.check(time.Now()); (err != nil) != want {
			t.Errorf("%s: %v", after, err)
		}
	}
	for range 4 {
		c.set(doing, errors.New("no"))
		lasts(false, "an error")
		c.past(calmAfter / 2)
		c.set(doing, nil)
	}
	lasts(true, "errors and successes in turn")
	c.past(calmAfter)
	c.set(doing, nil)
	lasts(false, "a success after some time")
	c.set(doing, errors.New("no"))
	c.past(lasting)
	lasts(true, "an error")
	c.past(onceFor - lasting + time.Second)
	lasts(false, "nothing after an error")
	c.set(doing, errors.New("no"))
	c.past(onceFor + time.Second)
	lasts(true, "an error that has come back")
	c.past(forgottenAfter)
	lasts(false, "a long time")
	c.set(doing, errors.New("no"))
	lasts(false, "a new error")
}

// mute is a message of a stream whose end the server confirms, or does not.
type mute struct {
	deafMsg

	stream string
	err    error
}

func (m *mute) Metadata() (*jetstream.MsgMetadata, error) {
	return &jetstream.MsgMetadata{Stream: m.stream, Sequence: jetstream.SequencePair{Stream: 1}}, nil
}
func (m *mute) DoubleAck(context.Context) error  { return m.err }
func (m *mute) NakWithDelay(time.Duration) error { return nil }
func (m *mute) InProgress() error                { return nil }

// Acknowledgements that fail on one stream stay known while those of another one, and
// reports that are handed back, go well.
func TestAcknowledgementsOfOneStreamFail(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	f := w.newFront()
	u, err := Listen(t.Context(), w.cfg, nopLog())
	must(t, err)
	defer u.admin.Close()
	must(t, u.connect())
	defer u.disconnect()
	deliver := func(p int, err error) {
		msg := message(t, newReport(t, "dump"))
		u.handle(t.Context(), deliveryOf(&mute{deafMsg{header: msg.Header, data: msg.Data}, queue.StreamName(p), err}))
	}
	deliver(1, errors.New("nobody there"))
	deliver(0, nil)
	f.onKey(always(http.StatusTooManyRequests, "TooManyRequests"))
	deliver(0, nil)
	deliver(1, nil)
	switch err := u.conditions.check(time.Now().Add(lasting)); {
	case err == nil || !strings.Contains(err.Error(), queue.StreamName(1)):
		t.Errorf("the heartbeat will say %v, want that acknowledging to %s fails", err, queue.StreamName(1))
	case strings.Contains(err.Error(), queue.StreamName(0)):
		t.Errorf("the heartbeat will say %v, though %s is healthy", err, queue.StreamName(0))
	}
}

// The heartbeat names what a stream that is short of room cannot be trimmed behind.
func TestPinnedStreamIsSeen(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	msg := message(t, newReport(t, "dump"))
	msg.Header.Set(queue.HeaderFormat, strconv.Itoa(queue.Format+1))
	w.send(0, msg)
	w.update("STREAM.UPDATE.CRASHES_0", w.live(0), "max_bytes", strconv.FormatUint(w.state(0).Bytes+100, 10))
	r := w.run(func(u *Uploader) { u.heldFor, u.trimEvery = time.Hour, 100*time.Millisecond })
	await(t, "it is named", func() bool {
		err := r.conditions.check(time.Now().Add(lasting))
		return err != nil && strings.Contains(err.Error(), "held report") && strings.Contains(err.Error(), queue.StreamName(0))
	})
}

// One report that is held for too long is seen.
func TestOldHeldReportIsSeen(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.send(0, &nats.Msg{Header: nats.Header{queue.HeaderFormat: {"99"}}})
	r := w.run(func(u *Uploader) { u.heldFor, u.heldTooLong = time.Hour, 0 })
	await(t, "it is seen", func() bool {
		err := r.conditions.check(time.Now().Add(lasting))
		return err != nil && strings.Contains(err.Error(), "held")
	})
}
