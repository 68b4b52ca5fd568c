package uploader

import (
	"reflect"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/yagi-crash/yagi/pkg/layout"
	"github.com/yagi-crash/yagi/uploader/internal/objstore"
)

func TestBucketSettings(t *testing.T) {
	needed := []string{"NATS_URL=nats://queue", "S3_BUCKET=crashes"}
	cfg, err := Load(needed)
	must(t, err)
	if cfg.S3.Addressing != objstore.AddressAuto || cfg.S3.Checksum != objstore.ChecksumSHA256 {
		t.Errorf("the defaults are %+v", cfg.S3)
	}
	_, err = Load(append(needed,
		"S3_ADDRESSING_STYLE=host", "S3_CHECKSUM=crc32", "S3_SSE=aes", "S3_SSE_KMS_KEY_ID=key", "S3_ACL=public-read", "S3_STORAGE_CLASS=cold one"))
	for _, name := range []string{"S3_ADDRESSING_STYLE", "S3_CHECKSUM", "S3_SSE", "S3_SSE_KMS_KEY_ID", "S3_ACL", "S3_STORAGE_CLASS"} {
		if err == nil || !strings.Contains(err.Error(), "\n"+name+": ") {
			t.Errorf("the error does not name %s:\n%v", name, err)
		}
	}
}

// What is set goes with each object.
func TestBucketSettingsReachTheStore(t *testing.T) {
	cfg, err := Load([]string{
		"NATS_URL=nats://queue", "S3_BUCKET=crashes", "S3_ADDRESSING_STYLE=path", "S3_CHECKSUM=none", "S3_SSE=aws:kms",
		"S3_SSE_KMS_KEY_ID=key", "S3_ACL=private", "S3_STORAGE_CLASS=STANDARD_IA", "UPLOADER_WORKERS=3",
	})
	must(t, err)
	got := cfg.objstore(zerolog.Nop())
	want := objstore.Config{
		Bucket: "crashes", Addressing: "path", Checksum: "none", SSE: "aws:kms", KMSKey: "key", ACL: "private",
		StorageClass: "STANDARD_IA", PutTimeout: cfg.PutTimeout, Concurrency: 3, Log: zerolog.Nop(),
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the store has %+v, want %+v", got, want)
	}
}

// A replay goes on where the probe alone is refused, and gives a report up that the
// bucket refuses while it takes the like of it.
func TestReplayWithoutAProbe(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	f := w.newFront()
	report := newReport(t, "dump")
	no := refusalOf{403, "AccessDenied"}
	f.onKey(func(key string) *refusalOf {
		if strings.HasPrefix(key, layout.ProbePrefix) || strings.HasSuffix(key, string(report.ID)) {
			return &no
		}
		return nil
	})
	js, err := jetstream.New(w.nc)
	must(t, err)
	r, err := NewReplayer(t.Context(), w.cfg, js, func(err error) { t.Errorf("the replay waits: %v", err) })
	must(t, err)
	must(t, r.Probe(t.Context()))
	msg := message(t, report)
	if err := r.Store(t.Context(), "CRASHES_0", msg.Header, msg.Data); objstore.Class(err) != objstore.ClassDenied {
		t.Errorf("a report that is refused: %v", err)
	}
	other := message(t, newReport(t, "dump"))
	if err := r.Store(t.Context(), "CRASHES_0", other.Header, other.Data); err != nil {
		t.Error(err)
	}
	f.onKey(always(403, "AccessDenied"))
	if err := r.Probe(t.Context()); objstore.Class(err) != objstore.ClassDenied {
		t.Errorf("the bucket refuses everything: %v", err)
	}
}
