package queuestatus

import (
	"context"
	"errors"

	"github.com/yagi-crash/yagi/deploy/internal/lookup"
	"github.com/yagi-crash/yagi/uploader"
)

// Bucket is where the uploaders put what comes out of the queue.
type Bucket struct {
	Name string `json:"name"`
	// State is unknown when the store did not answer, or refused to.
	State State `json:"state"`
	// Problem says what keeps reports out of it, or why that is not known; empty when
	// nothing does.
	Problem string `json:"problem"`
	// Note says what else there is to know: that it may not be looked at with these
	// credentials, which is no problem of uploaders with others.
	Note string `json:"note"`
}

// readBucket asks for the bucket, as an uploader's heartbeat does while it stores
// nothing.
func readBucket(ctx context.Context, cfg uploader.S3, name string) *Bucket {
	b := &Bucket{Name: name, State: Unknown}
	found, err := lookup.Open(ctx, cfg, name, 1)
	if err == nil {
		err = found.Check(ctx)
	}
	switch {
	case err == nil:
		b.State = Present
	case errors.Is(err, lookup.ErrNoBucket):
		b.State, b.Problem = Missing, err.Error()
	case errors.Is(err, lookup.ErrMayNotLook):
		b.Note = err.Error() + "; whether it takes reports, uploaders know (UPLOADER_URL)"
	default:
		b.Problem = because(ctx, err).Error()
	}
	return b
}
