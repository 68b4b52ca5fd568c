package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/yagi-crash/yagi/intake"
	"github.com/yagi-crash/yagi/pkg/settings"
	"github.com/yagi-crash/yagi/uploader"
)

// Config is what the local program adds to the settings of the tiers.
type Config struct {
	// DataDir is the folder of the queue and the bucket. It is kept over a
	// restart, and one program at a time may use it.
	DataDir string `env:"LOCAL_DATA_DIR" envDefault:".local"`
	// NATSAddr is where the embedded NATS server listens.
	NATSAddr string `env:"LOCAL_NATS_ADDR" envDefault:"127.0.0.1:4222"`
	// NATSMonitorAddr is where it shows its monitoring pages; crashctl reads
	// them if NATS_MONITOR_URL names them.
	NATSMonitorAddr string `env:"LOCAL_NATS_MONITOR_ADDR" envDefault:"127.0.0.1:8222"`
	// S3Addr is where the embedded S3 server listens.
	S3Addr string `env:"LOCAL_S3_ADDR" envDefault:"127.0.0.1:7070"`
	// S3WebAddr is where the bucket can be looked at with a browser.
	S3WebAddr string `env:"LOCAL_S3_WEB_ADDR" envDefault:"127.0.0.1:7071"`
}

// The embedded bucket and who may use it. The keys are no secret: the server
// listens on this machine alone unless told otherwise.
const (
	bucket    = "crashes"
	region    = "us-east-1"
	accessKey = "local"
	secretKey = "local-secret"
)

// configs is everything that the program runs with: the tiers' settings are
// those of production, read from the same variables.
type configs struct {
	local    Config
	intake   intake.Config
	uploader uploader.Config
}

// load reads the settings, with other defaults than in production: nothing is
// reachable from outside of this machine, and stopping is quick. console says
// that people read the log.
func load(environ []string, console string) (c configs, err error) {
	defaults := []string{
		"INTAKE_ADDR=127.0.0.1:8000", "INTAKE_ADMIN_ADDR=127.0.0.1:8001", "UPLOADER_ADMIN_ADDR=127.0.0.1:8002",
		"INTAKE_GRACE=3s", "UPLOADER_GRACE=3s", "LOG_FORMAT=" + console,
	}
	// Those that are required in production are given by this program, and
	// nobody's own NATS or bucket is touched, whatever the shell has set.
	fixed := []string{
		"NATS_URL=nats://embedded", "NATS_CREDS=", "NATS_CA=", "NATS_CERT=", "NATS_KEY=", "NATS_TLS_FIRST=false",
		"NATS_JETSTREAM_DOMAIN=", "NATS_REPLICAS=1", "S3_BUCKET=" + bucket,
	}
	environ = slices.Concat(defaults, withoutEmpty(environ), fixed)
	c.intake, err = intake.Load(environ, &c.local, &c.uploader)
	c.uploader.S3 = uploader.S3{Region: region, AccessKey: accessKey, SecretKey: secretKey}
	return c, errors.Join(err, c.checkAddrs(err), c.fixPaths())
}

// checkAddrs reports each address that cannot be parsed, or that another one takes, unless
// the tiers have done so.
func (c *configs) checkAddrs(reported error) error {
	var p settings.Problems
	p.Addrs(
		settings.Addr{Key: "INTAKE_ADDR", Value: c.intake.Addr}, settings.Addr{Key: "INTAKE_ADMIN_ADDR", Value: c.intake.AdminAddr},
		settings.Addr{Key: "UPLOADER_ADMIN_ADDR", Value: c.uploader.AdminAddr},
		settings.Addr{Key: "LOCAL_NATS_ADDR", Value: c.local.NATSAddr}, settings.Addr{Key: "LOCAL_NATS_MONITOR_ADDR", Value: c.local.NATSMonitorAddr},
		settings.Addr{Key: "LOCAL_S3_ADDR", Value: c.local.S3Addr}, settings.Addr{Key: "LOCAL_S3_WEB_ADDR", Value: c.local.S3WebAddr},
	)
	if p.Err() == nil || reported == nil {
		return p.Err()
	}
	known := strings.Split(reported.Error(), "\n")
	var more []error
	for line := range strings.SplitSeq(p.Err().Error(), "\n") {
		if !slices.Contains(known, line) {
			more = append(more, errors.New(line))
		}
	}
	return errors.Join(more...)
}

// fixPaths makes intake's paths absolute: the S3 server changes the working
// directory.
func (c *configs) fixPaths() error {
	for setting, isPath := range map[*string]bool{
		&c.intake.ThrottleRules: intake.IsRulesFile(c.intake.ThrottleRules),
		&c.intake.ShadowRules:   intake.IsRulesFile(c.intake.ShadowRules),
		&c.intake.SpoolDir:      c.intake.SpoolDir != "",
	} {
		if !isPath {
			continue
		}
		path, err := filepath.Abs(*setting)
		if err != nil {
			return fmt.Errorf("finding %s: %w", *setting, err)
		}
		*setting = path
	}
	return nil
}

// withoutEmpty drops variables that are set to nothing, which count as not set.
func withoutEmpty(environ []string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(v string) bool {
		_, value, _ := strings.Cut(v, "=")
		return value == ""
	})
}
