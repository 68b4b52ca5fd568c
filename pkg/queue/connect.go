package queue

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/yagi-crash/yagi/pkg/settings"
)

// MinServerVersion is the oldest nats-server that may carry reports. Older
// ones lost acknowledged messages (Jepsen's analysis of 2.12.1,
// and what was fixed since).
const MinServerVersion = "2.15.2"

// Config is how a tier reaches the queue, and what the streams are to be.
type Config struct {
	// URL is where the NATS servers are, several with commas between them. It
	// has no default: a wrong guess would lose reports quietly.
	URL string `env:"NATS_URL,required,notEmpty"`
	// Creds is the path of a NATS credentials file (user JWT and seed); empty
	// means that the URL carries the credentials or none are needed.
	Creds string `env:"NATS_CREDS"`
	// CA is the path of a file of PEM certificates, which are trusted instead of the
	// system's to sign the server's. With it, or with NATS_CERT, every connection is TLS.
	CA string `env:"NATS_CA"`
	// Cert is the path of a PEM file with the certificate that the server asks of its
	// clients. It is read again at each connection, so that a renewed one needs no restart.
	Cert string `env:"NATS_CERT"`
	// Key is the path of a PEM file with the key of NATS_CERT.
	Key string `env:"NATS_KEY"`
	// TLSFirst is for a server that begins with TLS before it says anything
	// (handshake_first in its tls block).
	TLSFirst bool `env:"NATS_TLS_FIRST"`
	// Domain is the JetStream domain that the streams are in, where that is not the one of
	// the server at NATS_URL, which may be a leaf node. Permissions are then needed for
	// $JS.<domain>.API instead of $JS.API.
	Domain string `env:"NATS_JETSTREAM_DOMAIN"`
	// Partitions is the number of streams that intake spreads reports over. One
	// stream takes about one fsync a report; uploaders drain whatever exists.
	Partitions int `env:"NATS_PARTITIONS" envDefault:"1"`
	// Replicas is the number of servers that hold each stream: 1 or 3.
	Replicas int `env:"NATS_REPLICAS" envDefault:"1"`
	// StreamMaxBytes is the size at which a stream is full and intake answers
	// 503. All streams together must stay below 65 % of a server's disk.
	StreamMaxBytes settings.Bytes `env:"NATS_STREAM_MAX_BYTES" envDefault:"10GiB"`
	// MaxAckPending is how many reports of a stream may be in the hands of
	// uploaders at once: at least pods x workers x 1.5.
	MaxAckPending int `env:"NATS_MAX_ACK_PENDING" envDefault:"1000"`
}

const (
	// maxPartitions keeps a slip of the keyboard from becoming a thousand streams.
	maxPartitions = 64
	// leastStream fits some reports. mostStream is more than any server's disk, and all
	// partitions together do not overflow.
	leastStream settings.Bytes = 1 << 20
	mostStream  settings.Bytes = 1 << 50
	// mostPending is more than the memory of a server for them.
	mostPending = 1_000_000
)

// Validate reports every setting that cannot be.
func (c *Config) Validate() error {
	var p settings.Problems
	c.checkURLs(&p)
	settings.Within(&p, "NATS_PARTITIONS", c.Partitions, 1, maxPartitions)
	if c.Replicas != 1 && c.Replicas != 3 && c.Replicas != 5 {
		p.Add("NATS_REPLICAS", "%d is not 1, 3 or 5", c.Replicas)
	}
	settings.Within(&p, "NATS_STREAM_MAX_BYTES", c.StreamMaxBytes, leastStream, mostStream)
	settings.Within(&p, "NATS_MAX_ACK_PENDING", c.MaxAckPending, 1, mostPending)
	if strings.ContainsAny(c.Domain, " .*>\t") {
		p.Add("NATS_JETSTREAM_DOMAIN", "%q is not a name without dots, spaces and wildcards", c.Domain)
	}
	return errors.Join(append([]error{p.Err()}, c.validateFiles()...)...)
}

