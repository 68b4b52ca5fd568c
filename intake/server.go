package intake

import (
	"context"
	"errors"
	"fmt"
	stdlog "log"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/yagi-crash/yagi/intake/internal/breakpad"
	"github.com/yagi-crash/yagi/intake/internal/spool"
	"github.com/yagi-crash/yagi/intake/internal/transport"
	"github.com/yagi-crash/yagi/pkg/dockerflow"
	"github.com/yagi-crash/yagi/pkg/queue"
	"github.com/yagi-crash/yagi/pkg/telemetry"
)

const (
	// headerTimeout is how long a client may take to send its request's head.
	headerTimeout = 10 * time.Second
)

// Server is intake as a process.
type Server struct {
	cfg      Config
	log      zerolog.Logger
	store    *spool.Store
	room     promises // of room in store
	rules    ruleSets
	hangup   <-chan os.Signal
	sink     *telemetry.Sink // nil: the log is somebody else's
	public   net.Listener
	admin    net.Listener
	draining atomic.Bool
}

// Listen takes the addresses and returns a server that is ready to Run. The
// caller has to Run it, which closes them.
func Listen(ctx context.Context, cfg Config, log zerolog.Logger) (*Server, error) {
	rules, err := newRuleSets(cfg, log)
	if err != nil {
		return nil, err
	}
	var listen net.ListenConfig
	public, err := listen.Listen(ctx, "tcp", cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("listening on INTAKE_ADDR: %w", err)
	}
	admin, err := listen.Listen(ctx, "tcp", cfg.AdminAddr)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listening on INTAKE_ADMIN_ADDR: %w", err), public.Close())
	}
	store, err := openStore(cfg, log)
	if err != nil {
		return nil, errors.Join(err, public.Close(), admin.Close())
	}
	return &Server{cfg: cfg, log: log, rules: rules, store: store, room: promises{step: "let in"}, public: public, admin: admin}, nil
}

// openStore does without the file where there cannot be one.
func openStore(cfg Config, log zerolog.Logger) (*spool.Store, error) {
	room := spool.Config{Memory: int64(cfg.MemoryBudget), File: int64(cfg.SpoolBudget), Dir: cfg.SpoolDir}
	store, err := spool.Open(room)
	if err == nil || room.File == 0 {
		return store, err
	}
	log.Error().Err(err).Msg("going on without a spool file: reports have INTAKE_MEMORY_BUDGET alone")
	room.File = 0
	return spool.Open(room)
}

// Addr returns the address that clients post to.
func (s *Server) Addr() string { return s.public.Addr().String() }

// AdminAddr returns the address of the operators' pages.
func (s *Server) AdminAddr() string { return s.admin.Addr().String() }

// ReloadOn has Run read the throttle rules again at each signal. It is called
// before Run or not at all; a rule file that changes is noticed anyway.
func (s *Server) ReloadOn(hangup <-chan os.Signal) { s.hangup = hangup }

// CountLog has the metrics say how much of the log was dropped. Call it before Run, or
// not at all.
func (s *Server) CountLog(sink *telemetry.Sink) { s.sink = sink }

// Run serves until ctx ends, and then stops in the direction of travel: lame
// duck, no new requests, those in hand, the queue. It returns an error when
// that takes longer than the grace period, or when serving fails.
func (s *Server) Run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, s.store.Close()) }()
	nc, err := queue.Connect(s.cfg.NATS, "intake", s.log)
	if err != nil {
		return errors.Join(err, s.public.Close(), s.admin.Close())
	}
	defer nc.Close()
	js, err := queue.Open(nc, s.cfg.NATS)
	if err != nil {
		return errors.Join(err, s.public.Close(), s.admin.Close())
	}
	build := telemetry.ReadBuild()
	registry := telemetry.NewRegistry(build)
	m := newMetrics(registry, int64(s.cfg.PublishInflight))
	showRoom(registry, s.store)
	if s.sink != nil {
		s.sink.Register(registry)
	}
	s.rules.register(registry)
	defer s.watchRules(ctx)()

	q := s.queue(nc, js, m)
	defer q.watchStreams(ctx, s.cfg.NATS)()

	listener := transport.New(s.public, s.cfg.connections(), registry)
	routes, err := s.routes(q, build, m, listener.Count)
	if err != nil {
		return errors.Join(err, s.public.Close(), s.admin.Close())
	}
	public := s.server(s.framed(routes))
	public.ConnState, public.ConnContext = listener.ConnState, listener.ConnContext
	admin := s.server(s.framed(s.adminRoutes(telemetry.Admin{Registry: registry, Ready: s.ready, PProf: s.cfg.PProf})))
	failed := make(chan error, 2)
	go func() { failed <- public.Serve(listener) }()
	go func() { failed <- admin.Serve(s.admin) }()
	s.log.Info().Str("addr", s.Addr()).Str("admin_addr", s.AdminAddr()).Str("version", build.Version).Str("commit", build.Commit).Msg("intake is up")

	running := 2
	select {
	case err = <-failed:
		running--
		err = fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
	}
	err = errors.Join(err, s.stop(ctx, listener, public), admin.Close())
	for range running {
		if ended := <-failed; !errors.Is(ended, http.ErrServerClosed) && !errors.Is(ended, net.ErrClosed) {
			err = errors.Join(err, ended)
		}
	}
	return err
}

