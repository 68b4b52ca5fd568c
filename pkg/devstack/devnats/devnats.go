// Package devnats runs a nats-server with JetStream inside the process, for
// tests and for the local all-in-one program. It never belongs in a service:
// those connect to a server of its own.
//
// What it promises over a bare embedded server:
//
//   - Start returns once JetStream has answered a client, or with the reason why
//     it never will.
//   - Every write is on disk before it is acknowledged (sync_interval: always),
//     so that what was acknowledged survives the process.
//   - One server per folder. nats-server takes no lock of its own, and two of
//     them on one folder would both hand out the same sequence numbers.
//   - Signals stay with the program: nats-server's own handler would end the
//     process from inside the library.
package devnats

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
)

const (
	// defaultMaxPayload is what every server that Yagi configures accepts in
	// one message: reports up to that size travel whole.
	defaultMaxPayload = 8 << 20

	// defaultMaxStore is room for a few partitions of 10 GiB and their dead
	// letters. It bounds what streams may reserve and takes no disk by itself.
	// The server's own default, three quarters of the free disk, would let a
	// stream be made on one machine and refused on the next.
	defaultMaxStore = 64 << 30

	lockName = "devnats.lock"
)

// Config says where a server listens and where it keeps its streams.
type Config struct {
	// Addr is the host:port for clients. Port 0 takes a free one.
	Addr string

	// MonitorAddr is the host:port of the HTTP monitoring endpoint. Port 0
	// takes a free one; empty means no endpoint.
	MonitorAddr string

	// Dir is the folder of the streams, made if missing. It is locked while the
	// server runs.
	Dir string

	// MaxPayload is the largest message accepted, in bytes. 0 means 8 MiB.
	MaxPayload int32

	// MaxStore is how much all streams together may reserve, in bytes. 0 means
	// 64 GiB.
	MaxStore int64

	// Log receives what the server has to say. Its zero value drops it.
	Log zerolog.Logger
}

// Server is a running nats-server.
type Server struct {
	nats    *server.Server
	lock    *flock.Flock
	url     string
	monitor string
	stop    sync.Once
}

// Start starts a server on its folder, with whatever streams an earlier one
// left there, and returns once JetStream answers. The server then runs until
// Stop; ctx bounds the start alone. An address or a folder in use is an error
// that names it.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	opts, err := options(cfg)
	if err != nil {
		return nil, fmt.Errorf("reading the NATS settings: %w", err)
	}
	lock, err := lockFolder(opts.StoreDir)
	if err != nil {
		return nil, fmt.Errorf("locking the NATS folder %s: %w", opts.StoreDir, err)
	}
	s := &Server{lock: lock}
	if err := s.run(ctx, opts, cfg.Log); err != nil {
		s.Stop()
		return nil, fmt.Errorf("starting NATS in %s: %w", opts.StoreDir, err)
	}
	return s, nil
}

// URL is where clients connect, for example nats://127.0.0.1:4222.
func (s *Server) URL() string { return s.url }

// MonitorURL is the root of the monitoring endpoint, for example
// http://127.0.0.1:8222. It is empty without one.
func (s *Server) MonitorURL() string { return s.monitor }

// Stop shuts the server down, waits until it is gone and unlocks the folder.
// Stopping again does nothing.
func (s *Server) Stop() {
	s.stop.Do(func() {
		if s.nats != nil {
			s.nats.Shutdown()
			s.nats.WaitForShutdown()
		}
		// Unlock fails only where the file is gone, and then so is the lock.
		_ = s.lock.Unlock()
	})
}

// run starts the server proper and waits until it can be used.
func (s *Server) run(ctx context.Context, opts *server.Options, log zerolog.Logger) error {
	srv, err := server.NewServer(opts)
	if err != nil {
		return fmt.Errorf("making the server: %w", err)
	}
	s.nats = srv

	logger := newLogger(log)
	srv.SetLoggerV2(logger, false, false, false)
	srv.Start() // Returns when it listens, or has called Fatalf.
	if err := logger.started(); err != nil {
		return err
	}
	s.url = srv.ClientURL()
	if addr := srv.MonitorAddr(); addr != nil {
		s.monitor = "http://" + addr.String()
	}
	return awaitJetStream(ctx, srv)
}

// awaitJetStream asks JetStream a question as a client would. The connection
// stays inside the process: it needs no address that is reachable from here.
func awaitJetStream(ctx context.Context, srv *server.Server) error {
	nc, err := nats.Connect("", nats.InProcessServer(srv))
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("opening JetStream: %w", err)
	}
	if _, err := js.AccountInfo(ctx); err != nil {
		return fmt.Errorf("asking JetStream: %w", err)
	}
	return nil
}

// lockFolder makes the folder and locks it, or says who is in the way. The lock
// is the kernel's: it ends with the process, however that ends.
func lockFolder(dir string) (*flock.Flock, error) {
	// Crash reports are personal data, so the folder is its owner's alone.
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock := flock.New(filepath.Join(dir, lockName))
	switch ok, err := lock.TryLock(); {
	case err != nil:
		return nil, err
	case !ok:
		return nil, errors.New("another server is running on it")
	}
	return lock, nil
}

// options translates the settings into nats-server's own.
func options(cfg Config) (*server.Options, error) {
	// The working directory may change under a running program (devs3 changes
	// it), so the folder has to be absolute.
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, err
	}
	opts := &server.Options{
		ServerName:             "devnats",
		NoSigs:                 true,
		JetStream:              true,
		StoreDir:               dir,
		SyncAlways:             true,
		MaxPayload:             cfg.MaxPayload,
		JetStreamMaxStore:      cfg.MaxStore,
		DisableJetStreamBanner: true,
	}
	if opts.MaxPayload == 0 {
		opts.MaxPayload = defaultMaxPayload
	}
	if opts.JetStreamMaxStore == 0 {
		opts.JetStreamMaxStore = defaultMaxStore
	}
	if opts.Host, opts.Port, err = hostPort(cfg.Addr); err != nil {
		return nil, err
	}
	if cfg.MonitorAddr == "" {
		return opts, nil
	}
	opts.HTTPHost, opts.HTTPPort, err = hostPort(cfg.MonitorAddr)
	return opts, err
}

// hostPort splits an address as nats-server wants it: there a free port is
// asked for with -1, and 0 stands for the default port or for none.
func hostPort(addr string) (host string, port int, err error) {
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, err
	}
	number, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("address %s: %w", addr, err)
	}
	if number == 0 {
		return host, server.RANDOM_PORT, nil
	}
	return host, int(number), nil
}
