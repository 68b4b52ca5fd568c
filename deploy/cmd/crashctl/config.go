package main

import (
	"errors"
	"fmt"
	"io"
	"net/url"

	"github.com/yagi-crash/yagi/intake"
	"github.com/yagi-crash/yagi/pkg/queue"
	"github.com/yagi-crash/yagi/pkg/settings"
	"github.com/yagi-crash/yagi/uploader"
)

// Config is what crashctl takes from its environment.
type Config struct {
	Queue queue.Config
	// MonitorURLs are the monitoring addresses of the NATS servers, such as
	// http://127.0.0.1:8222, several with commas between them. Without one,
	// crashctl status cannot tell whether they sync always; given all of them, it
	// compares what messages they have.
	MonitorURLs []string `env:"NATS_MONITOR_URL"`
	// Bucket is the uploaders' bucket. Without it crashctl status does not look
	// whether the bucket is there.
	Bucket string `env:"S3_BUCKET"`
	// S3 is how it is reached.
	S3 uploader.S3
	// IntakeURLs are the addresses of the intakes that clients post to, such as
	// http://127.0.0.1:8000, several with commas between them. Without one,
	// crashctl status does not ask whether they can promise reports.
	IntakeURLs []string `env:"INTAKE_URL"`
	// UploaderURLs are the admin addresses of the uploaders, such as
	// http://127.0.0.1:8002, several with commas between them. Without one,
	// crashctl status does not look whether they take reports from the queue.
	UploaderURLs []string `env:"UPLOADER_URL"`
}

// Validate returns an error with a line for each address that is not one. It
// does not repeat the address, which may carry a password.
func (c *Config) Validate() error {
	return errors.Join(
		checkURLs("NATS_MONITOR_URL", "http://127.0.0.1:8222", c.MonitorURLs),
		checkURLs("INTAKE_URL", "http://127.0.0.1:8000", c.IntakeURLs),
		checkURLs("UPLOADER_URL", "http://127.0.0.1:8002", c.UploaderURLs),
	)
}

func checkURLs(setting, example string, addresses []string) error {
	var errs []error
	for i, a := range addresses {
		u, err := url.Parse(a)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			errs = append(errs, fmt.Errorf("%s: address %d is not one such as %s", setting, i+1, example))
		}
	}
	return errors.Join(errs...)
}

func load(environ []string) (Config, error) {
	var cfg Config
	err := settings.Load(environ, &cfg)
	return cfg, err
}

// warn tells of variables that are misspelt. Where crashctl runs, there may be others
// that begin as ours do: those of the nats command, for example.
func warn(w io.Writer, environ []string) {
	for _, problem := range settings.Misspelt(environ, &Config{}, &intake.Config{}, &uploader.Config{}) {
		say(w, "warning:", problem)
	}
}

// needs is the part of a command's help about its settings.
const needs = `It needs these environment variables, the same as the services':

    NATS_URL               where the NATS servers are, several with
                           commas between them (required)
    NATS_CREDS             path of a credentials file
    NATS_CA                path of the authority's certificates
    NATS_CERT, NATS_KEY    paths of a client's certificate and key
    NATS_TLS_FIRST         true: the server begins with TLS
    NATS_JETSTREAM_DOMAIN  domain of the streams, over a leaf node
    NATS_PARTITIONS        number of streams of reports (1)
    NATS_REPLICAS          servers that hold each stream (1)
    NATS_STREAM_MAX_BYTES  size at which a stream is full (10GiB)
    NATS_MAX_ACK_PENDING   reports in uploaders' hands at once (1000)
`
