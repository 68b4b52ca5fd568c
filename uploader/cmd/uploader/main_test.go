package main

import (
	"bytes"
	"context"
	"strings"
	"sync/atomic"
	"testing"
)

// writer tells when a text has been written to it.
type writer struct {
	text  string
	found func()
}

func (w *writer) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(w.text)) {
		w.found()
	}
	return len(p), nil
}

// With nothing there to work with, the program starts, and stops when told to.
func TestRunWithoutQueueAndBucket(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	const nobody = "127.0.0.1:1"
	t.Setenv("AWS_ENDPOINT_URL_S3", "http://"+nobody)
	err := run(ctx, []string{
		"UPLOADER_ADMIN_ADDR=127.0.0.1:0", "NATS_URL=nats://" + nobody, "S3_BUCKET=crashes",
	}, &writer{text: "not every partition can be drained", found: stop})
	if err != nil {
		t.Errorf("run returned %v", err)
	}
}

func TestRunNamesWhatIsMissing(t *testing.T) {
	err := run(t.Context(), nil, &bytes.Buffer{})
	for _, name := range []string{"NATS_URL", "S3_BUCKET"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("run returned %v, want an error that names %s", err, name)
		}
	}
}

// A misspelt variable is logged, and keeps nobody from starting.
func TestRunWarnsOfMisspeltSettings(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	t.Setenv("AWS_REGION", "us-east-1")
	var warned atomic.Bool
	err := run(ctx, []string{
		"UPLOADER_ADMIN_ADDR=127.0.0.1:0", "NATS_URL=nats://127.0.0.1:1", "S3_BUCKET=crashes", "UPLOADER_WORKER=4",
	}, &writer{text: "did you mean UPLOADER_WORKERS?", found: func() { warned.Store(true); stop() }})
	if err != nil || !warned.Load() {
		t.Errorf("run returned %v, warned: %t", err, warned.Load())
	}
}
