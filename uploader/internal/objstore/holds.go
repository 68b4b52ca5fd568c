package objstore

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/layout"
)

// Holds reports whether the bucket's object under o's key is o's part, byte for
// byte. A missing object is false. It asks for the SHA-256 that the store recorded,
// and reads the object when the store recorded none: at most as many bytes as the
// part has. Both need s3:GetObject. Class classifies the errors, as for Put.
func (s *Store) Holds(ctx context.Context, o layout.Object) (bool, error) {
	ctx, cancel := s.bound(ctx, o.Part.Size)
	defer cancel()
	holds, err := s.holds(ctx, o)
	if err != nil {
		return false, fmt.Errorf("comparing %s: %w%s", o.Key, err, hint(err))
	}
	return holds, nil
}

func (s *Store) holds(ctx context.Context, o layout.Object) (bool, error) {
	head, err := s.client.Load().HeadObject(ctx, &s3.HeadObjectInput{
		Bucket: &s.cfg.Bucket, Key: &o.Key, ChecksumMode: types.ChecksumModeEnabled,
	})
	switch {
	case statusOf(err) == http.StatusNotFound: // or the bucket is missing, which only a body can say
		return s.reads(ctx, o)
	case err != nil:
		return false, err
	case aws.ToInt64(head.ContentLength) != o.Part.Size:
		return false, nil
	}
	// The checksum of an object that was put in several pieces is none of its bytes.
	sum, err := base64.StdEncoding.DecodeString(aws.ToString(head.ChecksumSHA256))
	if err != nil || len(sum) != sha256.Size {
		return s.reads(ctx, o)
	}
	return crash.Digest(sum) == o.Part.SHA256, nil
}

// reads is Holds by the object's bytes.
func (s *Store) reads(ctx context.Context, o layout.Object) (bool, error) {
	got, err := s.client.Load().GetObject(ctx, &s3.GetObjectInput{Bucket: &s.cfg.Bucket, Key: &o.Key})
	switch {
	case statusOf(err) == http.StatusNotFound && codeOf(err) == "NoSuchKey":
		return false, nil
	case err != nil:
		return false, err
	}
	defer func() { _ = got.Body.Close() }()
	hash := sha256.New()
	size, err := io.Copy(hash, io.LimitReader(got.Body, o.Part.Size+1))
	if err != nil {
		return false, err
	}
	return size == o.Part.Size && crash.Digest(hash.Sum(nil)) == o.Part.SHA256, nil
}

// bound returns a context for reading or writing that many bytes.
func (s *Store) bound(ctx context.Context, size int64) (context.Context, context.CancelFunc) {
	most := s.cfg.PutTimeout + time.Duration(size)*time.Second/minRate
	return context.WithTimeoutCause(ctx, most, errSilent{"has not answered", most.Round(100 * time.Millisecond)})
}
