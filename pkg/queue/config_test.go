package queue_test

import (
	"strings"
	"testing"

	"github.com/yagi-crash/yagi/pkg/queue"
	"github.com/yagi-crash/yagi/pkg/settings"
)

// Each setting that cannot be is refused at start, by name, and no address is shown.
func TestConfigBounds(t *testing.T) {
	for _, refused := range []string{
		"NATS_URL=,", "NATS_URL= , ", "NATS_URL=nats://", "NATS_URL=nats://u:s3cret@h:bad", "NATS_URL=nats://u:s3cret%@h", "NATS_URL=h,nats://u:s3cret@h:70000",
		"NATS_URL=nats://u:s3cret@h:0", "NATS_URL=tsl://u:s3cret@h", "NATS_URL=ws://u:s3cret@h:80,nats://h2", "NATS_URL=nats://u:s3cret@h\x1b[2J",
		"NATS_PARTITIONS=0", "NATS_PARTITIONS=65", "NATS_PARTITIONS=-1", "NATS_REPLICAS=2", "NATS_REPLICAS=7",
		"NATS_STREAM_MAX_BYTES=0", "NATS_STREAM_MAX_BYTES=1kB", "NATS_STREAM_MAX_BYTES=1EiB", "NATS_STREAM_MAX_BYTES=16EiB",
		"NATS_MAX_ACK_PENDING=0", "NATS_MAX_ACK_PENDING=-1", "NATS_MAX_ACK_PENDING=9223372036854775807", "NATS_MAX_ACK_PENDING=9223372036854775808",
	} {
		key, _, _ := strings.Cut(refused, "=")
		var c queue.Config
		err := settings.Load([]string{"NATS_URL=nats://h", refused}, &c)
		if err == nil || !strings.HasPrefix(err.Error(), "reading the settings:\n"+key+": ") || strings.Count(err.Error(), "\n") != 1 {
			t.Errorf("%q: %v, want one line with %s", refused, err, key)
		}
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: the error shows the password: %v", refused, err)
		}
	}
}

// What nats.go takes is let through.
func TestConfigTakesWhatWorks(t *testing.T) {
	for _, taken := range []string{
		"NATS_URL=h", "NATS_URL=h:4222,", "NATS_URL=nats://a:4222,\n  tls://u:p%25@b:4222\n", "NATS_URL=token@h", "NATS_URL=ws://a,wss://b", "NATS_URL=nats://[::1]:4222/",
		"NATS_STREAM_MAX_BYTES=100TiB", "NATS_REPLICAS=5",
	} {
		var c queue.Config
		environ := []string{"NATS_URL=nats://h", taken}
		if err := settings.Load(environ, &c); err != nil {
			t.Errorf("%q: %v", taken, err)
		}
		if all := settings.Warnings(environ, &c); len(all) > 0 {
			t.Errorf("%q: %v", taken, all)
		}
	}
	var c queue.Config
	environ := []string{"NATS_URL=http://u:p@h:8222"}
	if err := settings.Load(environ, &c); err != nil {
		t.Error(err)
	}
	if all := settings.Warnings(environ, &c); len(all) != 1 || all[0].Key != "NATS_URL" {
		t.Errorf("warnings %v, want one of the monitoring address", all)
	}
}
