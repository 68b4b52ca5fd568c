package queue_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"github.com/rs/zerolog"

	"github.com/yagi-crash/yagi/pkg/queue"
)

// frozen is a server that welcomes a client and then reads nothing any more, as one
// does whose process is stopped.
func frozen(t *testing.T) (url string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var clients sync.WaitGroup
	end := make(chan struct{})
	clients.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			clients.Go(func() {
				defer c.Close()
				_, _ = io.WriteString(c, `INFO {"server_id":"F","version":"`+queue.MinServerVersion+`","max_payload":8388608,"headers":true}`+"\r\n")
				for lines := bufio.NewReader(c); ; {
					line, err := lines.ReadString('\n')
					if err != nil || strings.HasPrefix(line, "PING") {
						break
					}
				}
				_, _ = io.WriteString(c, "PONG\r\n")
				<-end
			})
		}
	})
	t.Cleanup(func() { close(end); _ = l.Close(); clients.Wait() })
	return "nats://" + l.Addr().String()
}

// A server that takes nothing any more is left well before a report's publishing is
// over (INTAKE_PUBLISH_TIMEOUT, 20 s), however many reports are on their way to it.
func TestFrozenServerIsLeft(t *testing.T) {
	t.Parallel()
	for name, load := range map[string]struct {
		publishers, size int
		every            time.Duration
	}{
		"idle":               {},
		"under load":         {8, 4_000_000, 0},
		"under a light load": {4, 300_000, 500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nc, err := queue.Connect(queue.Config{URL: frozen(t)}, "test", zerolog.Nop())
			if err != nil {
				t.Fatal(err)
			}
			left := nc.StatusChanged(nats.RECONNECTING)
			var publishing sync.WaitGroup
			defer publishing.Wait()
			defer nc.Close()
			for range load.publishers {
				publishing.Go(func() {
					for data := make([]byte, load.size); nc.Publish("crash.0.ready", data) == nil; {
						<-time.After(load.every)
					}
				})
			}
			begun := time.Now()
			select {
			case <-left:
				t.Logf("left after %s", time.Since(begun))
			case <-time.After(16 * time.Second):
				t.Error("it is not left after 16 s")
			}
		})
	}
}

// Each reason for which there is no connection is told once, also where several
// servers have one each, and where it names a port that differs each time.
func TestReasonsAreToldOnce(t *testing.T) {
	t.Parallel()
	said := &lines{}
	nameless := &nameless{tenth: make(chan struct{})}
	nc, err := queue.Connect(queue.Config{URL: "nats://a.test,nats://b.test"}, "test", zerolog.New(said), nats.SetCustomDialer(nameless))
	if err != nil {
		t.Fatal(err)
	}
	<-nameless.tenth
	nc.Close()
	// The first attempt at both is one reason, and then each has its own.
	said.mu.Lock()
	defer said.mu.Unlock()
	if len(said.all) != 3 || !strings.Contains(said.all[2], `->127.0.0.53:53: connection refused","message":"NATS cannot be reached"`) {
		t.Errorf("of 10 attempts was said %q", said.all)
	}
}

// nameless finds no address of any name, as where the resolver is away.
type nameless struct {
	tenth    chan struct{} // closed at the tenth attempt
	attempts atomic.Int32
}

// Dial implements nats.CustomDialer.
func (n *nameless) Dial(_, address string) (net.Conn, error) {
	port := n.attempts.Add(1)
	if port == 10 {
		close(n.tenth)
	}
	return nil, fmt.Errorf("lookup %s on 127.0.0.53:53: read udp 127.0.0.1:%d->127.0.0.53:53: connection refused", address, port)
}

// lines are what was logged.
type lines struct {
	mu  sync.Mutex
	all []string
}

// Write implements io.Writer.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, string(p))
	return len(p), nil
}

// issue makes a user of an account that a server trusts, good until a time.
func issue(t *testing.T, account nkeys.KeyPair, until time.Time) (creds string) {
	t.Helper()
	user, err := nkeys.CreateUser()
	must(t, err)
	public, err := user.PublicKey()
	must(t, err)
	claims := jwt.NewUserClaims(public)
	claims.Expires = until.Unix()
	token, err := claims.Encode(account)
	must(t, err)
	seed, err := user.Seed()
	must(t, err)
	text, err := jwt.FormatUserConfig(token, seed)
	must(t, err)
	creds = filepath.Join(t.TempDir(), "user.creds")
	must(t, os.WriteFile(creds, text, 0o600))
	return creds
}

// trusting starts a server that trusts an operator, and returns the key of an account.
func trusting(t *testing.T) (*server.Server, nkeys.KeyPair) {
	t.Helper()
	operator, err := nkeys.CreateOperator()
	must(t, err)
	account, err := nkeys.CreateAccount()
	must(t, err)
	public, err := account.PublicKey()
	must(t, err)
	trusted, err := operator.PublicKey()
	must(t, err)
	token, err := jwt.NewAccountClaims(public).Encode(operator)
	must(t, err)
	resolver := &server.MemAccResolver{}
	must(t, resolver.Store(public, token))
	return startServer(t, &server.Options{TrustedKeys: []string{trusted}, AccountResolver: resolver}), account
}

// Credentials that expire, and a server that refuses them ever after, are told once, and
// not at each attempt.
func TestExpiredCredentialsAreToldOnce(t *testing.T) {
	t.Parallel()
	s, account := trusting(t)
	said := &lines{}
	var attempts atomic.Int32
	tenth := make(chan struct{})
	cfg := queue.Config{URL: s.ClientURL(), Creds: issue(t, account, time.Now().Add(3*time.Second))}
	nc, err := queue.Connect(cfg, "test", zerolog.New(said), nats.SetCustomDialer(counting{&attempts, tenth}))
	must(t, err)
	select {
	case <-tenth:
	case <-time.After(time.Minute):
		t.Error("there are no ten attempts in a minute")
	}
	nc.Close()
	said.mu.Lock()
	defer said.mu.Unlock()
	all := strings.Join(said.all, "")
	refused := strings.Count(all, "authorization violation") // once by the server, once as why there is no connection
	if refused < 1 || refused > 2 || !strings.Contains(all, "authentication expired") {
		t.Errorf("of %d attempts was said\n%s", attempts.Load(), all)
	}
}

// counting counts connections.
type counting struct {
	attempts *atomic.Int32
	tenth    chan struct{}
}

// Dial implements nats.CustomDialer.
func (c counting) Dial(network, address string) (net.Conn, error) {
	if c.attempts.Add(1) == 10 {
		close(c.tenth)
	}
	return (&net.Dialer{}).DialContext(context.Background(), network, address)
}
