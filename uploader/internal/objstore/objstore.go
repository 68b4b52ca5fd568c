// Package objstore puts objects into an S3 bucket, and hashes nothing.
//
// An object comes with the SHA-256 that was taken as its bytes arrived at
// intake. That digest is sent as the object's checksum and signed as the
// payload's hash, so that the store refuses bytes which changed on the way, in
// the queue as well as on the wire. Each object is one plain PutObject: it is
// there whole or not at all, and putting it again writes the same again.
package objstore

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
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
	"github.com/aws/smithy-go/middleware"

	"github.com/yagi-crash/yagi/pkg/layout"
)

const (
	// attempts bridge a connection that broke or one busy server. Whatever
	// takes longer is for the queue to wait out, which survives a restart.
	attempts = 2
	// maxBackoff is between the two attempts.
	maxBackoff = time.Second
	// dialTimeout leaves room for a second attempt at another address.
	dialTimeout = 5 * time.Second
)

// Config says which bucket, and how to reach it. What is empty here, the AWS
// SDK finds by itself: in AWS_* variables, in the shared files, in the pod's or
// the machine's role.
type Config struct {
	Bucket string
	// Endpoint is the URL of a store that is not AWS; its buckets are addressed
	// by path.
	Endpoint string
	Region   string
	// AccessKey and SecretKey are used together, or not at all.
	AccessKey, SecretKey string
	// PutTimeout bounds one Put with its second attempt.
	PutTimeout time.Duration
	// Concurrency is how many Puts run at a time; as many connections are kept.
	Concurrency int
}

// Store is a bucket. Its methods may be called from any number of goroutines.
type Store struct {
	client  *s3.Client
	bucket  string
	timeout time.Duration
}

// New returns the store without calling it: a store that is away is for Put and
// Probe to report. The error is about settings that the SDK cannot read.
func New(ctx context.Context, cfg Config) (*Store, error) {
	loaded, err := config.LoadDefaultConfig(ctx, loadOptions(cfg)...)
	if err != nil {
		return nil, fmt.Errorf("reading the AWS settings: %w", err)
	}
	client := s3.NewFromConfig(loaded, func(o *s3.Options) {
		if cfg.Endpoint != "" {
			o.BaseEndpoint = &cfg.Endpoint
		}
		// Stores other than AWS rarely have a host name for each bucket.
		o.UsePathStyle = o.BaseEndpoint != nil
		// The SDK's own checksum would be a second one, in a trailer that
		// other stores do not read.
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) {
			o.MaxAttempts = attempts
			o.MaxBackoff = maxBackoff
		})
		o.APIOptions = append(o.APIOptions, signGivenHash)
	})
	return &Store{client: client, bucket: cfg.Bucket, timeout: cfg.PutTimeout}, nil
}

func loadOptions(cfg Config) []func(*config.LoadOptions) error {
	options := []func(*config.LoadOptions) error{config.WithHTTPClient(httpClient(cfg))}
	if cfg.Region != "" {
		options = append(options, config.WithRegion(cfg.Region))
	}
	if cfg.AccessKey != "" {
		given := credentials.NewStaticCredentialsProvider(cfg.AccessKey, cfg.SecretKey, "")
		options = append(options, config.WithCredentialsProvider(given))
	}
	return options
}

// httpClient keeps a connection for every worker; the SDK's default of ten
// would make the others dial for each object.
func httpClient(cfg Config) *awshttp.BuildableClient {
	return awshttp.NewBuildableClient().
		WithDialerOptions(func(d *net.Dialer) { d.Timeout = dialTimeout }).
		WithTransportOptions(func(t *http.Transport) {
			t.MaxIdleConns = cfg.Concurrency
			t.MaxIdleConnsPerHost = cfg.Concurrency
			t.ResponseHeaderTimeout = cfg.PutTimeout / attempts // a silent server leaves time for another
		})
}

// Put returns nil once the object is in the bucket, byte for byte. Class tells
// what an error is about.
func (s *Store) Put(ctx context.Context, o layout.Object) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	_, err := s.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket:         &s.bucket,
		Key:            &o.Key,
		Body:           o.Part.Reader(),
		ContentType:    &o.ContentType,
		ChecksumSHA256: aws.String(base64.StdEncoding.EncodeToString(o.Part.SHA256[:])),
	})
	if err != nil {
		return fmt.Errorf("putting %s: %w", o.Key, err)
	}
	return nil
}

// Probe returns nil when the bucket is there and lets these credentials in. It
// does not tell whether it would take a Put.
func (s *Store) Probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if _, err := s.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &s.bucket}); err != nil {
		return fmt.Errorf("looking at bucket %s: %w", s.bucket, err)
	}
	return nil
}

// signGivenHash makes the SDK sign a PutObject's ChecksumSHA256 as the hash of
// the payload. The SDK would otherwise read the body once more to hash it, or
// over TLS not sign it at all; either way the store could not tell that the
// body is not what intake received.
func signGivenHash(stack *middleware.Stack) error {
	return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("SignGivenHash", func(
		ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler,
	) (middleware.InitializeOutput, middleware.Metadata, error) {
		if put, ok := in.Parameters.(*s3.PutObjectInput); ok {
			sum, err := base64.StdEncoding.DecodeString(aws.ToString(put.ChecksumSHA256))
			if err != nil {
				return middleware.InitializeOutput{}, middleware.Metadata{}, fmt.Errorf("reading the given SHA-256: %w", err)
			}
			ctx = v4.SetPayloadHash(ctx, hex.EncodeToString(sum))
		}
		return next.HandleInitialize(ctx, in)
	}), middleware.Before)
}