// checkURLs does not repeat an address, which may have a password.
func (c *Config) checkURLs(p *settings.Problems) {
	n, websockets := 0, 0
	for address := range strings.SplitSeq(c.URL, ",") {
		address = strings.TrimSpace(address)
		if address == "" {
			continue // as nats.go does
		}
		n++
		if !strings.Contains(address, "://") {
			address = "nats://" + address
		}
		u, err := url.Parse(address)
		if err != nil || u.Hostname() == "" || !isPort(u.Port()) || !slices.Contains(schemes(), u.Scheme) {
			p.Add("NATS_URL", "address %d is not one such as nats://nats.example.com:4222 (special characters of a password are written as %%40)", n)
			continue
		}
		if u.Scheme == "ws" || u.Scheme == "wss" {
			websockets++
		}
	}
	if c.URL != "" && n == 0 {
		p.Add("NATS_URL", "has no address")
	}
	if websockets > 0 && websockets < n {
		p.Add("NATS_URL", "mixes WebSocket addresses with others")
	}
}

// schemes are those that nats.go knows, and two that are warned of. It takes any other for
// nats, a misspelt tls too, and would send the password in the clear.
func schemes() []string { return []string{"nats", "tls", "ws", "wss", "http", "https"} }

func isPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return text == "" || err == nil && n > 0
}

// Warnings returns settings that work, and are probably not what was meant.
func (c *Config) Warnings() []settings.Warning {
	if strings.Contains(c.URL, "http://") || strings.Contains(c.URL, "https://") {
		return []settings.Warning{{Key: "NATS_URL", Problem: "has an http address: nats-server's own begin with nats:// or tls://, and its monitoring port takes no clients"}}
	}
	return nil
}

// dialTimeout is for one address, and nats.go's default.
const dialTimeout = 2 * time.Second

