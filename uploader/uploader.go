// Package uploader moves crash reports from the queue into the bucket.
//
// What it promises:
//
//   - A report is acknowledged, and so leaves the queue, only after the bucket
//     has taken its every object, raw_crash last. A report may be written more
//     than once, with the same bytes under the same keys.
//   - Whatever is down, the process runs, says so on its heartbeat, and goes on
//     by itself. It ends with an error only where a live stream or consumer
//     could lose or hide reports.
//   - While the bucket takes nothing, no report is taken from the queue, and so
//     none uses up an attempt; a probe finds out when that is over.
//   - A report that can never be stored holds no other one up: it is copied whole
//     to the dead letters, with its cause, and only then leaves the queue. An
//     outage of the bucket never makes one a dead letter, and a message that a
//     newer release wrote is left for that one.
//   - However many reports fail, others flow: those that fail are held by reference
//     before they use up what the server lets be unacknowledged.
//   - At the end of its context it finishes what it has in hand and hands the
//     rest back to the other uploaders.
//
// process is the life of a report here, and settle the one function that tells
// the queue how that went. Any number of uploaders may run.
package uploader

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/yagi-crash/yagi/pkg/layout"
	"github.com/yagi-crash/yagi/pkg/queue"
	"github.com/yagi-crash/yagi/pkg/telemetry"
	"github.com/yagi-crash/yagi/uploader/internal/breaker"
	"github.com/yagi-crash/yagi/uploader/internal/objstore"
	"github.com/yagi-crash/yagi/uploader/internal/strikes"
	"github.com/yagi-crash/yagi/uploader/internal/trim"
)

// store is the bucket. Put returns nil only once the object is there for good,
// and does no harm when the object is there already. Probe returns nil when Put
// may be expected to work, which it tries with an object of its own, and Control the
// same for a Put of one kind of part; Holds reports whether an object is in the bucket,
// byte for byte; Check goes by what is known, or asks.
type store interface { //nolint:interfacebloat // one method for each question to a bucket
	Put(context.Context, layout.Object) error
	Probe(context.Context) error
	Control(ctx context.Context, part string) error
	Holds(context.Context, layout.Object) (bool, error)
	Check(context.Context) error
}

// Uploader is an uploader process as a value. Make it with Listen.
type Uploader struct {
	cfg     Config
	log     zerolog.Logger
	admin   net.Listener
	store   store
	metrics *metrics
	sink    *telemetry.Sink // nil: the log is somebody else's
	// inProgressEvery is queue.InProgressEvery, but in tests.
	inProgressEvery time.Duration
	// trimEvery and streamOf are trimEvery and jetStreamOf, but in tests.
	trimEvery time.Duration
	streamOf  func(p int) trim.Stream
	// These are the constants of their names, but in tests.
	longEnough, blockedEnough, heldFor, heldTooLong time.Duration

	memory     *semaphore.Weighted // for reports in chunks, bytes
	breaker    *breaker.Breaker
	strikes    strikes.Counter
	quotas     quotas
	controls   controls
	clearing   sync.Mutex   // held while a report that failed quickly waits for the breaker
	held       atomic.Int64 // reports, as the last survey found; heldUnknown when it did not
	references aside        // the stream of held reports
	letters    aside        // the stream of dead letters
	blocked    sync.Map     // names of streams that are short of room, and of which nothing can be trimmed
	conditions conditions

	nc     *nats.Conn          // from Run on
	js     jetstream.JetStream // from Run on
	reader *queue.Reader       // from Run on
	copier *letters            // from Run on
	// partitions are the numbers of those that can be drained, as the last survey found
	// them.
	partitions atomic.Pointer[[]int]
	pullers    *queue.Pullers // from Run on
	turn       atomic.Uint64  // of partitions to be asked first
	draining   atomic.Bool
}

// Listen takes the admin address and returns an uploader that is ready to Run.
// The caller has to Run it, which closes the address, and only once. Neither
// the queue nor the bucket is called. The error is about the address, or about
// AWS settings that cannot be read.
func Listen(ctx context.Context, cfg Config, log zerolog.Logger) (*Uploader, error) {
	u, err := newUploader(ctx, cfg, log)
	if err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	if u.admin, err = lc.Listen(ctx, "tcp", cfg.AdminAddr); err != nil {
		return nil, fmt.Errorf("listening on UPLOADER_ADMIN_ADDR: %w", err)
	}
	return u, nil
}

