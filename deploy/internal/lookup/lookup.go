// Package lookup looks into the uploaders' bucket.
package lookup

import (
	"cmp"
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
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/layout"
	"github.com/yagi-crash/yagi/uploader"
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

// ErrMayNotLook means that the bucket is there and these credentials may neither look at
// it nor read its objects, which says nothing about whether they may write some.
var ErrMayNotLook = errors.New("these credentials may not look at it (s3:ListBucket) nor read its objects (s3:GetObject)")

// ErrNoObject means that the bucket has no object of that key.
var ErrNoObject = errors.New("no such object")

// Bucket is a bucket as its readers see it. Its methods may be called from any
// number of goroutines.
type Bucket struct {
	name   string
	client *s3.Client
}

// Open returns the bucket without asking for it, as an uploader with these settings
// finds it. The error is about those, and about what the AWS SDK reads. Each question is
// asked that many times at most, as long as the store has no proper answer.
func Open(ctx context.Context, cfg uploader.S3, name string, attempts int) (*Bucket, error) {
	client, err := cfg.Client(ctx, name, uploader.Reading{Attempts: attempts, Patience: patience, Connections: connections})
	if err != nil {
		return nil, err
	}
	return &Bucket{name: name, client: client}, nil
}

// Check returns nil when the bucket is there and lets these credentials in. The error
// wraps ErrNoBucket or ErrMayNotLook, or says why neither is known.
func (b *Bucket) Check(ctx context.Context) error {
	_, err := b.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &b.name})
	switch statusOf(err) {
	case http.StatusNotFound:
		return b.missing()
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return b.checkByReading(ctx) // whose answer has a body, which says why
	}
	return plain(err)
}

// checkByReading asks for an object that is not there.
func (b *Bucket) checkByReading(ctx context.Context) error {
	got, err := b.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.name, Key: aws.String(layout.ProbePrefix + "none")})
	if err == nil {
		_ = got.Body.Close()
		return nil
	}
	switch codeOf(err) {
	case "NoSuchKey":
		return nil
	case "NoSuchBucket":
		return b.missing()
	case "AccessDenied":
		return ErrMayNotLook
	}
	return plain(err)
}

// missing is ErrNoBucket, with a cause that can be seen from here.
func (b *Bucket) missing() error {
	endpoint, err := url.Parse(aws.ToString(b.client.Options().BaseEndpoint))
	if err == nil && (strings.HasPrefix(endpoint.Host, b.name+".") || strings.HasSuffix(endpoint.Path, "/"+b.name)) {
		return fmt.Errorf("%w: AWS_ENDPOINT_URL_S3 names the bucket already, which belongs into S3_BUCKET alone; "+
			"uploaders with this endpoint put objects below %s/v1/", ErrNoBucket, b.name)
	}
	return ErrNoBucket
}

// codeOf is that of the store's error document; empty without one.
func codeOf(err error) string {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return api.ErrorCode()
	}
	return ""
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
	case strings.Contains(err.Error(), noCredentials):
		return withoutCredentials(err)
	case status == http.StatusForbidden && api != nil && api.ErrorCode() == "AccessDenied":
		return fmt.Errorf("the store does not allow it to these credentials (%d %s)", status, api.ErrorCode())
	case status == http.StatusForbidden:
		return fmt.Errorf("the store refuses these credentials (%d %s)", status, cmp.Or(codeOf(err), http.StatusText(status)))
	case status != 0 && api != nil && api.ErrorMessage() != "":
		return fmt.Errorf("the store answers %d %s: %s", status, api.ErrorCode(), api.ErrorMessage())
	case status != 0:
		return fmt.Errorf("the store answers %d %s", status, http.StatusText(status))
	case network != nil:
		return network.Err // without the URL, which is signed
	}
	return err
}

// noCredentials is in the SDK's errors about finding credentials, for which it has no
// type.
const noCredentials = "get credentials: "

// withoutCredentials tells a machine that has none from a role, a token or a file that
// is named and cannot be used.
func withoutCredentials(err error) error {
	_, why, _ := strings.Cut(err.Error(), noCredentials)
	if strings.Contains(why, "no EC2 IMDS role found") {
		return errors.New("there are no credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set, and the machine has none either")
	}
	return fmt.Errorf("the credentials cannot be had: %s", strings.TrimPrefix(why, "failed to refresh cached credentials, "))
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
