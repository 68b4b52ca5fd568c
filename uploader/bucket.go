package uploader

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/rs/zerolog"

	"github.com/yagi-crash/yagi/pkg/settings"
	"github.com/yagi-crash/yagi/uploader/internal/objstore"
)

// S3 is how the bucket is reached, and what its store wants to be told. Where it is and
// with which keys, the AWS SDK reads from its own variables (AWS_ENDPOINT_URL_S3,
// AWS_REGION, AWS_ACCESS_KEY_ID, AWS_CA_BUNDLE, ...), the shared files, and the role of
// the pod or the machine.
type S3 struct {
	// Addressing is how the bucket is named in a URL: path (host/bucket), virtual
	// (bucket.host), or auto, which is path when AWS_ENDPOINT_URL_S3 is set, and virtual
	// without it, at AWS.
	Addressing string `env:"S3_ADDRESSING_STYLE" envDefault:"auto"`
	// Checksum is what the store gets to check an object with: sha256, or none for a
	// store that refuses the header x-amz-checksum-sha256, such as Backblaze B2. The
	// signature covers the object's SHA-256 either way.
	Checksum string `env:"S3_CHECKSUM" envDefault:"sha256"`
	// SSE is the encryption that is asked for with each object: AES256, aws:kms or
	// aws:kms:dsse. Empty leaves it to the bucket.
	SSE string `env:"S3_SSE"`
	// KMSKey is the key for aws:kms. Empty: that of the bucket or the account.
	KMSKey string `env:"S3_SSE_KMS_KEY_ID"`
	// ACL is the canned ACL of each object, such as bucket-owner-full-control. Empty
	// sends none, as most buckets want it.
	ACL string `env:"S3_ACL"`
	// StorageClass is the storage class of each object, such as STANDARD_IA. Empty
	// leaves it to the bucket.
	StorageClass string `env:"S3_STORAGE_CLASS"`

	// Endpoint, Region, AccessKey and SecretKey override what the SDK finds, for a
	// program that holds several uploaders, or starts its own store.
	Endpoint  string // URL of a store that is not AWS
	Region    string
	AccessKey string // with SecretKey or not at all
	SecretKey settings.Secret
}

// Validate reports every setting that cannot be, one a line.
func (c *S3) Validate() error {
	var errs []error
	oneOf := func(name, value string, known ...string) {
		if !slices.Contains(known, value) {
			errs = append(errs, fmt.Errorf("%s: %q is none of %s", name, value, strings.TrimPrefix(strings.Join(known, ", "), ", ")))
		}
	}
	oneOf("S3_ADDRESSING_STYLE", c.Addressing, "", objstore.AddressAuto, objstore.AddressPath, objstore.AddressVirtual)
	oneOf("S3_CHECKSUM", c.Checksum, "", objstore.ChecksumSHA256, objstore.ChecksumNone)
	oneOf("S3_SSE", c.SSE, "", "AES256", "aws:kms", "aws:kms:dsse")
	// Others give the public, or every AWS account, what is in a crash report.
	oneOf("S3_ACL", c.ACL, "", "private", "bucket-owner-full-control", "bucket-owner-read", "aws-exec-read", "log-delivery-write", "project-private")
	if c.KMSKey != "" && !strings.HasPrefix(c.SSE, "aws:kms") {
		errs = append(errs, errors.New("S3_SSE_KMS_KEY_ID: it needs S3_SSE=aws:kms"))
	}
	if !regexp.MustCompile(`^[A-Z0-9_]*$`).MatchString(c.StorageClass) {
		errs = append(errs, fmt.Errorf("S3_STORAGE_CLASS: %q is not one such as STANDARD_IA", c.StorageClass))
	}
	return errors.Join(errs...)
}

// Reading is how a reader of the bucket waits for its store.
type Reading struct {
	// Attempts is how often each question is asked at most.
	Attempts int
	// Patience is how long the store may take to begin an answer.
	Patience time.Duration
	// Connections is how many are kept.
	Connections int
}

// Client returns a client for those who read the bucket that uploaders write to, with
// the same settings. It calls nobody. The error is about settings that cannot be.
func (c *S3) Client(ctx context.Context, bucket string, r Reading) (*s3.Client, error) {
	cfg := c.objstore(bucket, zerolog.Nop())
	cfg.Attempts, cfg.HeaderTimeout, cfg.Concurrency = r.Attempts, r.Patience, r.Connections
	return objstore.Client(ctx, cfg)
}

func (c *S3) objstore(bucket string, log zerolog.Logger) objstore.Config {
	return objstore.Config{
		Bucket:       bucket,
		Endpoint:     c.Endpoint,
		Region:       c.Region,
		AccessKey:    c.AccessKey,
		SecretKey:    c.SecretKey.Reveal(),
		Addressing:   c.Addressing,
		Checksum:     c.Checksum,
		SSE:          c.SSE,
		KMSKey:       c.KMSKey,
		ACL:          c.ACL,
		StorageClass: c.StorageClass,
		Log:          log,
	}
}

// objstore is how an uploader writes to the bucket.
func (c *Config) objstore(log zerolog.Logger) objstore.Config {
	cfg := c.S3.objstore(c.Bucket, log)
	cfg.PutTimeout, cfg.Concurrency = c.PutTimeout, c.Workers
	return cfg
}
