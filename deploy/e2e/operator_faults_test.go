//go:build faults

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// crashctl runs the operators' tool as the user that operators are given.
func (s *system) crashctl(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(suite.bin, "crashctl"), args...)
	cmd.Env = append(os.Environ(),
		"NATS_URL="+s.natsURL("ops:o"), "S3_BUCKET="+s.bucket.name, "AWS_ENDPOINT_URL_S3="+suite.s3.Endpoint(),
		"AWS_REGION=us-east-1", "AWS_ACCESS_KEY_ID="+accessKey, "AWS_SECRET_ACCESS_KEY="+secretKey)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("crashctl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// step is a command, and words of what it says.
type step struct{ command, says string }

func (s *system) operate(t *testing.T, steps []step) {
	t.Helper()
	for _, step := range steps {
		if out := s.crashctl(t, strings.Fields(step.command)...); !strings.Contains(out, step.says) {
			t.Errorf("crashctl %s says\n%s\nwant %q", step.command, out, step.says)
		}
	}
}

// An operator's user may do all that crashctl does, on one server and on three.
func TestOperatorsMayDoTheirWork(t *testing.T) {
	for name, start := range map[string]func(t *testing.T) *system{
		"one server":    func(t *testing.T) *system { t.Helper(); return startSystem(t, "UPLOADER_RETRY_MIN=200ms") },
		"three servers": func(t *testing.T) *system { t.Helper(); return startCluster(t, "UPLOADER_RETRY_MIN=200ms").system },
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			book := newLedger()
			s.postAll(t, book, 2, 5, 50_000)
			c := newClient(s.url, 30, 0)
			book.post(t, c, c.bytes(9_000_000))
			book.audit(t, s.bucket, time.Minute)
			s.operate(t, []step{
				{"replay --since 1h --product Test", "CRASHES_0: 11 report(s)"},
				{"replay --since 1h --product Test --rate 1000 --yes", "11 report(s) are stored again"},
				{"pause --for 1m --yes", "done: pause"},
				{"resume --yes", "done: resume"},
			})
			s.buryOne(t)
			s.operate(t, []step{
				{"audit --since 1h --read", "12 report(s) in the queue: 11 stored, 0 waiting, 1 dead letter(s), 0 lost"},
				{"dead list", "damaged"},
				{"dead show --all", "after 5 attempt(s)"},
				{"dead requeue --all --yes", "done: put back"},
			})
			eventually(t, "waiting for what was put back to die again", time.Minute, func() error {
				if out := s.crashctl(t, "dead", "list"); !strings.Contains(out, "damaged") {
					return errStill
				}
				return nil
			})
			s.crashctl(t, "dead", "drop", "--all", "--yes")
			if out := s.crashctl(t, "dead", "list"); out != "no dead letters\n" {
				t.Errorf("after all were dropped there are\n%s", out)
			}
		})
	}
}

// buryOne publishes a damaged report, and waits until it is a dead letter.
func (s *system) buryOne(t *testing.T) {
	t.Helper()
	if _, err := s.publisher(t).PublishMsg(t.Context(), poison(t, "damaged")[0]); err != nil {
		t.Fatal(err)
	}
	eventually(t, "waiting for a dead letter", time.Minute, func() error {
		if out := s.crashctl(t, "dead", "list"); !strings.Contains(out, "damaged") {
			return errStill
		}
		return nil
	})
}
