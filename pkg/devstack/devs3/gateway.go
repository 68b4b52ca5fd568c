package devs3

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/recover"
	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/backend"
	"github.com/versity/versitygw/embedgw"
	"github.com/versity/versitygw/s3api"
	"github.com/versity/versitygw/webui"
)

const (
	// maxConnections is far above what two tiers and a few tools open. As many
	// requests may be in hand: were it fewer, the gateway would answer 503 to
	// the rest.
	maxConnections = 1000

	// maxParts is S3's own limit of parts in one upload.
	maxParts = 10_000

	// handOver is the route that the gateway gives its fiber.App out on. No
	// bucket can have that name.
	handOver = "/-"
)

// gateway is a running versitygw. It can only listen on addresses of its own, of
// which it neither tells the port nor closes all connections in time. So it is
// given a socket that nobody else finds, is asked over that for the fiber.App
// that does its work, and the app then serves a listener of ours.
type gateway struct {
	app    *fiber.App
	cancel context.CancelFunc
	done   chan struct{}
	err    error // Why it ended; valid once done is closed.
}

// runGateway starts the gateway, which then runs until shutDown; ctx bounds the
// start alone.
func runGateway(ctx context.Context, store backend.Backend, cfg *embedgw.Config) (*gateway, error) {
	private, err := os.MkdirTemp("", "devs3-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for its socket: %w", err)
	}
	// The socket is connected to once. A folder left over would be an empty one.
	defer func() { _ = os.RemoveAll(private) }()
	socket := filepath.Join(private, "s3")

	listening, apps := make(chan struct{}), make(chan *fiber.App, 1)
	cfg.Ports = []string{socket}
	cfg.S3Options = []s3api.Option{
		s3api.WithOnListen(func() { close(listening) }),
		s3api.WithRoute(http.MethodGet, handOver, func(c fiber.Ctx) error {
			select {
			case apps <- c.App():
			default: // It was asked before and is not asked again.
			}
			return c.SendStatus(http.StatusNoContent)
		}),
	}
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	g := &gateway{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(g.done)
		g.err = embedgw.RunVersityGW(life, store, cfg)
	}()

	select {
	case <-listening:
		g.app, err = askForApp(ctx, socket, apps)
	case <-g.done:
		err = g.err
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		_ = g.shutDown() // Whatever it says follows from err.
		return nil, err
	}
	return g, nil
}

// shutDown closes the gateway's listeners, waits for its open connections (the
// gateway itself for ten seconds at most) and returns what it has to say.
func (g *gateway) shutDown() error {
	g.cancel()
	<-g.done
	return g.err
}

// askForApp requests the route that hands the gateway's app over.
func askForApp(ctx context.Context, socket string, apps <-chan *fiber.App) (*fiber.App, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: gateway\r\n\r\n", handOver); err != nil {
		return nil, fmt.Errorf("asking it for its app: %w", err)
	}
	select {
	case app := <-apps:
		return app, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// gatewayConfig is all that the gateway is told, but for what runGateway adds.
func gatewayConfig(cfg Config, webURL string) *embedgw.Config {
	root := auth.Account{Access: cfg.AccessKey, Secret: cfg.SecretKey, Role: auth.RoleAdmin}
	return &embedgw.Config{
		RootUserAccess: cfg.AccessKey,
		RootUserSecret: cfg.SecretKey,
		Region:         cfg.Region,
		// It would choose this service itself, and say so on stdout.
		IAMService:        auth.NewIAMServiceSingle(root),
		MaxConnections:    maxConnections,
		MaxRequests:       maxConnections,
		MultipartMaxParts: maxParts,
		// The web view is a page of another origin to the S3 API that it calls.
		CORSAllowOrigin: webURL,
		KeepAlive:       true,
		Quiet:           true,
	}
}

// newWebView makes the gateway's web view as an app of our own: the gateway
// would tell neither its port nor close its connections in time.
func newWebView(endpoint, region string) (*fiber.App, error) {
	app := fiber.New()
	app.Use(recover.New())
	return app, webui.MountOn(app, "", &webui.ServerConfig{Gateways: []string{endpoint}, Region: region})
}
