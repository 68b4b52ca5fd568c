//go:build faults

package e2e

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/yagi-crash/yagi/pkg/queue"
)

// What the server has acknowledged is on the disk and not only in the kernel's
// memory: before each acknowledgement leaves, the file that has the message was
// synced. The kernel is asked, through strace.
func TestAcknowledgedIsSynced(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Fatalf("strace is needed, Debian's package of that name: %v", err)
	}
	s := newSystem(t, 1)
	trace := filepath.Join(t.TempDir(), "trace")
	s.nats = newTraced(t, s, trace)
	s.applyStreams(t)
	js := s.publisher(t)
	const reports = 20
	for i := range reports {
		for _, msg := range poison(t, strings.Repeat("x", 1000+i))[:1] {
			if _, err := js.PublishMsg(t.Context(), msg); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.nats.kill()
	var stories []string
	eventually(t, "reading the trace", 20*time.Second, func() error { // strace writes its last lines by itself
		if stories = readTrace(t, trace); len(stories) < reports {
			return fmt.Errorf("%d acknowledgements in the trace, want %d", len(stories), reports)
		}
		return nil
	})
	// One report after the other was published, so each acknowledgement is about
	// what was written since the one before.
	for i, story := range stories[len(stories)-reports:] {
		if story != "write sync" {
			t.Errorf("before acknowledgement %d the server did: %q, want a write and then a sync", i+1, story)
		}
	}
}

// newTraced starts a NATS server whose every write and sync is noted.
func newTraced(t *testing.T, s *system, trace string) *process {
	t.Helper()
	p := s.newServer(t, suite.natsConf, s.natsAddr)
	p.kill()
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Fatal(err)
	}
	p.args = append([]string{
		"-D", "-f", "-y", "-s", "400", "-o", trace, "-e", "trace=write,pwrite64,writev,fsync,fdatasync",
		filepath.Join(suite.bin, p.name),
	}, p.args...)
	p.program = strace
	p.start()
	return p
}

// readTrace returns for each acknowledgement of a report what was done to the
// stream's files since the one before, repetitions left out.
func readTrace(t *testing.T, path string) (stories []string) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	block := regexp.MustCompile(`(write|pwrite64|writev|fsync|fdatasync)\(\d+<[^>]*/streams/` + queue.StreamName(0) + `/msgs/[^>]*\.blk>`)
	ack := `{\"stream\":\"` + queue.StreamName(0) + `\"`
	var story []string
	note := func(what string) {
		if len(story) == 0 || story[len(story)-1] != what {
			story = append(story, what)
		}
	}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		line := lines.Text()
		switch call := block.FindStringSubmatch(line); {
		case call != nil && strings.Contains(call[1], "sync"):
			note("sync")
		case call != nil:
			note("write")
		case strings.Contains(line, ack):
			stories = append(stories, strings.Join(story, " "))
			story = nil
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return stories
}
