package e2e

import (
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/yagi-crash/yagi/pkg/layout"
)

// What somebody meets who tries Yagi out: one program, a line to paste, the
// crash in the bucket, and all of it still there the next day.
func TestLocalKeepsWhatItHas(t *testing.T) {
	s3Addr, intakeAddr := freeAddr(t), freeAddr(t)
	env := []string{
		"LOCAL_DATA_DIR=" + t.TempDir(), "LOCAL_NATS_ADDR=" + freeAddr(t), "LOCAL_NATS_MONITOR_ADDR=" + freeAddr(t),
		"LOCAL_S3_ADDR=" + s3Addr, "LOCAL_S3_WEB_ADDR=" + freeAddr(t),
		"INTAKE_ADDR=" + intakeAddr, "INTAKE_ADMIN_ADDR=" + freeAddr(t), "UPLOADER_ADMIN_ADDR=" + freeAddr(t),
	}
	local := newProcess(t, "local", env)
	awaitHealthy(t, "http://"+intakeAddr)
	b := openBucket("http://"+s3Addr, "crashes", "local", "local-secret")
	book, c := newLedger(), newClient("http://"+intakeAddr, 3, 0)

	for range 2 {
		dump := c.dump(7_000_000)
		id, err := c.post(t.Context(), dump)
		if err != nil {
			t.Fatal(err)
		}
		book.enter(id, dump)
		book.audit(t, b, 2*time.Second) // also what the run before has left
		stop(t, local)
		if !strings.Contains(local.out.String(), "| curl -F ProductName=") || !strings.Contains(local.out.String(), "http://"+intakeAddr+"/submit") {
			t.Errorf("no line to paste in:\n%s", local.out)
		}
		local.start()
		awaitHealthy(t, "http://"+intakeAddr)
	}

	// A second one on the same folder would damage the first one's.
	second := newProcess(t, "local", env)
	<-second.ended()
	if second.exitCode() == 0 || !strings.Contains(second.out.String(), "another server is running") {
		t.Errorf("a second program on the folder ended with code %d:\n%s", second.exitCode(), second.out)
	}
	book.audit(t, b, 2*time.Second)
	stop(t, local)
}

// stop ends the program as Ctrl-C does.
func stop(t *testing.T, p *process) {
	t.Helper()
	p.signal(syscall.SIGINT)
	select {
	case <-p.ended():
		if code := p.exitCode(); code != 0 {
			t.Errorf("%s ended with code %d", p.name, code)
		}
	case <-time.After(5 * time.Second):
		t.Fatalf("%s still runs 5 s after SIGINT", p.name)
	}
}

// Every shape in which clients send reports goes all the way, and lies where
// Socorro looks for it within two seconds.
func TestEveryShapeReachesTheBucket(t *testing.T) {
	s := startSystem(t)
	for name, shape := range shapes(t) {
		t.Run(name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/submit", shape.body)
			if err != nil {
				t.Fatal(err)
			}
			r.Header = shape.header
			r.ContentLength = shape.length
			id, err := send(http.DefaultClient, r)
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, "looking for raw_crash", 2*time.Second, func() error {
				_, err := s.bucket.read(t.Context(), layout.RawCrash(id))
				return err
			})
			for dump, want := range shape.dumps {
				got, err := s.bucket.read(t.Context(), layout.Dump(dump, id))
				if err != nil || string(got) != want {
					t.Errorf("dump %s: %d bytes, %v, want the %d that were sent", dump, len(got), err, len(want))
				}
			}
			names, err := s.bucket.read(t.Context(), layout.DumpNames(id))
			if err != nil || strings.Count(string(names), `"`) != 2*len(shape.dumps) {
				t.Errorf("dump_names %s, %v", names, err)
			}
		})
	}
}
