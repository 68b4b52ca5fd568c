package devs3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
)

// openStore opens the folder of the objects, and makes it the working directory.
func openStore(dir string) (*posix.Posix, error) {
	data := filepath.Join(dir, "data")
	// Crash reports are personal data, so the folders are their owner's alone.
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, err
	}
	storer, err := openMetadata(data, filepath.Join(dir, "meta"))
	if err != nil {
		return nil, err
	}
	// The options name the sidecar folder once more, only to print it.
	return posix.New(data, storer, posix.PosixOpts{})
}

// openMetadata chooses where metadata goes: into extended attributes where the
// file system has them for users, else into sidecar. A folder that began with a
// sidecar keeps it, for its metadata is there.
func openMetadata(data, sidecar string) (meta.MetadataStorer, error) {
	_, err := os.Stat(sidecar)
	if errors.Is(err, fs.ErrNotExist) && hasAttributes(data) {
		return meta.XattrMeta{}, nil
	}
	if err := os.MkdirAll(sidecar, 0o700); err != nil {
		return nil, err
	}
	return meta.NewSideCar(sidecar)
}

// hasAttributes says whether dir takes an extended attribute, by setting one.
// Whatever the reason that it cannot be set, the sidecar does without.
func hasAttributes(dir string) bool {
	const probe = "devs3-probe"
	if err := (meta.XattrMeta{}).StoreAttribute(nil, dir, "", probe, []byte("1")); err != nil {
		return false
	}
	return (meta.XattrMeta{}).DeleteAttribute(dir, "", probe) == nil
}

// makeBuckets makes the buckets that are missing, through the API: a bucket is a
// folder with metadata that the gateway writes. It also shows that the server
// answers a signed request.
func makeBuckets(ctx context.Context, cfg Config, endpoint string) error {
	client := s3.New(s3.Options{
		BaseEndpoint: aws.String(endpoint),
		Region:       cfg.Region,
		Credentials:  credentials.NewStaticCredentialsProvider(cfg.AccessKey, cfg.SecretKey, ""),
		UsePathStyle: true,
		HTTPClient:   &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
	})
	there, err := client.ListBuckets(ctx, &s3.ListBucketsInput{})
	if err != nil {
		return fmt.Errorf("listing buckets: %w", err)
	}
	for _, name := range cfg.Buckets {
		if slices.ContainsFunc(there.Buckets, func(b types.Bucket) bool { return aws.ToString(b.Name) == name }) {
			continue
		}
		if _, err := client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &name}); err != nil {
			return fmt.Errorf("making bucket %s: %w", name, err)
		}
	}
	return nil
}
