package settings_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/yagi-crash/yagi/pkg/settings"
)

func TestBytes(t *testing.T) {
	for _, tt := range []struct {
		text string
		want settings.Bytes
		back string
	}{
		{"25MiB", 25 << 20, "25 MiB"},
		{"25 mib", 25 << 20, "25 MiB"},
		{"1 GB", 1e9, "1 GB"},
		{"32000000", 32e6, "32 MB"},
		{"1048576", 1 << 20, "1 MiB"},
		{"1.5KiB", 1536, "1536 B"},
		{"0", 0, "0 B"},
		{"9223372036854775807", 1<<63 - 1, "9223372036854775807 B"},
	} {
		var got settings.Bytes
		if err := got.UnmarshalText([]byte(tt.text)); err != nil || got != tt.want {
			t.Errorf("%q = %d, %v; want %d", tt.text, got, err, tt.want)
		}
		if got.String() != tt.back {
			t.Errorf("%q prints as %q, want %q", tt.text, got, tt.back)
		}
	}
	for _, text := range []string{"", "-1", "MiB", "1 parsec", "1e9", "9223372036854775808", "16EiB", "NaN"} {
		var got settings.Bytes
		if err := got.UnmarshalText([]byte(text)); err == nil || got != 0 {
			t.Errorf("%q = %d, %v; want an error", text, got, err)
		}
	}
}

// Whatever size a program prints, it reads back as the same size.
func FuzzBytesText(f *testing.F) {
	f.Add(int64(0))
	f.Add(int64(25 << 20))
	f.Add(int64(1<<62) + 1)
	f.Fuzz(func(t *testing.T, n int64) {
		b := settings.Bytes(n & (1<<63 - 1))
		text, err := b.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var back settings.Bytes
		if err := back.UnmarshalText(text); err != nil || back != b {
			t.Fatalf("%d prints as %q, which reads as %d, %v", b, text, back, err)
		}
	})
}

func TestSecretNeverPrints(t *testing.T) {
	type holder struct {
		Key   settings.Secret
		Empty settings.Secret
		Byref *settings.Secret
	}
	secret := settings.Secret("hunter2")
	h := holder{Key: secret, Byref: &secret}
	var out bytes.Buffer
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		fmt.Fprintf(&out, format+" "+format+"\n", secret, h)
	}
	if err := json.NewEncoder(&out).Encode(map[string]any{"secret": secret, "holder": h}); err != nil {
		t.Fatal(err)
	}
	log := zerolog.New(&out)
	log.Info().Stringer("a", secret).Any("b", h).Interface("c", []settings.Secret{secret}).Msg("")
	for _, leak := range []string{"hunter2", fmt.Sprintf("%x", "hunter2")} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("%q is in:\n%s", leak, &out)
		}
	}
	if secret.Reveal() != "hunter2" {
		t.Errorf("Reveal() = %q", secret.Reveal())
	}
	if got := settings.Secret("").String(); got != "" {
		t.Errorf("the empty secret prints as %q", got)
	}
}

// Whatever form credentials have in an address, they do not show, and the host does
// where it can be told from them.
func TestCredentialsNeverShow(t *testing.T) {
	for text, want := range map[string]string{
		"nats://u:s3cret@h:4222":                       "nats://***@h:4222",
		"nats://u:s3cret://x@h":                        "nats://***@h",
		"nats://u:s3cret,nats://v:s3cret@h":            "nats://***,nats://***@h",
		"nats://u:s3cret,q://x@h":                      "nats://***@h",
		"nats://s3cret@h":                              "nats://***@h",
		"u:s3cret@h1,u:s3cret@h2":                      "***@h2",
		"s3cret@h":                                     "***@h",
		"nats://h?password=s3cret":                     "nats://h?***",
		"nats://u@h1:1?password=s3cret, tls://h2:2,h3": "nats://***@h1:1?***, tls://h2:2,h3",
		"h:4222?password=s3cret":                       "h:4222?***",
		"nats://h?password=s3cret@s3cret":              "nats://***",
		"nats://u:s3cret?x@h":                          "nats://***",
		"nats://u:s3cret#x@h":                          "nats://***",
		"nats://u:s3cret/x@h":                          "nats://***@h",
		"nats://u:%s3cret@h":                           "nats://***@h",
		"nats://u:s%33cret@h:bad":                      "nats://***@h:bad",
		"nats://u:s3cret":                              "nats://***",
		"nats:/u:s3cret@h":                             "***@h",
		"nats://u:p@ss:s3cret@h":                       "nats://***@h",
		"nats://h1:4222,nats://[::1]:4222,nats://h3":   "nats://h1:4222,nats://[::1]:4222,nats://h3",
		"http://127.0.0.1:7070":                        "http://127.0.0.1:7070",
		"https://s3.eu-west-1.example.com/a/b":         "https://s3.eu-west-1.example.com/a/b",
		"/etc/yagi/rules.yaml":                         "/etc/yagi/rules.yaml",
		"":                                             "",
	} {
		var c struct {
			Text string `env:"T_TEXT"`
		}
		if err := settings.Load([]string{"T_TEXT=" + text}, &c); err != nil {
			t.Fatal(err)
		}
		if got := settings.Effective(&c)[0].Value; got != want {
			t.Errorf("%s shows as %s, want %s", text, got, want)
		}
	}
}
