package uploader

import (
	"strings"
	"testing"
	"time"

	"github.com/yagi-crash/yagi/pkg/settings"
)

func TestLoad(t *testing.T) {
	cfg, err := Load([]string{
		"NATS_URL=nats://queue", "S3_BUCKET=crashes", "UPLOADER_WORKERS=3", "UPLOADER_BROKEN_AUTH=u:secret",
	})
	must(t, err)
	if cfg.Workers != 3 || cfg.Bucket != "crashes" || cfg.NATS.URL != "nats://queue" {
		t.Errorf("what was set is %+v", cfg)
	}
	if cfg.AdminAddr != ":8002" || cfg.PutTimeout != 20*time.Second || cfg.Grace != time.Minute || cfg.Log.Level != "info" {
		t.Errorf("the defaults are %+v", cfg)
	}
	for _, s := range settings.Effective(&cfg) {
		if strings.Contains(s.Value, "secret") {
			t.Errorf("%s shows %s", s.Key, s.Value)
		}
	}
}

// An operator learns of everything that is wrong at once.
func TestLoadNamesEveryProblem(t *testing.T) {
	_, err := Load([]string{
		"UPLOADER_WORKERS=0", "UPLOADER_PUT_TIMEOUT=1m", "UPLOADER_RETRY_MIN=0s", "UPLOADER_RETRY_MAX=-1s",
		"UPLOADER_GRACE=-1s", "UPLOADER_PROBE_INTERVAL=0s", "UPLOADER_REPLAY_WINDOW=-1h", "LOG_LEVEL=loud", "NATS_REPLICAS=2",
	})
	if err == nil {
		t.Fatal("all is well with it")
	}
	for _, name := range []string{
		"NATS_URL", "S3_BUCKET", "UPLOADER_WORKERS", "UPLOADER_PUT_TIMEOUT", "UPLOADER_RETRY_MIN",
		"UPLOADER_RETRY_MAX", "UPLOADER_GRACE", "UPLOADER_PROBE_INTERVAL", "UPLOADER_REPLAY_WINDOW", "LOG_LEVEL", "NATS_REPLICAS",
	} {
		if !strings.Contains(err.Error(), "\n"+name+": ") {
			t.Errorf("the error does not name %s:\n%v", name, err)
		}
	}
}

// Each setting that cannot be is refused at start, in one line that begins with it.
func TestSettingsOutOfBounds(t *testing.T) {
	for _, refused := range []string{
		"UPLOADER_ADMIN_ADDR=8002", "UPLOADER_ADMIN_ADDR=:-1", "UPLOADER_WORKERS=0", "UPLOADER_WORKERS=100000",
		"UPLOADER_MEMORY_BUDGET=1B", "UPLOADER_MEMORY_BUDGET=1EiB", "UPLOADER_PUT_TIMEOUT=1ns", "UPLOADER_PUT_TIMEOUT=1m", "UPLOADER_PUT_TIMEOUT=20",
		"UPLOADER_PROBE_INTERVAL=1ns", "UPLOADER_PROBE_INTERVAL=8760h", "UPLOADER_RETRY_MIN=1ns", "UPLOADER_RETRY_MAX=500ms", "UPLOADER_RETRY_MAX=8760h",
		"UPLOADER_REPLAY_WINDOW=-1h", "UPLOADER_REPLAY_WINDOW=1000000h", "UPLOADER_REPLAY_WINDOW=9999999h", "UPLOADER_GRACE=8760h", "UPLOADER_GRACE=-1s",
		"UPLOADER_BROKEN_AUTH=user", "UPLOADER_BROKEN_AUTH=user:", "UPLOADER_BROKEN_AUTH=user:pw\n",
	} {
		key, _, _ := strings.Cut(refused, "=")
		_, err := Load([]string{"NATS_URL=nats://queue", "S3_BUCKET=crashes", refused})
		if err == nil || !strings.HasPrefix(err.Error(), "reading the settings:\n"+key+": ") || strings.Count(err.Error(), "\n") != 1 {
			t.Errorf("%q: %v, want one line with %s", refused, err, key)
		}
	}
}

func TestMoreWorkersThanReports(t *testing.T) {
	for _, tt := range []struct {
		environ  []string
		refused  bool
		warnings int
	}{
		{[]string{"UPLOADER_WORKERS=16", "NATS_MAX_ACK_PENDING=15"}, true, 1},
		{[]string{"UPLOADER_WORKERS=16", "NATS_MAX_ACK_PENDING=16"}, false, 1},
		{[]string{"UPLOADER_WORKERS=16", "NATS_MAX_ACK_PENDING=4", "NATS_PARTITIONS=4"}, false, 1},
		{[]string{"UPLOADER_WORKERS=16", "NATS_MAX_ACK_PENDING=24"}, false, 0},
		{[]string{"UPLOADER_MEMORY_BUDGET=1MiB"}, false, 0}, // larger reports are taken alone
	} {
		environ := append(tt.environ, "NATS_URL=nats://queue", "S3_BUCKET=crashes")
		cfg, err := Load(environ)
		if (err != nil) != tt.refused || err != nil && !strings.Contains(err.Error(), "UPLOADER_WORKERS: 16 is above NATS_MAX_ACK_PENDING") {
			t.Errorf("%v: %v", tt.environ, err)
		}
		if all := settings.Warnings(environ, &cfg); len(all) != tt.warnings {
			t.Errorf("%v: warnings %v, want %d", tt.environ, all, tt.warnings)
		}
	}
}
