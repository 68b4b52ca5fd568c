package uploader

import (
	"context"
	"errors"
	"math"
	"time"

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

// trimming is a stream that is being trimmed.
type trimming struct {
	*trim.Trimmer

	stream trim.Stream
	seen   bool   // in the present round
	said   string // the last trouble that was logged
}

// trim removes from every partition what nobody needs any more, until ctx ends.
// All uploaders do so, and none depends on another.
func (u *Uploader) trim(ctx context.Context) {
	streams := map[string]*trimming{}
	for ctx.Err() == nil {
		wait := u.trimEvery
		for _, consumer := range *u.partitions.Load() {
			name := consumer.CachedInfo().Stream
			s, ok := streams[name]
			if !ok {
				p, _ := queue.PartitionOf(name) // the survey saw to that
				s = &trimming{Trimmer: trim.New(u.cfg.ReplayWindow), stream: u.streamOf(p)}
				streams[name] = s
			}
			s.seen = true
			if u.trimOne(ctx, name, s) {
				wait = min(wait, trimSoon)
			}
		}
		for name, s := range streams {
			if !s.seen {
				u.metrics.forget(name)
				delete(streams, name)
			}
			s.seen = false
		}
		pause(ctx, backoff(1, wait, wait)) // uploaders that started together drift apart
	}
}

// jetStreamOf returns partition p's stream on the server.
func (u *Uploader) jetStreamOf(p int) trim.Stream { return trim.NewJetStream(u.js, u.reader, p) }

// trimOne trims a stream; again is whether there is more to do at once.
func (u *Uploader) trimOne(ctx context.Context, name string, s *trimming) (again bool) {
	ctx, cancel := context.WithTimeout(ctx, trimTimeout)
	defer cancel()
	r, err := s.Step(ctx, s.stream)
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		return false // the end
	}
	if r.View.FloorOf != "" {
		u.metrics.show(name, r)
	}
	switch {
	case err != nil:
		u.metrics.errors.WithLabelValues(classQueue).Inc()
		if s.said != err.Error() {
			s.said = err.Error()
			u.log.Warn().Err(err).Str("stream", name).Msg("the stream cannot be trimmed")
		}
		return false
	case r.Trimmed > 0:
		u.metrics.trimmed.Add(float64(r.Trimmed))
		u.log.Info().Str("stream", name).Uint64("messages", r.Trimmed).Uint64("up_to", r.UpTo).
			Bool("short_of_room", r.Pressed).Msg("trimmed")
	case r.Pressed && r.View.FloorOf != queue.Consumer:
		// The uploaders' own backlog is no news; somebody else's is.
		u.sayHeld(name, s, r.View.FloorOf)
		return false
	}
	s.said = ""
	return r.Pressed && r.Trimmed > 0
}

// sayHeld warns of a consumer that keeps a stream from being trimmed.
func (u *Uploader) sayHeld(name string, s *trimming, consumer string) {
	if s.said == consumer {
		return
	}
	s.said = consumer
	u.log.Warn().Str("stream", name).Str("consumer", consumer).
		Msg("the stream is short of room, and a consumer other than the uploaders' keeps it from being trimmed")
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
