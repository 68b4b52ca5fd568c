package queuestatus

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Bucket is where the uploaders put what comes out of the queue.
type Bucket struct {
	Name string `json:"name"`
	// State is unknown when the store did not answer, or refused to.
	State State `json:"state"`
	// Problem says what keeps reports out of it; empty when nothing does.
	Problem string `json:"problem"`
}

// readBucket asks for the bucket as an uploader's heartbeat does: the AWS SDK's
// own variables say where the store is. One attempt is enough for a look.
func readBucket(ctx context.Context, name string) *Bucket {
	b := &Bucket{Name: name, State: Unknown}
	settings, err := config.LoadDefaultConfig(ctx, config.WithRetryMaxAttempts(1))
	if err != nil {
		b.Problem = fmt.Sprintf("reading the AWS settings: %v", err)
		return b
	}
	client := s3.NewFromConfig(settings, func(o *s3.Options) { o.UsePathStyle = o.BaseEndpoint != nil })
	_, err = client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: aws.String(name)})
	response, answered := errors.AsType[*smithyhttp.ResponseError](err)
	switch {
	case err == nil:
		b.State = Present
	case answered && response.HTTPStatusCode() == http.StatusNotFound:
		b.State, b.Problem = Missing, "there is no such bucket, or nobody with this access key"
	case answered && response.HTTPStatusCode() == http.StatusForbidden:
		b.Problem = "the store refuses these credentials"
	default:
		b.Problem = because(ctx, err).Error()
	}
	return b
}
