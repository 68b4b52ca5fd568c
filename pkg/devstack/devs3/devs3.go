// Package devs3 runs an S3 server inside the process, for tests and for the
// local all-in-one program: versitygw's gateway over a folder. It checks
// checksums, payload hashes and signatures as S3 does. It never belongs in a
// service.
//
// An object is a plain file, and everything else about it an extended attribute
// of that file, or a file of its own where the file system has none:
//
//	<dir>/data/<bucket>/<key>   objects
//	<dir>/meta/...              metadata without extended attributes
//
// While a server runs, the working directory of the process is <dir>/data: the
// gateway changes it and then opens every object relative to it. Make paths
// absolute beforehand; Stop goes back to where Start was called. For this
// reason, and because the gateway keeps settings in package variables, a process
// runs one server at a time.
//
// A web view prints one line, "initializing web dashboard", to stdout at start;
// versitygw has no switch for it.
package devs3

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofiber/fiber/v3"
	"github.com/versity/versitygw/backend/posix"
)

const (
	defaultRegion = "us-east-1"

	// grace is how long Stop leaves to requests in hand, before it closes their
	// connections. A PUT to a local folder takes milliseconds.
	grace = 500 * time.Millisecond
)

// running is true from Start to Stop. It stands for things of which a process
// has one only: the working directory, and versitygw's package variables.
var running atomic.Bool //nolint:gochecknoglobals // see above

// Config says where a server listens, where it keeps its objects and whom it
// lets in.
type Config struct {
	// Addr is the host:port of the S3 API. Port 0 takes a free one.
	Addr string

	// WebAddr is the host:port of a web view of the buckets. Port 0 takes a free
	// one; empty means no web view.
	WebAddr string

	// Dir is the folder of the objects, made if missing.
	Dir string

	// AccessKey and SecretKey are the one account there is. It may do anything.
	AccessKey, SecretKey string

	// Region is the region that requests are signed for. Empty means us-east-1.
	Region string

	// Buckets are made at start where missing.
	Buckets []string
}

// Server is a running S3 server.
type Server struct {
	s3, web *listener // web is nil without a web view.
	gateway *gateway
	webApp  *fiber.App
	store   *posix.Posix
	serving sync.WaitGroup
	home    string // The working directory before Start.
	stop    func() error
}

// Start starts a server on its folder, with whatever objects an earlier one left
// there, and returns once it has answered a signed request and has its buckets.
// The server then runs until Stop; ctx bounds the start alone. An address in use
// is an error that names it, and so is a second server in the process.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if !running.CompareAndSwap(false, true) {
		return nil, errors.New("starting S3: this process runs an S3 server already and has room for one")
	}
	if cfg.Region == "" {
		cfg.Region = defaultRegion
	}
	s := &Server{}
	s.stop = sync.OnceValue(s.shutDown)
	if err := s.start(ctx, cfg); err != nil {
		return nil, fmt.Errorf("starting S3 in %s: %w", cfg.Dir, errors.Join(err, s.Stop()))
	}
	return s, nil
}

// Endpoint is where S3 clients connect, for example http://127.0.0.1:7070.
// Buckets are addressed by path.
func (s *Server) Endpoint() string { return s.s3.url() }

// WebURL is the address of the web view, for example http://127.0.0.1:7071. It
// is empty without one.
func (s *Server) WebURL() string {
	if s.web == nil {
		return ""
	}
	return s.web.url()
}

// Stop ends the server: it accepts no more connections, leaves half a second to
// the requests in hand and then closes theirs. When it returns, the addresses
// are free and the working directory is what it was at Start. Stopping again
// returns the same.
func (s *Server) Stop() error { return s.stop() }

func (s *Server) start(ctx context.Context, cfg Config) (err error) {
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return err
	}
	if s.s3, err = listen(ctx, cfg.Addr); err != nil {
		return err
	}
	if cfg.WebAddr != "" {
		if s.web, err = listen(ctx, cfg.WebAddr); err != nil {
			return err
		}
	}
	if s.home, err = os.Getwd(); err != nil {
		return fmt.Errorf("finding the working directory: %w", err)
	}
	if s.store, err = openStore(dir); err != nil {
		return fmt.Errorf("opening the store: %w", err)
	}
	if s.gateway, err = runGateway(ctx, s.store, gatewayConfig(cfg, s.WebURL())); err != nil {
		return fmt.Errorf("running the gateway: %w", err)
	}
	s.serving.Go(func() { _ = s.gateway.app.Server().Serve(s.s3) }) // Ends when the listener does.
	if s.web != nil {
		if s.webApp, err = newWebView(s.Endpoint(), cfg.Region); err != nil {
			return fmt.Errorf("making the web view: %w", err)
		}
		s.serving.Go(func() { _ = s.webApp.Listener(s.web, fiber.ListenConfig{DisableStartupMessage: true}) })
	}
	return makeBuckets(ctx, cfg, s.Endpoint())
}

// shutDown undoes what start did, however far that came.
func (s *Server) shutDown() error {
	defer running.Store(false)
	listeners := []*listener{s.s3, s.web}
	var errs []error
	for _, l := range listeners {
		errs = append(errs, l.Close())
	}
	cut := time.AfterFunc(grace, func() {
		for _, l := range listeners {
			l.closeConnections()
		}
	})
	defer cut.Stop()

	if s.gateway != nil {
		errs = append(errs, s.gateway.shutDown())
	}
	if s.webApp != nil {
		errs = append(errs, s.webApp.Shutdown())
	}
	s.serving.Wait()
	if s.store != nil {
		s.store.Shutdown()
	}
	if s.home != "" {
		errs = append(errs, os.Chdir(s.home))
	}
	return errors.Join(errs...)
}
