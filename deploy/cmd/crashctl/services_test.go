package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/yagi-crash/yagi/uploader"
)

// startUploaderOf runs an uploader whose bucket nobody serves.
func startUploaderOf(t *testing.T, environ []string) (address string, stop func()) {
	t.Helper()
	closed := listen(t)
	closed.Close()
	cfg, err := uploader.Load(append(environ, "UPLOADER_ADMIN_ADDR=127.0.0.1:0", "UPLOADER_WORKERS=3", "UPLOADER_GRACE=0s", "S3_BUCKET=crashes"))
	if err != nil {
		t.Fatal(err)
	}
	cfg.S3 = uploader.S3{Endpoint: "http://" + closed.Addr().String(), Region: "us-east-1", AccessKey: "a", SecretKey: "b"}
	u, err := uploader.Listen(t.Context(), cfg, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	return u.AdminAddr(), background(t, u.Run)
}

// An intake that promises nothing, or does not answer, needs attention, also when the
// stream looks well.
func TestStatusOfIntakes(t *testing.T) {
	_, environ := applied(t, "NATS_STREAM_MAX_BYTES=1MiB")
	requireWords(t, crashctl(t, environ, "status").out, "intakes       unknown (INTAKE_URL is not set)\n")

	url, stop := startIntake(t, environ)
	_, address, _ := strings.Cut(url, "://")
	environ = append(environ, "INTAKE_URL="+url)
	s := readStatus(t, environ, 0)
	if len(s.Intakes) != 1 || s.Intakes[0].Address != address || s.Intakes[0].Trouble == nil || len(s.Intakes[0].Trouble) > 0 {
		t.Fatalf("intakes %+v", s.Intakes)
	}
	requireWords(t, crashctl(t, environ, "status").out, "intakes       "+address+" well\n")

	elsewhere, _ := startIntake(t, append(slices.Clone(environ), "INTAKE_SUBMIT_PATHS=/cr/report"))
	readStatus(t, append(slices.Clone(environ), "INTAKE_URL="+elsewhere), 0)

	// None of these fits into the stream.
	if got := crashctl(t, environ, "load", "--url="+url, "--size=5MB", "--rate=2", "--for=7s", "--connections=4"); got.code != 1 {
		t.Fatalf("%+v", got)
	}
	requireWords(t, crashctl(t, environ, "status").out, "intakes       "+address+" in trouble\n")
	s = readStatus(t, environ, 1)
	requireOne(t, s.Attention, "intake "+address+": publish: no report was promised for ", "maximum bytes")

	// Without the queue it is asked all the same.
	closed := listen(t)
	closed.Close()
	alone := append(slices.Clone(environ), "NATS_URL=nats://"+closed.Addr().String())
	got := crashctl(t, alone, "status", "--timeout=1s")
	if got.code != 1 {
		t.Errorf("%+v", got)
	}
	requireWords(t, got.out, "intakes       "+address+" in trouble\n", "cannot tell:\n  connecting to NATS", "needs attention:\n  intake "+address+": publish: ")

	stop()
	s = readStatus(t, environ, 1)
	requireOne(t, s.Attention, "intake "+address+" does not say how it is: ", "connection refused")
}

// An uploader that takes nothing from the queue, or does not answer, needs
// attention.
func TestStatusOfUploaders(t *testing.T) {
	js, environ := applied(t)
	requireWords(t, crashctl(t, environ, "status").out, "uploaders     unknown (UPLOADER_URL is not set)\n")

	address, stop := startUploaderOf(t, environ)
	environ = append(environ, "UPLOADER_URL=http://"+address)
	s := readStatus(t, environ, 1)
	requireOne(t, s.Attention, "uploader "+address+": bucket: ", "connection refused")
	if len(s.Uploaders) != 1 || s.Uploaders[0].BreakerOpen == nil || *s.Uploaders[0].BreakerOpen || *s.Uploaders[0].Concurrency != 3 || s.Uploaders[0].Address != address {
		t.Fatalf("uploaders %+v", s.Uploaders)
	}
	requireWords(t, crashctl(t, environ, "status").out, "uploaders     "+address+" breaker closed, 3 at a time\n")

	publish(t, js, 0, 1000)
	for until := time.Now().Add(time.Minute); ; {
		if got := crashctl(t, environ, "status"); strings.Contains(got.out, "breaker open") || time.Now().After(until) {
			requireWords(t, got.out, "uploaders     "+address+" breaker open\n", "uploader "+address+": its breaker is open")
			break
		}
	}
	_, monitor, _ := strings.Cut(environ[1], "=")
	for other, why := range map[string]string{
		monitor:             "its /__heartbeat__ answers 404 Not Found",
		"http://" + address: "its /metrics answers 200 OK",
	} {
		s = readStatus(t, append(slices.Clone(environ), "UPLOADER_URL=", "INTAKE_URL="+other), 1)
		requireOne(t, s.Attention, why)
	}
	stop()
	s = readStatus(t, environ, 1)
	requireOne(t, s.Attention, "uploader "+address+" does not say how it is: ", "connection refused")

	// An intake has no breaker, and other programs have neither that nor a heartbeat.
	url, _ := startIntake(t, environ)
	s = readStatus(t, append(environ, "UPLOADER_URL="+url), 1)
	requireOne(t, s.Attention, "its /metrics answers 404 Not Found")
}