// stop is what happens at SIGTERM. Its own time begins where ctx ended. It does not
// leave the waiting to http.Server.Shutdown, which drops requests whose head is half
// sent.
func (s *Server) stop(ctx context.Context, listener *transport.Listener, public *http.Server) error {
	s.draining.Store(true)
	s.log.Info().Dur("lame_duck_ms", s.cfg.LameDuck).Msg("intake is draining")
	ctx = context.WithoutCancel(ctx)
	sleep(ctx, s.cfg.LameDuck) // replies say "Connection: close", see framed
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Grace)
	defer cancel()
	err := listener.Drain(ctx)
	if err == nil {
		err = public.Shutdown(ctx) // waits for handlers that are past their answer
	}
	if err != nil {
		return errors.Join(fmt.Errorf("finishing requests within %s: %w", s.cfg.Grace, err), public.Close())
	}
	s.log.Info().Msg("intake has stopped")
	return nil
}

func (s *Server) server(h http.Handler) *http.Server {
	return &http.Server{
		Handler:                      h,
		DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout:            headerTimeout,
		MaxHeaderBytes:               int(s.cfg.MaxHeaderBytes),
		IdleTimeout:                  s.cfg.IdleTimeout,
		ErrorLog:                     stdlog.New(s.log.With().Str("from", "net/http").Logger(), "", 0),
	}
}

func (s *Server) submit(q *jetStreamQueue, m *metrics) *submit {
	return &submit{
		receiver: s.receiver(q), draining: &s.draining,
		pace:    pace{stall: s.cfg.BodyStall, minRate: int64(s.cfg.BodyMinRate), window: rateWindow},
		metrics: m, log: s.log,
	}
}

// checks is what the heartbeat asks.
func (s *Server) checks(q *jetStreamQueue) []dockerflow.Check {
	return []dockerflow.Check{
		{Name: "nats", Probe: func(context.Context) error { return queue.CheckServer(q.nc) }},
		{Name: "stream", Probe: func(ctx context.Context) error { return q.checkStreams(ctx, s.cfg.NATS) }},
		{Name: "publish", Probe: func(context.Context) error { return q.promises.check() }},
		{Name: "room", Probe: func(context.Context) error { return s.room.check() }},
		{Name: "spool", Probe: func(context.Context) error { return s.store.Check() }},
	}
}

func (s *Server) queue(nc *nats.Conn, js jetstream.JetStream, m *metrics) *jetStreamQueue {
	return &jetStreamQueue{
		nc: nc, js: js, partitions: s.cfg.NATS.Partitions, timeout: s.cfg.PublishTimeout,
		inflight: newFlight(int64(s.cfg.PublishInflight)), chunks: newChunkBuffers(),
		promises: promises{step: "promised"}, metrics: m, log: s.log,
	}
}

func (s *Server) receiver(q publisher) receiver {
	limits := s.cfg.Limits
	limits.Kept = queue.MaxReport
	cores := runtime.GOMAXPROCS(0)
	return receiver{
		limits: limits, rules: s.rules, submitter: s.cfg.SubmitterToken, foreign: s.cfg.ForeignUUID, slots: newSlots(s.cfg.connections()),
		store: s.store, room: &s.room, parsers: newParsers(cores), decoders: breakpad.NewDecoders(cores), queue: q, now: time.Now,
	}
}

func (s *Server) ready() error {
	if s.draining.Load() {
		return errors.New("draining")
	}
	return nil
}