func newUploader(ctx context.Context, cfg Config, log zerolog.Logger) (*Uploader, error) {
	bucket, err := objstore.New(ctx, cfg.objstore(log))
	if err != nil {
		return nil, err
	}
	u := &Uploader{
		cfg:             cfg,
		log:             log,
		store:           bucket,
		metrics:         newMetrics(),
		inProgressEvery: queue.InProgressEvery,
		trimEvery:       trimEvery,
		longEnough:      longEnough,
		blockedEnough:   blockedEnough,
		heldFor:         heldFor,
		heldTooLong:     heldTooLong,
		conditions:      conditions{log: log},
		memory:          semaphore.NewWeighted(int64(cfg.MemoryBudget)),
	}
	u.strikes.ControlEvery = controlEvery
	u.breaker = u.newBreaker()
	u.streamOf = u.jetStreamOf
	u.partitions.Store(&[]int{})
	return u, nil
}

// AdminAddr returns the host:port of the operators' pages.
func (u *Uploader) AdminAddr() string { return u.admin.Addr().String() }

// CountLog has the metrics say how much of the log was dropped. Call it before Run, or
// not at all.
func (u *Uploader) CountLog(sink *telemetry.Sink) { u.sink = sink }

// errGrace ends work that outlasts Config.Grace.
var errGrace = errors.New("the time to finish is over")

// Run moves reports until ctx ends, then finishes what is in hand, and returns
// nil. It returns an error when the NATS settings cannot be used, when serving
// the admin pages fails, or when a live stream or consumer differs from what
// package queue wants in a way that could lose or hide reports; that error
// names each difference.
func (u *Uploader) Run(ctx context.Context) error {
	if err := u.connect(); err != nil {
		return errors.Join(err, u.admin.Close())
	}
	defer u.disconnect()
	var err error
	if u.pullers, err = queue.NewPullers(u.js); err != nil {
		return errors.Join(err, u.admin.Close())
	}
	defer func() { _ = u.pullers.Close() }() // what it cannot hand back comes again
	served, stopServing := u.serve()
	defer stopServing()

	// What is in hand outlives ctx, by Grace at the most.
	work, abandon := context.WithCancelCause(context.WithoutCancel(ctx))
	defer abandon(nil)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return u.watch(ctx) })
	group.Go(func() error {
		u.breaker.Run(ctx)
		return nil
	})
	group.Go(func() error {
		u.trim(ctx)
		return nil
	})
	group.Go(func() error {
		select {
		case err := <-served:
			return fmt.Errorf("serving the admin pages: %w", err)
		case <-ctx.Done():
			return nil
		}
	})
	group.Go(func() error {
		u.drainHeld(ctx, work)
		return nil
	})
	for range u.cfg.Workers {
		group.Go(func() error {
			u.drain(ctx, work)
			return nil
		})
	}

	<-ctx.Done()
	u.draining.Store(true)
	u.log.Info().Msg("uploader is draining")
	grace := time.AfterFunc(u.cfg.Grace, func() { abandon(errGrace) })
	defer grace.Stop()
	err = group.Wait()
	u.log.Info().Msg("uploader has stopped")
	return err
}

func (u *Uploader) connect() error {
	nc, err := queue.Connect(u.cfg.NATS, "uploader", u.log)
	if err != nil {
		return err
	}
	js, err := queue.Open(nc, u.cfg.NATS)
	if err != nil {
		nc.Close()
		return err
	}
	u.nc, u.js, u.reader = nc, js, queue.NewReader(js)
	u.copier = &letters{queue.NewCopier(js), &u.letters}
	return nil
}

// flushTimeout is how long the last words to the queue may take to leave. What
// does not leave costs the reports concerned an ack wait, no more.
const flushTimeout = 2 * time.Second

func (u *Uploader) disconnect() {
	if u.nc.IsConnected() {
		_ = u.nc.FlushTimeout(flushTimeout)
	}
	u.nc.Close()
}
