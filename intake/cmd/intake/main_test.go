package main

import (
	"bytes"
	"context"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
)

// writer answers each load of throttle rules.
type writer struct{ loaded func() }

func (w *writer) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("throttle rules are in effect")) || bytes.Contains(p, []byte("intake is up")) {
		w.loaded()
	}
	return len(p), nil
}

// Without a queue the program starts; a SIGHUP has it read its rules again, and
// it stops when told to.
func TestRunReloadsRulesAtSIGHUP(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var seen atomic.Int32
	err := run(ctx, []string{
		"INTAKE_ADDR=127.0.0.1:0", "INTAKE_ADMIN_ADDR=127.0.0.1:0", "NATS_URL=nats://127.0.0.1:1", "INTAKE_THROTTLE_RULES=mozilla",
	}, &writer{func() {
		switch seen.Add(1) {
		case 2: // loaded, and up
			if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
				t.Error(err)
			}
		case 3: // loaded again
			stop()
		}
	}})
	if err != nil || seen.Load() != 3 {
		t.Errorf("run returned %v after %d events, want 3", err, seen.Load())
	}
}

// A misspelt variable is logged, and keeps nobody from starting.
func TestRunWarnsOfMisspeltSettings(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var warned atomic.Bool
	err := run(ctx, []string{
		"INTAKE_ADDR=127.0.0.1:0", "INTAKE_ADMIN_ADDR=127.0.0.1:0", "NATS_URL=nats://127.0.0.1:1", "INTAKE_MAX_BODYS=1MB",
	}, writerFunc(func(p []byte) {
		if bytes.Contains(p, []byte("did you mean INTAKE_MAX_BODY?")) {
			warned.Store(true)
			stop()
		}
	}))
	if err != nil || !warned.Load() {
		t.Errorf("run returned %v, warned: %t", err, warned.Load())
	}
}

type writerFunc func([]byte)

func (f writerFunc) Write(p []byte) (int, error) {
	f(p)
	return len(p), nil
}
