package trim

import (
	"flag"
	"log"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/yagi-crash/yagi/pkg/queue"
)

// modelLimit is the size of the model's stream, in bytes.
const modelLimit = 8_000

// TestMain lets the properties run for longer stories than rapid's 30 steps; the
// flags -rapid.steps, -rapid.checks and -rapid.seed still count.
func TestMain(m *testing.M) {
	for name, value := range map[string]string{"rapid.steps": "150", "rapid.checks": "700"} {
		if err := flag.Set(name, value); err != nil {
			log.Fatal(err)
		}
	}
	os.Exit(m.Run())
}

// Whatever happens in whatever order, no message of a report goes that is waited
// for: the machine reports at the first.
func TestNothingNeededIsTrimmed(t *testing.T) {
	t.Parallel()
	purged := 0
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(t)
		// A clock that is off at every look is never believed.
		t.Repeat(m.actions(2*ClockSkew, 7*24*time.Hour))
		purged += m.purged
	})
	if purged == 0 {
		t.Error("nothing was ever trimmed, which proves nothing")
	}
}

// A trimmer that just started has only the messages' times to go by when room is
// short. That is safe as long as the server's clock is not set by more than
// ClockSkew while the trimmers' memory is young.
func TestNothingNeededIsTrimmedByClock(t *testing.T) {
	t.Parallel()
	purged := 0
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(t)
		actions := m.actions(0, 20*time.Second)
		actions["trim just after a start"] = func(t *rapid.T) {
			x := m.newMachine()
			if _, err := x.Step(t.Context(), x); err != nil {
				t.Log(err)
			}
		}
		t.Repeat(actions)
		purged += m.purged
	})
	if purged == 0 {
		t.Error("nothing was ever trimmed, which proves nothing")
	}
}

// Messages on a subject that nobody reads were promised, and no consumer's floor tells
// of them.
func TestNothingHiddenIsTrimmed(t *testing.T) {
	t.Parallel()
	purged, hidden := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(t)
		actions := m.actions(0, 20*time.Second)
		actions["hide"] = func(*rapid.T) { m.hiding = true }
		actions["hide no more"] = func(*rapid.T) { m.hiding = false }
		actions["trim just after a start"] = func(t *rapid.T) {
			x := m.newMachine()
			if _, err := x.Step(t.Context(), x); err != nil {
				t.Log(err)
			}
		}
		t.Repeat(actions)
		purged, hidden = purged+m.purged, hidden+m.hidden
	})
	if purged == 0 || hidden == 0 {
		t.Errorf("%d messages were trimmed and %d hidden, which proves nothing", purged, hidden)
	}
}

// actions are what can happen. The server's clock is off by least to most.
func (m *model) actions(least, most time.Duration) map[string]func(*rapid.T) {
	m.skew = least
	actions := map[string]func(*rapid.T){
		"begin a report":   m.begin,
		"store a chunk":    m.chunk,
		"store a ready":    m.finish,
		"give a report up": m.giveUp,
		"inline report":    m.inline,
		"upload":           m.upload,
		"upload more":      m.upload,
		"hold":             m.hold,
		"drain":            m.drain,
		"start a replay":   m.startReplay,
		"replay":           m.replay,
		"end a replay":     m.endReplay,
		"pass a little":    m.pass(time.Second, 20*time.Second),
		"pass some time":   m.pass(20*time.Second, 4*time.Minute),
		"pass much time":   m.pass(4*time.Minute, 30*time.Minute),
		"set the clock": func(t *rapid.T) {
			m.skew = time.Duration(rapid.Int64Range(int64(least), int64(most)).Draw(t, "to"))
			if rapid.Bool().Draw(t, "back") {
				m.skew = -m.skew
			}
		},
		"restart": func(t *rapid.T) {
			m.trimmers[rapid.IntRange(0, len(m.trimmers)-1).Draw(t, "who")] = m.newMachine()
		},
		"trim":       m.trim,
		"trim again": m.trim,
		"trim all":   m.trimAll,
	}
	for name, action := range actions {
		actions[name] = func(t *rapid.T) {
			action(t)
			m.note()
		}
	}
	return actions
}

func (m *model) trim(t *rapid.T) {
	x := m.trimmers[rapid.IntRange(0, len(m.trimmers)-1).Draw(t, "who")]
	if _, err := x.Step(t.Context(), x); err != nil {
		t.Log(err)
	}
}

