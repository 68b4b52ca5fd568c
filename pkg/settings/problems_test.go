package settings_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/yagi-crash/yagi/pkg/settings"
)

// lines are those of an error, without what it begins with.
func lines(err error) []string {
	if err == nil {
		return nil
	}
	return strings.Split(strings.TrimPrefix(err.Error(), "reading the settings:\n"), "\n")
}

func TestWithin(t *testing.T) {
	var p settings.Problems
	settings.Within(&p, "OK", time.Second, time.Second, time.Hour)
	settings.Within(&p, "LOW", 1, 2, 3)
	settings.Within(&p, "HIGH", 25*time.Hour, time.Second, time.Hour)
	settings.Within(&p, "NAN", math.NaN(), 0, 1)
	settings.Within(&p, "SIZE", settings.Bytes(1<<60), 1<<20, 1<<50)
	want := "LOW: 1 is not from 2 to 3\nHIGH: 25h0m0s is not from 1s to 1h0m0s\nNAN: NaN is not from 0 to 1\nSIZE: 1 EiB is not from 1 MiB to 1 PiB"
	if got := p.Err().Error(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestAuth(t *testing.T) {
	for secret, right := range map[settings.Secret]bool{
		"": true, "u:p": true, "u:p:q": true, "u": false, ":p": false, "u:": false, ":": false,
	} {
		var p settings.Problems
		p.Auth("KEY", secret)
		if (p.Err() == nil) != right {
			t.Errorf("%q: %v", secret.Reveal(), p.Err())
		}
	}
}

func TestAddrs(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want string // part of the problem
	}{
		{":8000", ":8001", ""},
		{"127.0.0.1:0", "127.0.0.1:0", ""},
		{"127.0.0.1:8000", "127.0.0.2:8000", ""},
		{"127.0.0.1:8000", "127.0.0.1:8000", "B: 127.0.0.1:8000 is taken by A, 127.0.0.1:8000"},
		{":8000", "127.0.0.1:8000", "B: 127.0.0.1:8000 is taken by A, :8000"},
		{"[::1]:8000", "0.0.0.0:8000", "is taken by A"},
		{"Host:8000", "host:8000", "is taken by A"},
		{":http", ":80", "is taken by A"},
		{"8000", ":8001", `A: "8000" is not host:port`},
		{":8000", "", `B: "" is not host:port`},
		{":99999", ":1", `A: ":99999" is not`},
		{"a b:1", "127.0.0.1:", `A: "a b:1" is not`},
		{"nohost\n:1", ":1", `A: "nohost\n:1" is not`},
	} {
		var p settings.Problems
		p.Addrs(settings.Addr{Key: "A", Value: tt.a}, settings.Addr{Key: "B", Value: tt.b})
		if err := p.Err(); (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q and %q: %v, want %q", tt.a, tt.b, err, tt.want)
		}
	}
}

type texts struct {
	Secret settings.Secret `env:"T_SECRET"`
	Text   string          `env:"T_TEXT"`
	URL    string          `env:"T_URL"`
	List   []string        `env:"T_LIST"`
	Number float64         `env:"T_NUMBER"`
	Wait   time.Duration   `env:"T_WAIT" envDefault:"1s"`
}

// Validate names two variables at once.
func (c *texts) Validate() error {
	if c.Wait < time.Second {
		return errors.New("T_TEXT: does not go with T_WAIT")
	}
	return nil
}

// A text with what nobody can see in it is refused, and not shown.
func TestInvisibleText(t *testing.T) {
	for variable, want := range map[string]string{
		"T_SECRET=abc":                   "",
		"T_SECRET=abc\n":                 "T_SECRET: ends with a line break, as a file does",
		"T_SECRET=abc\r\n":               "T_SECRET: ends with a line break",
		"T_SECRET=a\nbc":                 "T_SECRET: has a line break or another control character",
		"T_SECRET=a\x7fbc":               "T_SECRET: has a line break or another control character",
		"T_URL=nats://abc:4222,\nb:4222": "",
		"T_URL=abc\n":                    "",
		"T_URL=ab\nc":                    "T_URL: has a line break",
		"T_TEXT=abc\n":                   "T_TEXT: ends with a line break, as a file does",
		"T_TEXT=a\x1b[2Jbc":              "T_TEXT: has a line break or another control character",
		"T_LIST=a,\nabc":                 "",
		"T_LIST=a,b\nabc":                "T_LIST: has a line break",
		"T_NUMBER=NaN":                   "T_NUMBER: is not a finite number",
		"T_NUMBER=-Inf":                  "T_NUMBER: is not a finite number",
		"T_NUMBER=1e999":                 "T_NUMBER: \"1e999\" is out of range",
		"T_WAIT=9999999h":                "T_WAIT: invalid duration \"9999999h\": write it as",
		"T_WAIT=many":                    "T_WAIT: invalid duration \"many\": write it as", // and nothing of the zero
	} {
		got := lines(settings.Load([]string{variable}, &texts{}))
		if want == "" && len(got) == 0 {
			continue
		}
		if len(got) != 1 || !strings.HasPrefix(got[0], want) || want == "" || strings.Contains(got[0], "abc") {
			t.Errorf("%q: %q, want one line with %q", variable, got, want)
		}
	}
}

type tier struct {
	Body  settings.Bytes `env:"INTAKE_MAX_BODY" envDefault:"25MiB"`
	Addr  string         `env:"INTAKE_ADDR" envDefault:":8000"`
	Queue struct {
		URL string `env:"NATS_URL"`
	}
}

func (c *tier) Warnings() []settings.Warning {
	if c.Body > 1<<30 {
		return []settings.Warning{{Key: "INTAKE_MAX_BODY", Problem: "is large"}}
	}
	return nil
}

func TestWarnings(t *testing.T) {
	environ := []string{
		"INTAKE_MAX_BODY=2GiB", "INTAKE_MAX_BODYS=1", "INTAKE_MAXBODY=1", "INTAKE_MAX_BODY_SIZE=1", "INTAKE_COLOUR=red", "NATS_ULR=x", "INTAKE_EMPTY=",
		"UPLOADER_WORKERZ=1", "PATH=/bin", "INTAKE=1", "_=x", "NATS_MONITOR_URL=http://x", "INTAKE_URL=http://x",
		"INTAKE_SERVICE_HOST=10.0.0.1", "INTAKE_SERVICE_PORT=80", "INTAKE_ADMIN_SERVICE_PORT_HTTP_METRICS=80", "INTAKE_PORT=tcp://10.0.0.1:80",
		"INTAKE_PORT_80_TCP=tcp://10.0.0.1:80", "NATS_PORT_4222_TCP_ADDR=10.0.0.1", "NATS_HEADLESS_PORT_4222_UDP_PROTO=udp", "INTAKE_PORT=8000",
	}
	var c tier
	if err := settings.Load(environ, &c); err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, w := range settings.Warnings(environ, &c) {
		got.WriteString(w.String() + "\n")
	}
	want := `INTAKE_MAX_BODY: is large
INTAKE_COLOUR: is not a setting
INTAKE_MAXBODY: is not a setting; did you mean INTAKE_MAX_BODY?
INTAKE_MAX_BODYS: is not a setting; did you mean INTAKE_MAX_BODY?
INTAKE_MAX_BODY_SIZE: is not a setting; did you mean INTAKE_MAX_BODY?
INTAKE_PORT: is not a setting
NATS_ULR: is not a setting; did you mean NATS_URL?
`
	if got.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", &got, want)
	}
	type tool struct {
		URL string `env:"NATS_URL"`
	}
	if all := settings.Misspelt(environ, &tool{}, &c); len(all) != 1 || all[0].Key != "NATS_ULR" {
		t.Errorf("misspelt are %v", all)
	}
}
