//go:build faults

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/queue"
)

// slowClients is a crowd of clients on bad networks: each sends a report of 400 kB
// a little at a time, over Lasting, and they arrive evenly over Arriving.
type slowClients struct {
	n                 int
	arriving, lasting time.Duration
	maxRSS            int64 // bytes of intake at its peak
}

// A crowd of slow clients costs intake little memory, and every one of them is
// promised its report. The real sizes are those of make crowd.
func TestSlowClients(t *testing.T) {
	crowd := slowClients{n: 300, lasting: 5 * time.Second, maxRSS: 96 << 20}
	if text := os.Getenv("E2E_SLOW"); text != "" { // clients,arriving,lasting,MiB
		crowd = readCrowd(t, text)
	}
	s := startSystem(t)
	s.uploader.kill() // the crowd is all that this machine has to serve
	report, length := slowReport()
	pieces := make([][]byte, 0, slowPieces)
	for rest := report; len(rest) > 0; {
		n := min(len(report)/slowPieces+1, len(rest))
		pieces, rest = append(pieces, rest[:n]), rest[n:]
	}
	var promised atomic.Int64
	clients, ctx := errgroup.WithContext(t.Context())
	for i := range crowd.n {
		clients.Go(func() error {
			rest(ctx, crowd.arriving*time.Duration(i)/time.Duration(crowd.n))
			if err := crowd.post(ctx, strings.TrimPrefix(s.url, "http://"), length, pieces); err != nil {
				return fmt.Errorf("client %d: %w", i, err)
			}
			promised.Add(1)
			return nil
		})
	}
	err := clients.Wait()
	peak := peakRSS(t, s.intake.cmd.Process.Pid)
	t.Logf("%d clients, arriving over %s, each lasting %s: %d promised, intake's peak RSS %.1f MiB",
		crowd.n, crowd.arriving, crowd.lasting, promised.Load(), float64(peak)/(1<<20))
	if err != nil {
		t.Error(err)
	}
	if queued := s.queued(t); queued != uint64(promised.Load()) {
		t.Errorf("%d reports are in the queue, %d were promised", queued, promised.Load())
	}
	if peak > crowd.maxRSS {
		t.Errorf("intake's peak RSS is %d MiB, want at most %d", peak>>20, crowd.maxRSS>>20)
	}
}

// queued is how many reports the queue has.
func (s *system) queued(t *testing.T) uint64 {
	t.Helper()
	stream, err := s.jetStream(t).Stream(t.Context(), queue.StreamName(0))
	if err != nil {
		t.Fatal(err)
	}
	return stream.CachedInfo().State.Msgs
}

func readCrowd(t *testing.T, text string) (c slowClients) {
	t.Helper()
	words := strings.Split(text, ",")
	if len(words) != 4 {
		t.Fatalf("E2E_SLOW=%s, want clients,arriving,lasting,MiB", text)
	}
	n, err := strconv.Atoi(words[0])
	mib, errMiB := strconv.Atoi(words[3])
	arriving, errArriving := time.ParseDuration(words[1])
	lasting, errLasting := time.ParseDuration(words[2])
	for _, err := range []error{err, errMiB, errArriving, errLasting} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return slowClients{n: n, arriving: arriving, lasting: lasting, maxRSS: int64(mib) << 20}
}

// slowPieces is how many writes a client makes of its report.
const slowPieces = 120

func slowReport() (body []byte, length int) {
	var b strings.Builder
	b.WriteString("--B\r\nContent-Disposition: form-data; name=\"ProductName\"\r\n\r\nSlow\r\n")
	b.WriteString("--B\r\nContent-Disposition: form-data; name=\"" + crash.MinidumpName + "\"; filename=\"a.dmp\"\r\n")
	b.WriteString("Content-Type: application/octet-stream\r\n\r\n")
	b.WriteString(strings.Repeat("MDMP\x93\xa7\x00\x00", 50_000) + "\r\n--B--\r\n")
	return []byte(b.String()), b.Len()
}

// post sends one report at its pace. An error is any answer but CrashID=.
func (c slowClients) post(ctx context.Context, addr string, length int, pieces [][]byte) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	head := "POST /submit HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=B\r\nContent-Length: " + strconv.Itoa(length) + "\r\n\r\n"
	if _, err := io.WriteString(conn, head); err != nil {
		return err
	}
	for _, piece := range pieces {
		if _, err := conn.Write(piece); err != nil {
			return err
		}
		rest(ctx, c.lasting/time.Duration(len(pieces)))
	}
	if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	response, err := http.ReadResponse(bufio.NewReaderSize(conn, 512), nil)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil || !strings.HasPrefix(string(text), "CrashID=bp-") {
		return fmt.Errorf("answered %d %q, %w", response.StatusCode, text, err)
	}
	return nil
}

// peakRSS is the most memory that a process had, in bytes.
func peakRSS(t *testing.T, pid int) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if text, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			var kib int64
			if _, err := fmt.Sscanf(text, "%d kB", &kib); err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatal("no VmHWM")
	return 0
}
