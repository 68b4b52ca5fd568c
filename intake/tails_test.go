package intake_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/yagi-crash/yagi/pkg/devstack/devnats"
	"github.com/yagi-crash/yagi/pkg/devstack/freeport"
)

// A server comes back without the end of what it had acknowledged, as from a disk that
// kept less than it said: nothing in the stream tells, and intake does. One that comes
// back whole, or is purged, has lost nothing.
func TestQueueThatLostWhatItHadAcknowledged(t *testing.T) {
	t.Parallel()
	address, err := new(freeport.Finder).Addr(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	start := func() *devnats.Server {
		server, err := devnats.Start(t.Context(), devnats.Config{Addr: address, Dir: dir, Log: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(server.Stop)
		return server
	}
	server := start()
	connectQueue(t, server.URL()).apply(t)
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
	server = start()
	postThree()
	connectQueue(t, server.URL()).purge(t)
	postThree()
	lost("0")

	server.Stop()
	cutLastBlock(t, dir)
	start()
	postThree()
	lost("1")
	if log := i.log.String(); strings.Count(log, "the queue has lost reports") != 1 || !strings.Contains(log, `"stream":"CRASHES_0"`) {
		t.Errorf("the log does not say so once:\n%s", log)
	}
}

// cutLastBlock takes the last byte of the stream's last file, and what the server wrote
// at its end to know the stream by.
func cutLastBlock(t *testing.T, dir string) {
	t.Helper()
	messages := filepath.Join(dir, "jetstream", "$G", "streams", "CRASHES_0", "msgs")
	blocks, err := filepath.Glob(filepath.Join(messages, "*.blk"))
	if err != nil || len(blocks) == 0 {
		t.Fatalf("%s has %d blocks, %v", messages, len(blocks), err)
	}
	last := slices.MaxFunc(blocks, func(a, b string) int { return len(a) - len(b) })
	info, err := os.Stat(last)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(last, info.Size()-1); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(messages, "index.db")); err != nil {
		t.Fatal(err)
	}
}
