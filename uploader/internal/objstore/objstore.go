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
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"

	"github.com/yagi-crash/yagi/pkg/crash"
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
	// PutTimeout is how long a Put may go without progress; for an object of no
	// size that is all of it, its second attempt included.
	PutTimeout time.Duration
	// Concurrency is how many Puts run at a time; as many connections are kept.
	Concurrency int
}

// minRate is how fast an object has to go on the whole, in bytes a second.
const minRate = 64 << 10

// Store is a bucket. Its methods may be called from any number of goroutines.
type Store struct {
	cfg     Config
	control atomic.Pointer[string] // names the objects that Control puts
	http    *awshttp.BuildableClient
	client  atomic.Pointer[s3.Client]
}

// New returns the store without calling it: a store that is away is for Put and
// Probe to report. The error is about settings that the SDK cannot read.
func New(ctx context.Context, cfg Config) (*Store, error) {
	s := &Store{cfg: cfg, http: httpClient(cfg)}
	instance := newInstance()
	s.control.Store(&instance)
	return s, s.load(ctx)
}

// load reads the settings, again if need be: the SDK keeps the keys of a shared
// file as it found them.
func (s *Store) load(ctx context.Context) error {
	loaded, err := config.LoadDefaultConfig(ctx, s.loadOptions()...)
	if err != nil {
		return fmt.Errorf("reading the AWS settings: %w", err)
	}
	s.client.Store(s3.NewFromConfig(loaded, func(o *s3.Options) {
		if s.cfg.Endpoint != "" {
			o.BaseEndpoint = &s.cfg.Endpoint
		}
		// Stores other than AWS rarely have a host name for each bucket.
		o.UsePathStyle = o.BaseEndpoint != nil
		// The SDK's own checksum would be a second one, in a trailer that
		// other stores do not read.
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		// Holds compares by itself.
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) {
			o.MaxAttempts = attempts
			o.MaxBackoff = maxBackoff
		})
		o.APIOptions = append(o.APIOptions, signGivenHash)
	}))
	return nil
}

func (s *Store) loadOptions() []func(*config.LoadOptions) error {
	options := []func(*config.LoadOptions) error{config.WithHTTPClient(s.http)}
	if s.cfg.Region != "" {
		options = append(options, config.WithRegion(s.cfg.Region))
	}
	if s.cfg.AccessKey != "" {
		given := credentials.NewStaticCredentialsProvider(s.cfg.AccessKey, s.cfg.SecretKey, "")
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
		})
}

// Put returns nil once the object is in the bucket, byte for byte. Class tells
// what an error is about.
func (s *Store) Put(ctx context.Context, o layout.Object) error { return s.put(ctx, o) }

func (s *Store) put(outer context.Context, o layout.Object) error {
	ctx, body, stop := s.watch(outer, o.Part)
	defer stop()
	put, err := s.client.Load().PutObject(ctx, &s3.PutObjectInput{
		Bucket:         &s.cfg.Bucket,
		Key:            &o.Key,
		Body:           body,
		ContentType:    &o.ContentType,
		ChecksumSHA256: aws.String(base64.StdEncoding.EncodeToString(o.Part.SHA256[:])),
	})
	if err == nil && aws.ToString(put.ETag) == "" {
		err = errNoETag
	}
	if cause := context.Cause(ctx); err != nil && cause != nil && outer.Err() == nil {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	if err != nil {
		return fmt.Errorf("putting %s: %w", o.Key, err)
	}
	return nil
}

// errNoETag means that it was not a store that answered 200, but something in front of
// it: a store names the object's ETag (Amazon S3 API Reference, PutObject).
var errNoETag = errors.New("the answer has no ETag")

// errSilent ends a Put that makes no progress, or takes too long.
type errSilent struct {
	did   string
	after time.Duration
}

func (e errSilent) Error() string { return fmt.Sprintf("the store %s for %v", e.did, e.after) }
func (e errSilent) Unwrap() error { return context.DeadlineExceeded }

// watch returns a part's body, and a context that ends when the store does not
// take it: with errSilent when nothing has been read of it for PutTimeout, since
// what the store does not take, the connection does not ask for; and in any case
// when all of it takes longer than minRate allows besides. Once the connection
// has everything, there is no telling how much of that is still on its way, and
// only the latter counts. The caller has to stop it.
func (s *Store) watch(ctx context.Context, part crash.Part) (context.Context, io.ReadSeeker, func()) {
	ctx, cancelAll := s.bound(ctx, part.Size)
	ctx, cancel := context.WithCancelCause(ctx)
	silence := time.AfterFunc(s.cfg.PutTimeout, func() { cancel(errSilent{"has taken nothing", s.cfg.PutTimeout}) })
	body := &watched{ReadSeeker: part.Reader(), read: func(all bool) {
		if silence.Stop(); !all {
			silence.Reset(s.cfg.PutTimeout)
		}
	}}
	return ctx, body, func() {
		silence.Stop()
		cancel(nil)
		cancelAll()
	}
}

// watched is a body that tells whenever it is read, and whether that was all.
type watched struct {
	io.ReadSeeker

	read func(all bool)
}

// Read implements io.Reader.
func (w *watched) Read(p []byte) (int, error) {
	n, err := w.ReadSeeker.Read(p)
	w.read(err != nil)
	return n, err
}

// Check returns nil when the bucket is there and lets these credentials in. It
// does not tell whether it would take a Put.
func (s *Store) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.PutTimeout)
	defer cancel()
	if _, err := s.client.Load().HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &s.cfg.Bucket}); err != nil {
		return fmt.Errorf("looking at bucket %s: %w", s.cfg.Bucket, err)
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
