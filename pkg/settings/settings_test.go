package settings_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/yagi-crash/yagi/pkg/settings"
)

type config struct {
	Addr    string          `env:"T_ADDR" envDefault:":8000"`
	Limit   settings.Bytes  `env:"T_LIMIT" envDefault:"25MiB"`
	Wait    time.Duration   `env:"T_WAIT" envDefault:"20s"`
	Workers int             `env:"T_WORKERS" envDefault:"4"`
	Auth    settings.Secret `env:"T_AUTH"`
	Rules   []string        `env:"T_RULES" envSeparator:";"`
	Queue   QueueConfig
	Extra   struct {
		Name string `env:"NAME" envDefault:"x"`
	} `envPrefix:"T_EXTRA_"`
}

func (c config) Validate() error {
	var errs []error
	if c.Workers < 1 {
		errs = append(errs, errors.New("T_WORKERS: must be at least 1"))
	}
	if c.Wait > time.Minute {
		errs = append(errs, errors.New("T_WAIT: must be at most 1m"))
	}
	return errors.Join(errs...)
}

type QueueConfig struct {
	URL     string         `env:"T_URL,required,notEmpty"`
	Workers settings.Bytes `env:"T_QUEUE_WORKERS" envDefault:"1KiB"`
}

func (c QueueConfig) Validate() error {
	if strings.HasPrefix(c.URL, "http") {
		return errors.New("T_URL: must be a nats URL")
	}
	return nil
}

func TestLoad(t *testing.T) {
	var c config
	err := settings.Load([]string{
		"T_URL=nats://h:4222", "T_LIMIT=1 GB", "T_WAIT=", "T_AUTH=u:p", "T_RULES=a;b", "T_EXTRA_NAME=y", "OTHER=1",
	}, &c)
	if err != nil {
		t.Fatal(err)
	}
	want := config{
		Addr: ":8000", Limit: 1e9, Wait: 20 * time.Second, Workers: 4, Auth: "u:p",
		Rules: []string{"a", "b"}, Queue: QueueConfig{URL: "nats://h:4222", Workers: 1024},
	}
	want.Extra.Name = "y"
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
}

// An operator sees all that is wrong in one go, under the variables' names,
// even where two structs call a field alike.
func TestLoadReportsEveryProblem(t *testing.T) {
	type second struct {
		Rate float64 `env:"T_RATE,required"`
	}
	err := settings.Load([]string{
		"T_LIMIT=huge", "T_WAIT=90s", "T_WORKERS=many", "T_QUEUE_WORKERS=-1", "T_URL=",
	}, &config{}, &second{})
	if err == nil {
		t.Fatal("no error")
	}
	want := `reading the settings:
T_LIMIT: "huge" is not a size such as 25MiB, 1GB or 1048576
T_WORKERS: "many" is not a whole number
T_URL: is required and empty
T_QUEUE_WORKERS: "-1" is not a size such as 25MiB, 1GB or 1048576
T_WAIT: must be at most 1m
T_RATE: is required and not set`
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Errorf("error (-want +got):\n%s", diff)
	}
}

func TestLoadValidatesOnce(t *testing.T) {
	type embedding struct{ QueueConfig } // Validate is promoted
	type outer struct {
		Embedding embedding
		Duration  time.Duration `env:"T_D" envDefault:"5"`
		Number    int           `env:"T_N" envDefault:"9999999999"`
		Flag      bool          `env:"T_F"`
	}
	err := settings.Load([]string{"T_URL=http://x", "T_F=maybe"}, &outer{})
	want := `reading the settings:
T_D: missing unit in duration "5": write it as 500ms, 30s or 1h30m
T_N: "9999999999" is out of range
T_F: "maybe" is not true or false
T_URL: must be a nats URL`
	if err == nil || err.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
}

func TestEffective(t *testing.T) {
	type second struct {
		Rate *float64 `env:"T_RATE,required"`
	}
	var c config
	err := settings.Load([]string{"T_URL=nats://u:p,@w@h1:4222,nats://token@h2,h3", "T_AUTH=u:p", "T_RULES=a;u:p@b"}, &c)
	if err != nil {
		t.Fatal(err)
	}
	want := settings.List{
		{Key: "T_ADDR", Default: ":8000", Value: ":8000"},
		{Key: "T_LIMIT", Default: "25MiB", Value: "25 MiB"},
		{Key: "T_WAIT", Default: "20s", Value: "20s"},
		{Key: "T_WORKERS", Default: "4", Value: "4"},
		{Key: "T_AUTH", Value: "***"},
		{Key: "T_RULES", Value: "a;***@b"},
		{Key: "T_URL", Value: "nats://***@h1:4222,nats://***@h2,h3", Required: true},
		{Key: "T_QUEUE_WORKERS", Default: "1KiB", Value: "1 KiB"},
		{Key: "T_EXTRA_NAME", Default: "x", Value: "x"},
		{Key: "T_RATE", Required: true},
	}
	if diff := cmp.Diff(want, settings.Effective(&c, &second{})); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
}
