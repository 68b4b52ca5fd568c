package objstore

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"
	"github.com/rs/zerolog"
)

const (
	// defaultAttempts bridge a connection that broke or one busy server. The queue
	// waits out whatever takes longer, and survives a restart.
	defaultAttempts = 2
	// maxBackoff is the longest wait between two attempts.
	maxBackoff = time.Second
	// dialTimeout leaves room for a second attempt at another address.
	dialTimeout = 5 * time.Second
	// defaultRegion is what most stores other than AWS are set up with, or ignore.
	defaultRegion = "us-east-1"
)

// Client returns a client for the bucket, without calling the store: it is what both
// those who write to the bucket and those who read it use. The error is about settings
// that cannot be read, and about a region, an endpoint or a bucket name that cannot be.
func Client(ctx context.Context, cfg Config) (*s3.Client, error) {
	return newClient(ctx, cfg, httpClient(cfg))
}

func newClient(ctx context.Context, cfg Config, over *awshttp.BuildableClient) (*s3.Client, error) {
	loaded, err := config.LoadDefaultConfig(ctx, loadOptions(cfg, over)...)
	if err != nil {
		return nil, fmt.Errorf("reading the AWS settings: %w", err)
	}
	client := s3.NewFromConfig(loaded, func(o *s3.Options) { cfg.apply(o) })
	if err := check(cfg, client.Options()); err != nil {
		return nil, fmt.Errorf("reading the AWS settings: %w", err)
	}
	return client, nil
}

// apply sets what differs from the SDK's own choice.
func (c *Config) apply(o *s3.Options) {
	if c.Endpoint != "" {
		o.BaseEndpoint = &c.Endpoint
	}
	if o.BaseEndpoint != nil && o.Region == "" {
		o.Region = defaultRegion
	}
	// Stores other than AWS rarely have a host name for each bucket.
	o.UsePathStyle = c.Addressing == AddressPath || c.Addressing != AddressVirtual && o.BaseEndpoint != nil
	// The SDK's own checksum would be a second one, in a trailer that other stores do
	// not read.
	o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
	// Readers compare with the digest that they expect.
	o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
	o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = defaultAttempts
		if c.Attempts > 0 {
			o.MaxAttempts = c.Attempts
		}
		o.MaxBackoff = maxBackoff
		o.Retryables = append(o.Retryables, retry.RetryableErrorCode{Codes: map[string]struct{}{codeIncompleteBody: {}}})
	})
	o.HTTPSignerV4 = signer{
		Signer:    v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }),
		checksums: c.Checksum != ChecksumNone,
	}
	o.HTTPClient = examining{o.HTTPClient}
}

func loadOptions(cfg Config, over *awshttp.BuildableClient) []func(*config.LoadOptions) error {
	options := []func(*config.LoadOptions) error{
		config.WithHTTPClient(over), // which AWS_CA_BUNDLE applies to
		config.WithLogger(logTo(cfg.Log)),
	}
	if cfg.Region != "" {
		options = append(options, config.WithRegion(cfg.Region))
	}
	if cfg.AccessKey != "" {
		given := credentials.NewStaticCredentialsProvider(cfg.AccessKey, cfg.SecretKey, "")
		options = append(options, config.WithCredentialsProvider(given))
	}
	return options
}

// logTo returns the SDK's way into a log.
func logTo(log zerolog.Logger) logging.Logger {
	return logging.LoggerFunc(func(class logging.Classification, format string, args ...any) {
		level := zerolog.DebugLevel
		if class == logging.Warn {
			level = zerolog.WarnLevel
		}
		log.WithLevel(level).Str("from", "aws-sdk").Msgf(format, args...)
	})
}

// httpClient keeps a connection for every worker; the SDK's default of ten would make
// the others dial for each object.
func httpClient(cfg Config) *awshttp.BuildableClient {
	return awshttp.NewBuildableClient().
		WithDialerOptions(func(d *net.Dialer) { d.Timeout = dialTimeout }).
		WithTransportOptions(func(t *http.Transport) {
			t.MaxIdleConns = cfg.Concurrency
			t.MaxIdleConnsPerHost = cfg.Concurrency
			t.ResponseHeaderTimeout = cfg.HeaderTimeout
		})
}

// signer signs what a store has to verify, and leaves the other headers to proxies:
// Google's front end changes Accept-Encoding (aws-sdk-go-v2 issue 1816), and others
// drop or add to what the SDK says about itself. A changed header that is signed is a
// SignatureDoesNotMatch.
type signer struct {
	*v4.Signer

	checksums bool // the store takes them, and may be asked for them
}

// SignHTTP implements s3.HTTPSignerV4.
//
//nolint:revive // as many arguments as the SDK's interface has
func (s signer) SignHTTP(
	ctx context.Context, keys aws.Credentials, r *http.Request, payloadHash, service, region string, at time.Time,
	options ...func(*v4.SignerOptions),
) error {
	if !s.checksums {
		r.Header.Del("X-Amz-Checksum-Mode") // of a HEAD
	}
	aside := http.Header{}
	for name, values := range r.Header {
		if !mustBeSigned(name) {
			aside[name] = values
			delete(r.Header, name)
		}
	}
	err := s.Signer.SignHTTP(ctx, keys, r, payloadHash, service, region, at, options...)
	maps.Copy(r.Header, aside)
	return err
}

// mustBeSigned reports whether S3 wants a header signed: besides Host and
// Content-Length, which the SDK always signs.
func mustBeSigned(name string) bool {
	switch name = http.CanonicalHeaderKey(name); name {
	case "Content-Type", "Content-Md5", "Authorization": // the last is replaced
		return true
	}
	const amz = "X-Amz-"
	return len(name) > len(amz) && name[:len(amz)] == amz
}

// maxRefusal bounds what is read of an answer that is no success, in bytes. S3's own
// are below 1 KiB.
const maxRefusal = 64 << 10

// headerForeign marks an answer that is not a store's.
const headerForeign = "X-Yagi-Foreign-Answer"

// examining is an HTTP client that reads the answers of a store that refuses
// something, and marks those that lack S3's error document: they are those of a proxy
// or of another server.
type examining struct{ s3.HTTPClient }

// Do implements s3.HTTPClient.
func (e examining) Do(r *http.Request) (*http.Response, error) {
	answer, err := e.HTTPClient.Do(r)
	if err != nil || answer.StatusCode < http.StatusMultipleChoices {
		return answer, err
	}
	answer.Header.Del(headerForeign)
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxRefusal))
	_ = answer.Body.Close()
	if err != nil {
		return nil, fmt.Errorf("reading the store's answer: %w", err)
	}
	answer.Body = io.NopCloser(bytes.NewReader(text))
	if r.Method != http.MethodHead && !isErrorDocument(text) {
		answer.Header.Set(headerForeign, "1")
		answer.Body = http.NoBody // the SDK reads XML, and nothing else
	}
	return answer, nil
}

func isErrorDocument(text []byte) bool {
	var document struct {
		XMLName xml.Name
		Code    string
	}
	err := xml.Unmarshal(text, &document)
	return (err == nil || errors.Is(err, io.EOF)) && document.XMLName.Local == "Error" && document.Code != ""
}
