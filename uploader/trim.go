package uploader

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/yagi-crash/yagi/pkg/queue"
	"github.com/yagi-crash/yagi/uploader/internal/trim"
)

const (
	// trimEvery is how often each stream is trimmed, and its gauges are set.
	trimEvery = 15 * time.Second
	// trimSoon is how soon it is trimmed again when that made too little room.
	trimSoon = time.Second
	// trimTimeout ends the questions about one stream.
	trimTimeout = 10 * time.Second
)

// trimOf is the condition of a stream that is being trimmed.
const trimOf = "trimming "

// makingRoom is the condition of a stream that is short of room.
const makingRoom = "making room in "

// unwatched is how long a trimmer may remove nothing of what is acknowledged, since it
// has not watched the stream for long enough (trim.Staleness).
const unwatched = 2 * trim.Staleness

// trimming is a stream that is being trimmed.
type trimming struct {
	*trim.Trimmer

	stream trim.Stream
	began  time.Time
}

// pinned returns an error when the stream is short of room and nothing of it can be
// trimmed.
func (s *trimming) pinned(r trim.Result) error {
	v := &r.View
	switch {
	case !r.Pressed || r.Trimmed > 0:
		return nil
	case v.Floor >= v.First && time.Since(s.began) < unwatched:
		return nil
	case v.FloorOf == queue.HeldStream:
		return fmt.Errorf("nothing can be trimmed: a held report follows message %d, and the eleven minutes before it stay", v.Floor)
	}
	return fmt.Errorf("nothing can be trimmed: consumer %s has acknowledged up to message %d, and the eleven minutes before it stay", v.FloorOf, v.Floor)
}

// trim removes from every partition what nobody needs any more, until ctx ends.
// All uploaders do so, and none depends on another.
func (u *Uploader) trim(ctx context.Context) {
	streams := map[string]*trimming{}
	for ctx.Err() == nil {
		wait := u.trimEvery
		for _, p := range *u.partitions.Load() {
			name := queue.StreamName(p)
			if streams[name] == nil {
				streams[name] = &trimming{Trimmer: trim.New(u.cfg.ReplayWindow), stream: u.streamOf(p), began: time.Now()}
			}
		}
		for name, s := range streams { // those too that the last survey did not find
			again, err := u.trimOne(ctx, name, s)
			if errors.Is(err, jetstream.ErrStreamNotFound) {
				u.metrics.forget(name)
				u.conditions.forget(trimOf + name)
				u.conditions.forget(makingRoom + name)
				delete(streams, name)
			}
			if again {
				wait = min(wait, trimSoon)
			}
		}
		pause(ctx, backoff(1, wait, wait)) // uploaders that started together drift apart
	}
}

// jetStreamOf returns partition p's stream on the server.
func (u *Uploader) jetStreamOf(p int) trim.Stream {
	return trim.NewJetStream(u.js, u.reader, p, u.cfg.NATS)
}

// trimOne trims a stream; again is whether there is more to do at once.
func (u *Uploader) trimOne(ctx context.Context, name string, s *trimming) (again bool, err error) {
	if queue.CheckServer(u.nc) != nil {
		return false, nil // the heartbeat says so
	}
	ctx, cancel := context.WithTimeout(ctx, trimTimeout)
	defer cancel()
	r, err := s.Step(ctx, s.stream)
	if errors.Is(ctx.Err(), context.Canceled) {
		return false, nil // the end
	}
	if r.View.FloorOf != "" {
		u.metrics.show(name, r)
	}
	u.conditions.set(trimOf+name, err)
	if err != nil {
		u.blocked.Delete(name)
		u.metrics.errors.WithLabelValues(classQueue).Inc()
		return false, err
	}
	u.conditions.set(makingRoom+name, s.pinned(r))
	if r.Pressed && r.Trimmed == 0 {
		u.blocked.Store(name, true)
	} else {
		u.blocked.Delete(name)
	}
	if r.Trimmed > 0 {
		u.metrics.trimmed.Add(float64(r.Trimmed))
		u.log.Info().Str("stream", name).Uint64("messages", r.Trimmed).Uint64("up_to", r.UpTo).Bool("short_of_room", r.Pressed).Msg("trimmed")
	}
	return r.Pressed && r.Trimmed > 0, nil
}

// show sets a stream's gauges.
func (m *metrics) show(stream string, r trim.Result) {
	v := &r.View
	m.streamBytes.WithLabelValues(stream).Set(float64(v.Bytes))
	m.streamMaxBytes.WithLabelValues(stream).Set(float64(v.MaxBytes))
	oldest := 0.0
	if v.Pending != nil {
		oldest = max(0, v.Server.Sub(v.Pending.Time).Seconds())
	}
	if !v.Held.IsZero() {
		oldest = max(oldest, v.Server.Sub(v.Held).Seconds())
	}
	m.oldest.WithLabelValues(stream).Set(oldest)
	switch {
	case r.BufferLeft < 0: // no telling yet
	case r.BufferLeft == math.MaxInt64:
		m.bufferLeft.WithLabelValues(stream).Set(math.Inf(1))
	default:
		m.bufferLeft.WithLabelValues(stream).Set(r.BufferLeft.Seconds())
	}
}

// forget takes the gauges of a stream away that is gone.
func (m *metrics) forget(stream string) {
	for _, vec := range []*prometheus.GaugeVec{m.streamBytes, m.streamMaxBytes, m.oldest, m.bufferLeft} {
		vec.DeleteLabelValues(stream)
	}
}
