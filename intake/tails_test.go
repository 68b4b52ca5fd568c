package intake_test

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/devstack/devnats"
	"github.com/yagi-crash/yagi/pkg/devstack/freeport"
)

// mortal is a server that can die and come back.
type mortal struct {
	*devnats.Server

	address, dir string
}

func startMortal(t *testing.T) *mortal {
	t.Helper()
	address, err := new(freeport.Finder).Addr(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m := &mortal{address: address, dir: t.TempDir()}
	m.start(t)
	connectQueue(t, m.URL()).apply(t)
	return m
}

func (m *mortal) start(t *testing.T) {
	t.Helper()
	var err error
	m.Server, err = devnats.Start(t.Context(), devnats.Config{Addr: m.address, Dir: m.dir, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Stop)
}

// A server comes back without the end of what it had acknowledged, as from a disk that
// kept less than it said: nothing in the stream tells, and intake does. One that comes
// back whole, or is purged, has lost nothing.
func TestQueueThatLostWhatItHadAcknowledged(t *testing.T) {
	t.Parallel()
	server := startMortal(t)
	i := startIntake(t, server.URL())
	postThree := func() {
		for range 3 {
			crashID(t, i.post(t, report()))
		}
	}
	lost := func(want string) {
		t.Helper()
		if _, page := get(t, "http://"+i.admin+"/metrics"); !strings.Contains(page, "intake_acknowledged_lost_total "+want+"\n") {
			t.Errorf("intake does not count %s lost messages:\n%s", want, page)
		}
	}
	postThree()
	server.Stop()
	server.start(t)
	postThree()
	connectQueue(t, server.URL()).purge(t)
	postThree()
	lost("0")

	server.Stop()
	cutLastBlock(t, server.dir, 1)
	server.start(t)
	postThree()
	lost("1")
	if log := i.log.String(); strings.Count(log, "the queue has lost reports") != 1 || !strings.Contains(log, `"stream":"CRASHES_0"`) {
		t.Errorf("the log does not say so once:\n%s", log)
	}
}

// The same within a report in chunks, whose places others take at once: what is promised
// is whole nevertheless.
func TestQueueThatLostChunksWithinAReport(t *testing.T) {
	t.Parallel()
	server := startMortal(t)
	i := startIntake(t, server.URL())
	crashID(t, i.post(t, report()))
	fifteenth := connectQueue(t, server.URL()).chunk(t, 15)
	body, minidump := largeReport(1)
	answered := make(chan answer, 1)
	go func() { answered <- i.post(t, body) }()
	<-fifteenth
	server.Stop()
	cutLastBlock(t, server.dir, 5_000_000) // more than chunksOnTheWay, which may have had no ack
	server.start(t)
	q := connectQueue(t, server.URL())
	q.fill(t, 20)
	id := crashID(t, <-answered)
	all, broken := q.read(t)
	if len(broken) > 0 {
		t.Error(broken)
	}
	if !slices.ContainsFunc(all, func(s *crash.Sealed) bool { return s.ID == id && text(t, s.Dumps[0]) == minidump }) {
		t.Errorf("%s was promised, and is not whole in the stream", id)
	}
}

// cutLastBlock takes the last bytes of the stream's last file, all of them if need be, and
// what the server wrote at its end to know the stream by.
func cutLastBlock(t *testing.T, dir string, n int64) {
	t.Helper()
	messages := filepath.Join(dir, "jetstream", "$G", "streams", "CRASHES_0", "msgs")
	blocks, err := filepath.Glob(filepath.Join(messages, "*.blk"))
	if err != nil || len(blocks) == 0 {
		t.Fatalf("%s has %d blocks, %v", messages, len(blocks), err)
	}
	last := slices.MaxFunc(blocks, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
	info, err := os.Stat(last)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(last, max(0, info.Size()-n)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(messages, "index.db")); err != nil {
		t.Fatal(err)
	}
}
