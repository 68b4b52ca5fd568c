package queue

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"github.com/nats-io/nats.go"
)

// security returns the options for who this client is, and whom it trusts.
func (c *Config) security() (options []nats.Option) {
	if c.Creds != "" {
		options = append(options, nats.UserCredentials(c.Creds))
	}
	if c.CA != "" {
		options = append(options, nats.RootCAs(c.CA))
	}
	if c.Cert != "" {
		options = append(options, nats.ClientCert(c.Cert, c.Key))
	}
	if c.TLSFirst {
		options = append(options, nats.TLSHandshakeFirst())
	}
	return options
}

// validateFiles returns an error for each file that cannot be used. A connection
// would fail on it for ever, with the service up.
func (c *Config) validateFiles() (errs []error) {
	if c.Creds != "" {
		if _, err := os.ReadFile(c.Creds); err != nil {
			errs = append(errs, fmt.Errorf("NATS_CREDS: %w", err))
		}
	}
	if c.CA != "" {
		text, err := os.ReadFile(c.CA)
		if err == nil && !x509.NewCertPool().AppendCertsFromPEM(text) {
			err = fmt.Errorf("%s holds no PEM certificate", c.CA)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("NATS_CA: %w", err))
		}
	}
	switch {
	case c.Cert != "" && c.Key == "":
		errs = append(errs, errors.New("NATS_KEY: is required with NATS_CERT"))
	case c.Cert == "" && c.Key != "":
		errs = append(errs, errors.New("NATS_CERT: is required with NATS_KEY"))
	case c.Cert != "":
		if _, err := tls.LoadX509KeyPair(c.Cert, c.Key); err != nil {
			errs = append(errs, fmt.Errorf("NATS_CERT: reading the certificate and NATS_KEY: %w", err))
		}
	}
	return errs
}
