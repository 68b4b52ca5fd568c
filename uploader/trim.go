package uploader

import (
	"context"
	"errors"
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

// trimming is a stream that is being trimmed.
type trimming struct {
	*trim.Trimmer

	stream trim.Stream
	said   string // the last trouble that was logged
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
				streams[name] = &trimming{Trimmer: trim.New(u.cfg.ReplayWindow), stream: u.streamOf(p)}
			}
		}
		for name, s := range streams { // those too that the last survey did not find
			again, err := u.trimOne(ctx, name, s)
			if errors.Is(err, jetstream.ErrStreamNotFound) {
				u.metrics.forget(name)
				u.conditions.set(trimOf+name, nil)
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
	if err == nil && r.Pressed && r.Trimmed == 0 {
		u.blocked.Store(name, true)
	} else {
		u.blocked.Delete(name)
	}
	u.conditions.set(trimOf+name, err)
	log := u.log.With().Str("stream", name).Logger()
	trouble := ""
	switch {
	case err != nil:
		u.metrics.errors.WithLabelValues(classQueue).Inc()
	case r.Trimmed > 0:
		u.metrics.trimmed.Add(float64(r.Trimmed))
		log.Info().Uint64("messages", r.Trimmed).Uint64("up_to", r.UpTo).Bool("short_of_room", r.Pressed).Msg("trimmed")
	case r.Pressed:
		if trouble = "behind: " + r.View.FloorOf; trouble != s.said {
			log.Warn().Str("consumer", r.View.FloorOf).Uint64("acknowledged_up_to", r.View.Floor).Uint64("last", r.View.Last).
				Msg("the stream is short of room, and nothing may go that this consumer has not acknowledged, or that is newer than eleven minutes")
		}
	}
	if trouble != "" || !r.Pressed { // what is said once holds until there is room
		s.said = trouble
	}
	return r.Pressed && r.Trimmed > 0, err
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
