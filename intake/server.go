package intake

import (
	"context"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/yagi-crash/yagi/intake/internal/breakpad"
	"github.com/yagi-crash/yagi/intake/internal/spool"
	"github.com/yagi-crash/yagi/pkg/dockerflow"
	"github.com/yagi-crash/yagi/pkg/queue"
	"github.com/yagi-crash/yagi/pkg/telemetry"
)

const (
	// headerTimeout is how long a client may take to send its request's head.
	headerTimeout = 10 * time.Second
	// idleTimeout is how long a connection may wait for its next request;
	// longer than a load balancer's 60 s, so that it closes first.
	idleTimeout = 75 * time.Second
	// unusedTimeout is how long a connection on which nothing has come may hold
	// up the end; net/http's own patience with those is 5 s.
	unusedTimeout = time.Second
)

// Server is intake as a process.
type Server struct {
	cfg      Config
	log      zerolog.Logger
	store    *spool.Store
	room     promises       // of room in store
	taken    sync.WaitGroup // connections taken over from net/http
	rules    ruleSets
	hangup   <-chan os.Signal
	sink     *telemetry.Sink // nil: the log is somebody else's
	public   net.Listener
	admin    net.Listener
	draining atomic.Bool
	unused   unusedConns
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
	js, err := jetstream.New(nc)
	if err != nil {
		return errors.Join(fmt.Errorf("opening JetStream: %w", err), s.public.Close(), s.admin.Close())
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

	public := s.server(s.routes(q, build, m))
	admin := s.server(s.adminRoutes(telemetry.Admin{Registry: registry, Ready: s.ready, PProf: s.cfg.PProf}))
	failed := make(chan error, 2)
	go func() { failed <- public.Serve(newDoor(s.public, s.cfg.MaxConnections, m.connections)) }()
	go func() { failed <- admin.Serve(s.admin) }()
	s.log.Info().Str("addr", s.Addr()).Str("admin_addr", s.AdminAddr()).Str("version", build.Version).Str("commit", build.Commit).Msg("intake is up")

	running := 2
	select {
	case err = <-failed:
		running--
		err = fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
	}
	err = errors.Join(err, s.stop(ctx, public), admin.Close())
	for range running {
		if ended := <-failed; !errors.Is(ended, http.ErrServerClosed) {
			err = errors.Join(err, ended)
		}
	}
	return err
}

// stop is what happens at SIGTERM. Its own time begins where ctx ended.
func (s *Server) stop(ctx context.Context, public *http.Server) error {
	s.draining.Store(true)
	s.log.Info().Dur("lame_duck_ms", s.cfg.LameDuck).Msg("intake is draining")
	ctx = context.WithoutCancel(ctx)
	sleep(ctx, s.cfg.LameDuck) // replies say "Connection: close", see limited
	unused := time.AfterFunc(unusedTimeout, s.unused.close)
	defer unused.Stop()
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Grace)
	defer cancel()
	if err := public.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("finishing requests within %s: %w", s.cfg.Grace, err), public.Close())
	}
	if !waitFor(ctx, &s.taken) {
		return fmt.Errorf("finishing HTTP/1.0 requests within %s: %w", s.cfg.Grace, ctx.Err())
	}
	s.log.Info().Msg("intake has stopped")
	return nil
}

// waitFor tells whether what is waited for ended before the context.
func waitFor(ctx context.Context, what *sync.WaitGroup) bool {
	done := make(chan struct{})
	go func() { // ends with the last of them, all of which have deadlines
		what.Wait()
		close(done)
	}()
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *Server) server(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           s.limited(h),
		ConnState:         s.unused.watch,
		ReadHeaderTimeout: headerTimeout,
		MaxHeaderBytes:    int(s.cfg.MaxHeaderBytes),
		IdleTimeout:       idleTimeout,
		ErrorLog:          stdlog.New(s.log.With().Str("from", "net/http").Logger(), "", 0),
	}
}

// limited sees to what net/http has no setting for: a body that no handler asks
// for is read by net/http itself, and must not be waited for without end; while
// draining, no connection is kept; and header fields are counted, since tiny ones
// cost more memory than their bytes.
func (s *Server) limited(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.draining.Load() {
			w.Header().Set("Connection", "close")
		}
		if r.Body != http.NoBody {
			// Fails on a connection that is gone, which the next read tells.
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(headerTimeout))
		}
		if fields(r.Header) > s.cfg.MaxHeaderFields {
			refuseFields(w)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// fields counts header lines, however often a name is among them.
func fields(h http.Header) (n int) {
	for _, values := range h {
		n += len(values)
	}
	return n
}

// refuseFields answers in the words that net/http has for a head of too many
// bytes.
func refuseFields(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Connection", "close")
	w.WriteHeader(http.StatusRequestHeaderFieldsTooLarge)
	_, _ = io.WriteString(w, "431 "+http.StatusText(http.StatusRequestHeaderFieldsTooLarge))
}

// routes is everything that the public listener answers.
func (s *Server) routes(q *jetStreamQueue, build telemetry.Build, m *metrics) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /submit", &submit{
		receiver: s.receiver(q),
		pace:     pace{stall: s.cfg.BodyStall, minRate: int64(s.cfg.BodyMinRate), window: rateWindow},
		metrics:  m, log: s.log, taken: &s.taken,
	})
	dockerflow.Register(mux, dockerflow.Config{
		Build: build, BrokenAuth: s.cfg.BrokenAuth,
		Checks: []dockerflow.Check{
			{Name: "nats", Probe: func(context.Context) error { return queue.CheckServer(q.nc) }},
			{Name: "stream", Probe: func(ctx context.Context) error { return q.checkStreams(ctx, s.cfg.NATS) }},
			{Name: "publish", Probe: func(context.Context) error { return q.promises.check() }},
			{Name: "room", Probe: func(context.Context) error { return s.room.check() }},
			{Name: "spool", Probe: func(context.Context) error { return s.store.Check() }},
		},
	})
	return telemetry.Recover(mux, s.log, m.panics.Inc)
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
		limits: limits, rules: s.rules, submitter: s.cfg.SubmitterToken, foreign: s.cfg.ForeignUUID,
		store: s.store, room: &s.room, parsers: newParsers(cores), decoders: breakpad.NewDecoders(cores), queue: q, now: time.Now,
	}
}

func (s *Server) ready() error {
	if s.draining.Load() {
		return errors.New("draining")
	}
	return nil
}
