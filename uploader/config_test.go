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