// Connect returns a connection that never gives up: it is there at once,
// connected or not, and reconnects for ever, also after refused credentials.
// role names the connection on the server and its inbox (_INBOX_<role>), which
// permissions are given for. Its comings and goings are logged. Further options
// come last, and so replace those that are set here.
func Connect(cfg Config, role string, log zerolog.Logger, further ...nats.Option) (*nats.Conn, error) {
	events := &comings{log: log}
	options := []nats.Option{
		nats.Name("yagi " + role),
		nats.CustomInboxPrefix("_INBOX_" + role),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(250*time.Millisecond, time.Second),
		nats.IgnoreAuthErrorAbort(),
		// Without a connection a publish fails at once. The default is to
		// buffer it, and to send it after the client was told that it failed.
		nats.ReconnectBufSize(-1),
		// A server that is gone without a word is noticed within 15 s, which leaves
		// some of INTAKE_PUBLISH_TIMEOUT for another one. A slow line may take 10 s
		// for what is on it.
		nats.PingInterval(5 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.SetCustomDialer(dialer()),
		// A write that blocks holds every other publish of the process up, and
		// no context ends it. A server that takes only part of one for so long,
		// longer than a leader election, is left.
		nats.FlusherTimeout(10 * time.Second),
		nats.ConnectHandler(events.connected),
		nats.ReconnectHandler(events.connected),
		nats.DisconnectErrHandler(events.gone),
		nats.ReconnectErrHandler(events.failed),
		nats.ErrorHandler(events.trouble),
	}
	options = append(options, cfg.security()...)
	if misread(cfg.URL) {
		return nil, fmt.Errorf("connecting to NATS_URL: %w", errAddresses)
	}
	nc, err := nats.Connect(cfg.URL, append(options, further...)...)
	if _, ok := errors.AsType[*url.Error](err); ok { // which quotes the URL, with its password
		err = errAddresses
	}
	if err != nil {
		return nil, fmt.Errorf("connecting to NATS_URL: %w", err)
	}
	return nc, nil
}

// errAddresses does not repeat NATS_URL, which may hold a password.
var errAddresses = errors.New("not a list of addresses such as nats://nats.example.com:4222; a password in it is percent-encoded")

// misread reports whether part of a password would be taken for a host, and so be
// logged: one that has a / ? or # in it.
func misread(list string) bool {
	for address := range strings.SplitSeq(list, ",") {
		u, err := url.Parse(strings.TrimSpace(address))
		if err == nil && u.Host != "" && strings.Contains(u.Path+u.RawQuery+u.Fragment, "@") {
			return true
		}
	}
	return false
}

// comings logs when a connection is made and lost, and each reason for which it cannot
// be made or is of no use, once until a connection has lasted: a server may accept
// credentials that expire and drop them at once, four times a second.
type comings struct {
	log zerolog.Logger
	mu  sync.Mutex
	at  time.Time // of the last connection
	// reasons are what was logged since one lasted.
	reasons map[string]bool
}

// lasted is how long a connection must be there for the next trouble to be news.
const lasted = 10 * time.Second

// mostReasons bounds how many are remembered, and so logged.
const mostReasons = 50

// ownPort is the part of an error that differs each time: "read udp
// 127.0.0.1:34900->127.0.0.53:53: i/o timeout".
var ownPort = regexp.MustCompile(`:\d+->`)

func (c *comings) connected(nc *nats.Conn) {
	c.mu.Lock()
	c.at = time.Now()
	c.mu.Unlock()
	if !c.isNew("connected to " + nc.ConnectedServerName()) {
		return
	}
	c.log.Info().Str("server", nc.ConnectedServerName()).Str("version", nc.ConnectedServerVersion()).Msg("NATS is connected")
}

func (c *comings) gone(_ *nats.Conn, err error) {
	c.mu.Lock()
	if time.Since(c.at) >= lasted {
		c.reasons = nil
	}
	c.mu.Unlock()
	if err != nil && c.isNew("lost: "+err.Error()) { // nil where this side hung up
		c.log.Warn().Err(err).Msg("NATS is away")
	}
}

func (c *comings) failed(_ *nats.Conn, err error) {
	if c.isNew(ownPort.ReplaceAllString(err.Error(), "->")) {
		c.log.Warn().Err(err).Msg("NATS cannot be reached")
	}
}

// trouble is also the only sign of a missing permission. A server that refuses the
// credentials says so at each of four attempts a second, and one that refuses a
// subject at each message.
func (c *comings) trouble(_ *nats.Conn, sub *nats.Subscription, err error) {
	if !c.isNew("trouble: " + err.Error()) {
		return
	}
	event := c.log.Error().Err(err)
	if sub != nil {
		event.Str("subject", sub.Subject)
	}
	event.Msg("NATS reports trouble")
}

// isNew reports whether a reason was not logged since the connection was there.
func (c *comings) isNew(reason string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reasons[reason] || len(c.reasons) == mostReasons {
		return false
	}
	if c.reasons == nil {
		c.reasons = map[string]bool{}
	}
	c.reasons[reason] = true
	return true
}

// CheckServer tells what is wrong with the connection or the server at its
// other end: not connected, or a version below MinServerVersion.
func CheckServer(nc *nats.Conn) error {
	if !nc.IsConnected() {
		return errors.New("not connected to NATS")
	}
	version := nc.ConnectedServerVersion()
	if older(version, MinServerVersion) {
		return fmt.Errorf("nats-server %s is older than %s, which may lose acknowledged reports", version, MinServerVersion)
	}
	return nil
}

// older compares versions of the form 2.15.2; what follows the third number
// does not count, and a version that cannot be read counts as 0.0.0.
func older(a, b string) bool {
	x, y := numbers(a), numbers(b)
	return slices.Compare(x[:], y[:]) < 0
}

func numbers(version string) (n [3]int) {
	_, _ = fmt.Sscanf(version, "%d.%d.%d", &n[0], &n[1], &n[2])
	return n
}
