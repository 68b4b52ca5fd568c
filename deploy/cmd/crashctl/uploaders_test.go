package main

import (
	"context"
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
	ctx, end := context.WithCancel(t.Context())
	u, err := uploader.Listen(ctx, cfg, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := u.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	stop = func() {
		end()
		<-ended
	}
	t.Cleanup(stop)
	return u.AdminAddr(), stop
}

// An uploader that takes nothing from the queue, or does not answer, needs
// attention.
func TestStatusOfUploaders(t *testing.T) {
	js, environ := applied(t)
	requireWords(t, crashctl(t, environ, "status").out, "uploaders     unknown (UPLOADER_URL is not set)\n")

	address, stop := startUploaderOf(t, environ)
	environ = append(environ, "UPLOADER_URL=http://"+address)
	s := readStatus(t, environ, 0)
	if len(s.Uploaders) != 1 || s.Uploaders[0].BreakerOpen == nil || *s.Uploaders[0].BreakerOpen || *s.Uploaders[0].Concurrency != 3 || s.Uploaders[0].Address != address {
		t.Fatalf("uploaders %+v", s.Uploaders)
	}
	requireWords(t, crashctl(t, environ, "status").out, "uploaders     "+address+" breaker closed, 3 at a time\n")

	publish(t, js, 0, 1000)
	for until := time.Now().Add(time.Minute); ; {
		if got := crashctl(t, environ, "status"); got.code != 0 || time.Now().After(until) {
			requireWords(t, got.out, "uploaders     "+address+" breaker open\n", "uploader "+address+": its breaker is open")
			break
		}
	}
	stop()
	s = readStatus(t, environ, 1)
	requireOne(t, s.Attention, "uploader "+address+" does not say how it is: ", "connection refused")

	// Another program's address may be named by mistake.
	_, monitor, _ := strings.Cut(environ[1], "=")
	s = readStatus(t, append(environ, "UPLOADER_URL="+monitor), 1)
	requireOne(t, s.Attention, "its /metrics answers 404 Not Found")
}
