package uploader

import (
	"cmp"
	"context"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/queue"
	"github.com/yagi-crash/yagi/uploader/internal/objstore"
)

// Replayer puts reports into the bucket once more, as an uploader does: through
// process. It takes nothing from the queue and tells it nothing; that is for
// whoever replays. Its methods may be called from any number of goroutines.
type Replayer struct {
	u       *Uploader
	waiting func(error)
}

// NewReplayer returns a replayer that reads chunks over js. Of cfg it takes what
// is about the bucket, about memory and about retries. waiting is called, by
// whoever calls Store, each time the bucket takes nothing, with the reason. The
// error is about AWS settings that cannot be read.
func NewReplayer(ctx context.Context, cfg Config, js jetstream.JetStream, waiting func(error)) (*Replayer, error) {
	u, err := newUploader(ctx, cfg, zerolog.Nop())
	if err != nil {
		return nil, err
	}
	u.nc, u.js, u.reader = js.Conn(), js, queue.NewReader(js)
	return &Replayer{u: u, waiting: waiting}, nil
}

// Probe returns nil when the bucket takes an object: one such as uploaders put when they
// try it, or, where that is refused, one beside those of reports.
func (r *Replayer) Probe(ctx context.Context) error { return r.probe(ctx, crash.RawCrashName) }

func (r *Replayer) probe(ctx context.Context, part string) error {
	err := r.u.store.Probe(ctx)
	if objstore.Particular(err) {
		return r.u.store.Control(ctx, part)
	}
	return err
}

// Store puts the report of a ready message of the stream into the bucket. While
// the bucket takes nothing at all, or the queue is away, it waits, until ctx ends.
// The error otherwise says why this report cannot be stored.
func (r *Replayer) Store(ctx context.Context, stream string, header nats.Header, body []byte) error {
	for failures, waits := 0, 1; ; waits++ {
		v := guarded(verdict{}, func() verdict { return r.u.process(ctx, stream, header, body) })
		switch {
		case v.result == resultStored:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		switch v.class {
		case classVersion, classUnreadable, classDamaged, classIncomplete, classPanic:
			return v.err
		case classQueue, classSameID:
			r.waiting(v.err)
		default:
			failures = r.judge(ctx, v, failures)
		}
		if failures >= enough {
			return v.err
		}
		pause(ctx, backoff(waits, r.u.cfg.RetryMin, r.u.cfg.RetryMax))
	}
}

// judge counts a failure unless the bucket takes nothing else either.
func (r *Replayer) judge(ctx context.Context, v verdict, failures int) int {
	err := r.probe(ctx, cmp.Or(v.part, crash.RawCrashName))
	if err == nil && v.class != objstore.ClassSlowDown {
		return failures + 1
	}
	if err == nil {
		err = v.err
	}
	r.waiting(err)
	return failures
}
