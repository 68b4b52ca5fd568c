// Package lookup looks into the uploaders' bucket.
package lookup

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/yagi-crash/yagi/pkg/crash"
)

const (
	// patience is how long the store may take to begin to answer.
	patience = 20 * time.Second
	// readTimeout is how long an object may take to be read.
	readTimeout = 10 * time.Minute
	// connections are kept for those who ask at the same time.
	connections = 16
)

// ErrNoBucket means that there is no such bucket, as far as this access key is let
// know.
var ErrNoBucket = errors.New("there is no such bucket, or nobody with this access key")

// ErrNoObject means that the bucket has no object of that key.
var ErrNoObject = errors.New("no such object")

// Bucket is a bucket as its readers see it. Its methods may be called from any
// number of goroutines.
type Bucket struct {
	name   string
	client *s3.Client
}

// Open returns the bucket without asking for it: the AWS SDK's own variables say
// where it is. The error is about those. Each question is asked that many times, as
// long as the store has no proper answer.
func Open(ctx context.Context, name string, attempts int) (*Bucket, error) {
	settings, err := config.LoadDefaultConfig(ctx, config.WithRetryMaxAttempts(attempts), config.WithLogger(logging.Nop{}))
	if err != nil {
		return nil, fmt.Errorf("reading the AWS settings: %w", err)
	}
	client := s3.NewFromConfig(settings, func(o *s3.Options) {
		o.HTTPClient = awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
			t.ResponseHeaderTimeout = patience
			t.MaxIdleConnsPerHost = connections
		})
		o.UsePathStyle = o.BaseEndpoint != nil
		// Read says what the bytes are; the SDK would fail over what they should be.
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
	})
	return &Bucket{name: name, client: client}, nil
}

// Check returns nil when the bucket is there and lets these credentials in. The error
// wraps ErrNoBucket, or says why that is not known.
func (b *Bucket) Check(ctx context.Context) error {
	_, err := b.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &b.name})
	if statusOf(err) == http.StatusNotFound {
		return ErrNoBucket
	}
	return plain(err)
}

// statusOf is that of the store's answer; 0 without one.
func statusOf(err error) int {
	if response, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		return response.HTTPStatusCode()
	}
	return 0
}

// plain says what is wrong without the names of what the SDK did.
func plain(err error) error {
	status := statusOf(err)
	api, _ := errors.AsType[smithy.APIError](err)
	network, _ := errors.AsType[*url.Error](err)
	switch {
	case err == nil:
		return nil
	case strings.Contains(err.Error(), "get credentials"): // the SDK has no error of its own for it
		return errors.New("there are no credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set, and the machine has none either")
	case status == http.StatusForbidden:
		return fmt.Errorf("the store refuses these credentials (%d %s)", status, http.StatusText(status))
	case status != 0 && api != nil && api.ErrorMessage() != "":
		return fmt.Errorf("the store answers %d %s: %s", status, api.ErrorCode(), api.ErrorMessage())
	case status != 0:
		return fmt.Errorf("the store answers %d %s", status, http.StatusText(status))
	case network != nil:
		return network.Err // without the URL, which is signed
	}
	return err
}

// Recorded returns the SHA-256 of an object as the store noted it when it checked
// it, and the object's size: it does not tell whether the bytes are still the same. The error wraps
// ErrNoObject, or is about reaching the store. A store that notes none is asked for
// the bytes.
func (b *Bucket) Recorded(ctx context.Context, key string) (crash.Digest, int64, error) {
	head, err := b.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.name, Key: &key, ChecksumMode: types.ChecksumModeEnabled})
	if err != nil {
		return crash.Digest{}, 0, about(key, err)
	}
	sum, err := base64.StdEncoding.DecodeString(aws.ToString(head.ChecksumSHA256))
	if err != nil || len(sum) != len(crash.Digest{}) {
		return b.Read(ctx, key)
	}
	return crash.Digest(sum), aws.ToInt64(head.ContentLength), nil
}

// Read returns the SHA-256 and the number of an object's bytes, which it reads. Errors are
// Recorded's.
func (b *Bucket) Read(ctx context.Context, key string) (crash.Digest, int64, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	got, err := b.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.name, Key: &key})
	if err != nil {
		return crash.Digest{}, 0, about(key, err)
	}
	defer got.Body.Close()
	hash := sha256.New()
	size, err := io.Copy(hash, got.Body)
	if err != nil {
		return crash.Digest{}, 0, about(key, err)
	}
	return crash.Digest(hash.Sum(nil)), size, nil
}

// about tells an object that is not there from a store that cannot be asked. A
// missing bucket has the same status in answer to a HEAD, and no code: Check tells.
func about(key string, err error) error {
	api, _ := errors.AsType[smithy.APIError](err)
	if statusOf(err) == http.StatusNotFound && (api == nil || api.ErrorCode() != "NoSuchBucket") {
		return fmt.Errorf("%w: %s", ErrNoObject, key)
	}
	return fmt.Errorf("reading %s: %w", key, plain(err))
}
