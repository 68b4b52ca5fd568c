//go:build faults

package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// Logs that nobody reads, and logs whose reader goes, hold up neither tier.
func TestLogsThatNobodyReads(t *testing.T) {
	t.Parallel()
	s := startSystem(t)
	var readers []*os.File
	for _, p := range []*process{s.intake, s.uploader} {
		readers = append(readers, p.unread(t))
	}
	awaitHealthy(t, s.url)
	awaitHealthy(t, s.uploaderURL)
	book, c := newLedger(), newClient(s.url, 1, 0)
	const reports = 400 // of one line each, which a pipe has no room for
	for range reports {
		book.post(t, c, c.bytes(1000))
	}
	book.audit(t, s.bucket, 20*time.Second)
	for _, r := range readers {
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for range 20 {
		book.post(t, c, c.bytes(1000))
	}
	book.audit(t, s.bucket, 20*time.Second)
	for _, p := range []*process{s.intake, s.uploader} {
		p.signal(syscall.SIGTERM)
		<-p.ended()
		if p.exitCode() != 0 {
			t.Errorf("%s ended with code %d", p.name, p.exitCode())
		}
	}
	if book.size() != reports+20 {
		t.Errorf("%d reports were promised, want %d", book.size(), reports+20)
	}
}

// unread starts a process anew, with its output in a pipe of which nobody reads but
// the end that is returned.
func (p *process) unread(t *testing.T) *os.File {
	t.Helper()
	fifo := filepath.Join(t.TempDir(), "log")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	end, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	p.kill()
	p.program, p.args = "/bin/sh", []string{"-c", `exec "$0" >"$1" 2>&1`, filepath.Join(suite.bin, p.name), fifo}
	p.start()
	t.Cleanup(func() {
		if err := end.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	})
	return end
}