// trimAll is what an hour of calm looks like.
func (m *model) trimAll(t *rapid.T) {
	for range 6 {
		for _, x := range m.trimmers {
			if _, err := x.Step(t.Context(), x); err != nil {
				t.Log(err)
			}
		}
		m.pass(time.Minute, 5*time.Minute)(t)
		m.note()
	}
}

func (m *model) pass(least, most time.Duration) func(*rapid.T) {
	return func(t *rapid.T) {
		m.now = m.now.Add(time.Duration(rapid.Int64Range(int64(least), int64(most)).Draw(t, "time")))
		for _, r := range m.reports {
			if r.ready == 0 && m.now.Sub(r.begun) > queue.ReadyDeadline {
				r.given = true // as intake does, however it was paused
			}
		}
	}
}

func (m *model) begin(t *rapid.T) {
	r := &report{begun: m.now}
	m.reports = append(m.reports, r)
	r.chunks = append(r.chunks, m.publish(message{size: 1000}))
	if rapid.Bool().Draw(t, "and at once") {
		r.chunks = append(r.chunks, m.publish(message{size: 1000}))
		m.publishReady(r, 1)
	}
}

// unfinished draws a report that intake is still at.
func (m *model) unfinished(t *rapid.T) *report {
	return m.draw(t, func(r *report) bool { return r.ready == 0 && !r.given })
}

// waiting draws a report that is not uploaded.
func (m *model) waiting(t *rapid.T) *report {
	return m.draw(t, func(r *report) bool { return r.ready != 0 && !r.stored && !r.hidden })
}

// draw skips the action when no report fits.
func (m *model) draw(t *rapid.T, fits func(*report) bool) *report {
	var all []*report
	for _, r := range m.reports {
		if fits(r) {
			all = append(all, r)
		}
	}
	if len(all) == 0 {
		t.Skip("none")
	}
	return all[rapid.IntRange(0, len(all)-1).Draw(t, "which")]
}

func (m *model) chunk(t *rapid.T) {
	r := m.unfinished(t)
	r.chunks = append(r.chunks, m.publish(message{size: 1000}))
}

func (m *model) finish(t *rapid.T) {
	r := m.unfinished(t)
	m.publishReady(r, 1)
}

func (m *model) giveUp(t *rapid.T) { m.unfinished(t).given = true }

func (m *model) inline(*rapid.T) {
	r := &report{begun: m.now}
	m.publishReady(r, 500)
	m.reports = append(m.reports, r)
}

func (m *model) upload(t *rapid.T) { m.store(m.waiting(t)) }

// hold sets a report aside that cannot be uploaded: it is acknowledged.
func (m *model) hold(t *rapid.T) {
	r := m.waiting(t)
	r.held = true
	m.consumers[queue.Consumer].acked[r.ready] = true
}

func (m *model) store(r *report) {
	r.stored, r.held = true, false
	m.consumers[queue.Consumer].acked[r.ready] = true
}

func (m *model) drain(*rapid.T) {
	for _, r := range m.reports {
		if r.ready != 0 && !r.hidden {
			m.store(r)
		}
	}
}

func (m *model) startReplay(t *rapid.T) {
	if len(m.consumers) > 2 {
		t.Skip("enough of them")
	}
	from := rapid.Uint64Range(m.first-1, m.last()).Draw(t, "from")
	m.consumers["replay-"+rapid.StringMatching("[a-z]{6}").Draw(t, "name")] = &consumer{
		since: m.now, start: from, acked: map[uint64]bool{},
	}
}

// aReplay draws a running replay.
func (m *model) aReplay(t *rapid.T) string {
	for _, name := range slices.Sorted(maps.Keys(m.consumers)) { // replays come first
		if name != queue.Consumer {
			return name
		}
	}
	t.Skip("none")
	return ""
}

func (m *model) replay(t *rapid.T) {
	c := m.consumers[m.aReplay(t)]
	r := m.draw(t, func(r *report) bool { return r.ready > c.start && !c.acked[r.ready] && !r.hidden })
	c.acked[r.ready] = true
}

func (m *model) endReplay(t *rapid.T) { delete(m.consumers, m.aReplay(t)) }
