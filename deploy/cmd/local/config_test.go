package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What the shell has set for production does not lead the local program there,
// and values are taken as they are.
func TestLoad(t *testing.T) {
	c, err := load([]string{
		"NATS_URL=nats://production", "S3_BUCKET=production", "INTAKE_ADDR=", "INTAKE_SUBMITTER_TOKEN=c2VjcmV0Cg==", "LOG_FORMAT=json",
	}, "console")
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string][2]string{
		"NATS_URL":               {c.intake.NATS.URL, "nats://embedded"},
		"S3_BUCKET":              {c.uploader.Bucket, "crashes"},
		"INTAKE_ADDR":            {c.intake.Addr, "127.0.0.1:8000"},
		"INTAKE_SUBMITTER_TOKEN": {c.intake.SubmitterToken.Reveal(), "c2VjcmV0Cg=="},
		"LOG_FORMAT":             {c.intake.Log.Format, "json"},
	} {
		if got[0] != got[1] {
			t.Errorf("%s is %q, want %q", name, got[0], got[1])
		}
	}
	if c.intake.MemoryBudget == 0 {
		t.Error("intake has no memory for reports where INTAKE_MEMORY_BUDGET is not set")
	}
}

// What intake was given by a path is found after the working directory has
// changed.
func TestPathsAreAbsolute(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.WriteFile("rules.yaml", []byte("rules: []"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := load([]string{"INTAKE_THROTTLE_RULES=./rules.yaml", "INTAKE_SPOOL_DIR=."}, "console")
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(dir, "rules.yaml"); c.intake.ThrottleRules != want || c.intake.ShadowRules != "" {
		t.Errorf("the rules are %q and %q, want %q and none", c.intake.ThrottleRules, c.intake.ShadowRules, want)
	}
	if c.intake.SpoolDir != dir {
		t.Errorf("the spool lies in %q, want %q", c.intake.SpoolDir, dir)
	}
}

// Addresses that cannot be, or that are the same, are told at once, each once, and no
// two of the defaults are the same.
func TestAddresses(t *testing.T) {
	if _, err := load(nil, "json"); err != nil {
		t.Error(err)
	}
	_, err := load([]string{"INTAKE_ADDR=8000", "UPLOADER_ADMIN_ADDR=:8001", "LOCAL_S3_ADDR=127.0.0.1:8222", "LOCAL_S3_WEB_ADDR=a b:1", "INTAKE_GRACE=1ns"}, "json")
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"\nINTAKE_ADDR: \"8000\" is not host:port", "\nINTAKE_GRACE: ", "\nUPLOADER_ADMIN_ADDR: :8001 is taken by INTAKE_ADMIN_ADDR",
		"\nLOCAL_S3_ADDR: 127.0.0.1:8222 is taken by LOCAL_NATS_MONITOR_ADDR", "\nLOCAL_S3_WEB_ADDR: \"a b:1\"",
	} {
		if strings.Count(err.Error(), want) != 1 {
			t.Errorf("%q is not there once:\n%v", want, err)
		}
	}
}
