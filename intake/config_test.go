package intake_test

import (
	"strings"
	"testing"

	"github.com/yagi-crash/yagi/intake"
	"github.com/yagi-crash/yagi/pkg/settings"
)

// Each setting that cannot be is refused at start, in one line that begins with it.
func TestSettingsOutOfBounds(t *testing.T) {
	t.Parallel()
	for _, refused := range []string{
		"INTAKE_ADDR=8000", "INTAKE_ADDR=:99999", "INTAKE_ADMIN_ADDR=nowhere", "INTAKE_ADMIN_ADDR=:8000", "INTAKE_ADMIN_ADDR=127.0.0.1:8000",
		"INTAKE_MAX_CONNECTIONS=0", "INTAKE_MAX_CONNECTIONS=-5", "INTAKE_MAX_CONNECTIONS=9223372036854775808",
		"INTAKE_MAX_HEADER_BYTES=1B", "INTAKE_MAX_HEADER_BYTES=1EiB", "INTAKE_MAX_HEADER_FIELDS=1", "INTAKE_MAX_HEADER_FIELDS=1000000000",
		"INTAKE_BODY_STALL=1ns", "INTAKE_BODY_STALL=-1s", "INTAKE_BODY_STALL=8760h", "INTAKE_BODY_STALL=9999999h", "INTAKE_BODY_STALL=30",
		"INTAKE_BODY_MIN_RATE=1GB", "INTAKE_BODY_MIN_RATE=-1", "INTAKE_BODY_MIN_RATE=NaN",
		"INTAKE_MEMORY_BUDGET=1B", "INTAKE_MEMORY_BUDGET=1EiB", "INTAKE_SPOOL_BUDGET=1EiB", "INTAKE_PUBLISH_INFLIGHT_BYTES=1B", "INTAKE_PUBLISH_INFLIGHT_BYTES=1EiB",
		"INTAKE_PUBLISH_TIMEOUT=1ns", "INTAKE_PUBLISH_TIMEOUT=3m", "INTAKE_PUBLISH_TIMEOUT=-1s", "INTAKE_LAME_DUCK=8760h", "INTAKE_LAME_DUCK=-1s",
		"INTAKE_GRACE=1ns", "INTAKE_GRACE=8760h", "INTAKE_BROKEN_AUTH=s3cret", "INTAKE_BROKEN_AUTH=:pw", "INTAKE_BROKEN_AUTH=s3cret:", "INTAKE_BROKEN_AUTH=user:pw\n",
		"INTAKE_SUBMITTER_TOKEN=abc\n", "INTAKE_SUBMITTER_TOKEN= abc", "INTAKE_SUBMITTER_TOKEN=a\x1bc", "INTAKE_MAX_BODY=0", "INTAKE_MAX_BODY=1B", "INTAKE_MAX_INFLATED=2B", "INTAKE_MAX_JSON=2B", "INTAKE_MAX_ANNOTATION_NAME=1B", "INTAKE_MAX_PART_HEADER_BYTES=1B",
		"INTAKE_FOREIGN_UUID=yes",
		"NATS_STREAM_MAX_BYTES=2MiB", "LOG_LEVEL=loud", "INTAKE_PPROF=maybe", "INTAKE_SPOOL_DIR=/tmp\x1b[2J",
	} {
		key, value, _ := strings.Cut(refused, "=")
		_, err := intake.Load([]string{"NATS_URL=nats://127.0.0.1", refused})
		if err == nil || !strings.HasPrefix(err.Error(), "reading the settings:\n"+key+": ") || strings.Count(err.Error(), "\n") != 1 {
			t.Errorf("%q: %v, want one line with %s", refused, err, key)
		}
		secret := strings.HasSuffix(key, "TOKEN") || strings.HasSuffix(key, "AUTH")
		if err != nil && secret && strings.Contains(err.Error(), strings.TrimSpace(value)) {
			t.Errorf("%q: the error shows it: %v", refused, err)
		}
	}
}

// Settings that contradict each other are refused, with both names.
func TestContradictions(t *testing.T) {
	t.Parallel()
	_, err := intake.Load([]string{
		"NATS_URL=nats://127.0.0.1", "NATS_STREAM_MAX_BYTES=10MiB", "INTAKE_MEMORY_BUDGET=4MiB", "INTAKE_SPOOL_BUDGET=8MiB", "INTAKE_ADMIN_ADDR=:8000",
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, words := range [][]string{
		{"\nINTAKE_ADMIN_ADDR: :8000 is taken by INTAKE_ADDR"},
		{"\nINTAKE_MEMORY_BUDGET: 4 MiB", "INTAKE_SPOOL_BUDGET, 8 MiB", "INTAKE_MAX_BODY, 25 MiB"},
		{"\nNATS_STREAM_MAX_BYTES: 10 MiB is less than one report of INTAKE_MAX_BODY, 25 MiB"},
	} {
		for _, w := range words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%q is not in:\n%v", w, err)
			}
		}
	}
	// A value that cannot be read is not compared with others.
	_, err = intake.Load([]string{"NATS_URL=nats://127.0.0.1", "INTAKE_MEMORY_BUDGET=4MiB", "INTAKE_SPOOL_BUDGET=much", "INTAKE_ADDR=", "INTAKE_GRACE=1y"})
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("got %v, want a line for each of the two that cannot be read", err)
	}
}

// What works today, if barely, is taken with a warning, and the defaults without one.
func TestDoubtfulSettings(t *testing.T) {
	t.Parallel()
	for setting, warnings := range map[string]int{
		"":                            0,
		"INTAKE_BODY_MIN_RATE=0":      0,
		"INTAKE_SPOOL_BUDGET=0":       0,
		"INTAKE_LAME_DUCK=15s":        0,
		"INTAKE_BROKEN_AUTH=u:p:q":    0,
		"INTAKE_SUBMITTER_TOKEN=a b":  0,
		"INTAKE_PUBLISH_TIMEOUT=5s":   1,
		"INTAKE_BODY_STALL=1s":        1,
		"INTAKE_BODY_MIN_RATE=100kB":  1,
		"INTAKE_MAX_INFLATED=20MiB":   1,
		"INTAKE_MAX_BODYS=1":          1,
		"INTAKE_SERVICE_HOST=1.2.3.4": 0,
		"UPLOADER_WORKERZ=4":          0,
	} {
		environ := []string{"NATS_URL=nats://127.0.0.1", setting}
		c, err := intake.Load(environ)
		if err != nil {
			t.Errorf("%s: %v", setting, err)
		}
		if all := settings.Warnings(environ, &c); len(all) != warnings {
			t.Errorf("%s: warnings %v, want %d", setting, all, warnings)
		}
	}
}
