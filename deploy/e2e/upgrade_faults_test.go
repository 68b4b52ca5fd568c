//go:build faults

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/queue"
)

// buildNextUploader builds an uploader of a release that also reads format 2, which this one does
// not: from these sources, with one line changed.
func buildNextUploader(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(suite.root, "pkg", "queue", "message.go")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const line = "if version != Format {"
	if strings.Count(string(text), line) != 1 {
		t.Fatalf("%s is not once in %s", line, path)
	}
	changed := filepath.Join(dir, "message.go")
	overlay := filepath.Join(dir, "overlay.json")
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {path: changed}})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		changed: strings.Replace(string(text), line, "if version != Format && version != 2 {", 1), overlay: string(replace),
	} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-overlay", overlay,
		"-o", filepath.Join(suite.bin, "next-uploader"), "github.com/yagi-crash/yagi/uploader/cmd/uploader")
	build.Dir = suite.root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the next release: %v\n%s", err, out)
	}
}

// publishFormats publishes reports, every other one as the next release writes
// them, and notes them as promised.
func (s *system) publishFormats(t *testing.T, book *ledger, n int) {
	t.Helper()
	js := s.publisher(t)
	for i := range n {
		dump := fmt.Appendf(nil, "dump %d of %s", i, t.Name())
		id, msg := readyMessage(t, dump)
		if i%2 == 1 {
			msg.Header.Set(queue.HeaderFormat, "2")
		}
		if _, err := js.PublishMsg(t.Context(), msg); err != nil {
			t.Fatal(err)
		}
		book.enter(id, dump)
	}
}

// readyMessage is what intake publishes of a report.
func readyMessage(t *testing.T, dump []byte) (crash.ID, *nats.Msg) {
	t.Helper()
	r := crash.Report{ID: crash.NewID(time.Now(), crash.Accept), Received: time.Now().UTC()}
	r.Dumps = []crash.Part{crash.NewPart(crash.MinidumpName, dump, crash.Sum(dump))}
	sealed, err := r.Seal()
	if err != nil {
		t.Fatal(err)
	}
	msg, err := queue.Encode(nil, sealed, queue.MaxPayload)
	if err != nil {
		t.Fatal(err)
	}
	msg.Subject = queue.ReadySubject(0)
	return r.ID, msg
}

// restartAs ends a process and starts another program in its place.
func (p *process) restartAs(name string) {
	p.kill()
	p.program = filepath.Join(suite.bin, name)
	p.start()
}

// Uploaders are upgraded first, as they should be: both formats are stored, those
// of before the upgrade too.
func TestUploadersAreUpgradedFirst(t *testing.T) {
	buildNextUploader(t)
	s := startSystem(t)
	book := newLedger()
	s.postAll(t, book, 1, 5, 10_000)
	s.uploader.restartAs("next-uploader")
	awaitHealthy(t, s.uploaderURL)
	s.publishFormats(t, book, 10)
	book.audit(t, s.bucket, 30*time.Second)
}

// Uploaders are upgraded last: the old one stores what it can read, keeps the rest
// for the new one and makes no dead letter of it. What it kept comes again after five
// minutes (uploader's heldFor); with E2E_HOLD=1, as in make soak, that is waited for.
func TestUploadersAreUpgradedLast(t *testing.T) {
	buildNextUploader(t)
	s := startSystem(t)
	book, old := newLedger(), newLedger()
	s.publishFormats(t, book, 10)
	s.postAll(t, old, 1, 5, 10_000)
	old.audit(t, s.bucket, 20*time.Second)
	ops := s.jetStream(t)
	eventually(t, "waiting for what only the next release reads to be held", 30*time.Second, func() error {
		held, err := queue.HeldReports(t.Context(), ops, queue.StreamName(0))
		if err == nil && len(held) != 5 {
			err = fmt.Errorf("%d reports are held, want 5", len(held))
		}
		return err
	})
	dead, err := ops.Stream(t.Context(), queue.DeadLetterStream)
	if err != nil {
		t.Fatal(err)
	}
	if n := dead.CachedInfo().State.Msgs; n != 0 {
		t.Errorf("%d of them are dead letters", n)
	}
	s.uploader.restartAs("next-uploader")
	awaitHealthy(t, s.uploaderURL)
	if number(t, "E2E_HOLD", 0) > 0 {
		book.audit(t, s.bucket, 6*time.Minute)
	}
}
