package queuestatus

import (
	"context"
	"errors"

	"github.com/yagi-crash/yagi/deploy/internal/lookup"
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
// own variables say where the store is.
func readBucket(ctx context.Context, name string) *Bucket {
	b := &Bucket{Name: name, State: Unknown}
	found, err := lookup.Open(ctx, name, 1)
	if err == nil {
		err = found.Check(ctx)
	}
	switch {
	case err == nil:
		b.State = Present
	case errors.Is(err, lookup.ErrNoBucket):
		b.State, b.Problem = Missing, err.Error()
	default:
		b.Problem = because(ctx, err).Error()
	}
	return b
}
