package uploader

import (
	"context"
	"errors"
	stdlog "log"
	"net/http"
	"time"

	"github.com/yagi-crash/yagi/pkg/dockerflow"
	"github.com/yagi-crash/yagi/pkg/queue"
	"github.com/yagi-crash/yagi/pkg/telemetry"
)

// headerTimeout is how long a client may take to send its request's head.
const headerTimeout = 10 * time.Second

// serve serves the admin pages until stop has returned. What ends them earlier
// comes out of failed.
func (u *Uploader) serve() (failed <-chan error, stop func()) {
	build := telemetry.ReadBuild()
	server := &http.Server{
		Handler:           u.pages(build),
		ReadHeaderTimeout: headerTimeout,
		ErrorLog:          stdlog.New(u.log.With().Str("from", "net/http").Logger(), "", 0),
	}
	ended := make(chan error, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		ended <- server.Serve(u.admin)
	}()
	u.log.Info().Str("admin_addr", u.AdminAddr()).Str("version", build.Version).Str("commit", build.Commit).Msg("uploader is up")
	return ended, func() {
		_ = server.Close() // nothing here is worth waiting for
		<-done
	}
}

// pages are metrics, readiness, profiles and the Dockerflow endpoints.
func (u *Uploader) pages(build telemetry.Build) http.Handler {
	registry := telemetry.NewRegistry(build)
	u.metrics.register(registry)
	if u.sink != nil {
		u.sink.Register(registry)
	}
	registry.MustRegister(breakerGauges(u.breaker)...)
	registry.MustRegister(quotaGauge(&u.quotas))
	mux := http.NewServeMux()
	mux.Handle("/", telemetry.Admin{Registry: registry, Ready: u.ready, PProf: u.cfg.PProf}.Handler())
	dockerflow.Register(mux, dockerflow.Config{
		Build:      build,
		BrokenAuth: u.cfg.BrokenAuth,
		Checks: []dockerflow.Check{
			{Name: "nats", Probe: func(context.Context) error { return queue.CheckServer(u.nc) }},
			{Name: "consumer", Probe: u.checkPartitions},
			{Name: "bucket", Probe: u.checkBucket},
			{Name: "work", Probe: func(context.Context) error { return u.conditions.check(time.Now()) }},
		},
	})
	onPanic := u.metrics.errors.WithLabelValues(classPanic).Inc
	return telemetry.Recover(mux, u.log, onPanic)
}

// checkPartitions tells whether there are partitions, and whether each can be
// drained.
func (u *Uploader) checkPartitions(ctx context.Context) error {
	found, err := u.survey(ctx)
	if unsafe := queue.Unsafe(found.differences); len(unsafe) > 0 {
		return refusal(unsafe)
	}
	return err
}

// ready says no only while draining: an uploader gets its work from the queue
// and has no use for a load balancer's opinion.
func (u *Uploader) ready() error {
	if u.draining.Load() {
		return errors.New("draining")
	}
	return nil
}
