package intake

import (
	"fmt"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"github.com/yagi-crash/yagi/intake/internal/breakpad"
	"github.com/yagi-crash/yagi/intake/internal/transport"
	"github.com/yagi-crash/yagi/pkg/queue"
	"github.com/yagi-crash/yagi/pkg/settings"
	"github.com/yagi-crash/yagi/pkg/telemetry"
)

// Config is everything that an operator can set on intake.
type Config struct {
	// Addr is where crash clients post to (INTAKE_SUBMIT_PATHS) and load balancers
	// look (/__heartbeat__ and its kin).
	Addr string `env:"INTAKE_ADDR" envDefault:":8000"`
	// SubmitPaths is the list of paths that reports are posted to, at most 32, separated
	// by commas. A segment * stands for any one: /api/*/minidump/ takes what sentry-native
	// sends. Slashes in a row count as one, and those at the end as none; queries are
	// ignored.
	SubmitPaths []string `env:"INTAKE_SUBMIT_PATHS" envDefault:"/submit"`
	// AdminAddr is where operators look: /metrics, /readyz, /rules. Keep it
	// private.
	AdminAddr string `env:"INTAKE_ADMIN_ADDR" envDefault:":8001"`

	// MaxConnections is how many clients may be connected to INTAKE_ADDR at once. When
	// it is reached, a newcomer displaces the connection that has waited the longest for
	// the rest of a head, the first 512 bytes of a body, or another request; a reserve of
	// a tenth more, and 64, is open meanwhile, so that health checks are answered. When
	// this many reports are in progress, others wait for up to 5 s, as many as three
	// quarters of the reserve, and are answered 503 beyond that; clients that bring less
	// than 8 KiB a second are given up for them. As many heads as the reserve has places
	// may be unfinished.
	MaxConnections int `env:"INTAKE_MAX_CONNECTIONS" envDefault:"20000"`
	// IdleTimeout is how long a connection may wait for its next request. It must be
	// longer than the load balancer keeps its own, or requests are sent into connections
	// that are closing: most keep them for 60 s, Google's for 600 s (set 620s there).
	IdleTimeout time.Duration `env:"INTAKE_IDLE_TIMEOUT" envDefault:"75s"`
	// MaxHeaderBytes is the largest head of a request (its first line and its header), to
	// within 4 kB; a larger one is answered 431. A head of the default size takes up to
	// 50 kB of memory, its connection included, until its request is answered: 10,000 requests
	// in progress with such heads took 480 MB, 2,000 unfinished heads 97 MB.
	MaxHeaderBytes settings.Bytes `env:"INTAKE_MAX_HEADER_BYTES" envDefault:"16KiB"`
	// MaxHeaderFields is how many header fields a request may have, Host not counted,
	// and a folded one as often as it has lines; one with more is answered 431 while it
	// arrives.
	MaxHeaderFields int `env:"INTAKE_MAX_HEADER_FIELDS" envDefault:"100"`
	// Limits bound what one report may cost.
	Limits breakpad.Limits
	// BodyStall is how long a client may send nothing of its body before it is
	// answered 408.
	BodyStall time.Duration `env:"INTAKE_BODY_STALL" envDefault:"30s"`
	// BodyMinRate is how much of a body must arrive each second, over any 30 s;
	// a slower client is answered 408.
	BodyMinRate settings.Bytes `env:"INTAKE_BODY_MIN_RATE" envDefault:"1kB"`

	// MemoryBudget is the memory that bodies may lie in from their first byte until they
	// are promised. When it is not set, it is a quarter of what the container or the
	// machine has. Beside it intake takes, per core, up to three reports in parsing (about
	// four times INTAKE_MAX_JSON each) and four zstd decoders (8.3 MiB each, two more for
	// large reports), up to twice INTAKE_PUBLISH_INFLIGHT_BYTES for messages in flight, and
	// some 20 kB a connection, whatever clients send.
	MemoryBudget settings.Bytes `env:"INTAKE_MEMORY_BUDGET"`
	// SpoolBudget is the size of the file for what is more than that. A body holds room for
	// what has arrived of it. Once both are used up, the bodies that hold most room for
	// longest (large, slow or stalled ones) are given up for others, and further clients
	// are answered 503. With 0 there is no file.
	SpoolBudget settings.Bytes `env:"INTAKE_SPOOL_BUDGET" envDefault:"4GiB"`
	// SpoolDir is the folder of that file, which has no name and is gone when the
	// process is. It must lie on a disk; when it is not set, it is TMPDIR or /tmp.
	SpoolDir string `env:"INTAKE_SPOOL_DIR"`

	// PublishTimeout is how long a report is offered to the queue, over all
	// attempts, before its client is answered 503. It must outlast a leader
	// election (4 to 9 s), and, with the wait for a turn (as long again at
	// most), end before the load balancer and the client give up (Crashpad: 60 s).
	PublishTimeout time.Duration `env:"INTAKE_PUBLISH_TIMEOUT" envDefault:"20s"`
	// PublishInflight is how many bytes may be in flight to the queue at once; further
	// messages wait. A quarter is for small ones alone, up to a 64th of it each.
	PublishInflight settings.Bytes `env:"INTAKE_PUBLISH_INFLIGHT_BYTES" envDefault:"32MB"`

	// ThrottleRules names the rules that decide which reports are kept:
	// accept_all, mozilla, or a file's path, which has a slash or ends in .yaml.
	ThrottleRules string `env:"INTAKE_THROTTLE_RULES" envDefault:"accept_all"`
	// ShadowRules names rules that are tried out: intake judges every report by
	// them too, counts what they say, and does nothing else with it. Empty: none.
	ShadowRules string `env:"INTAKE_SHADOW_RULES"`
	// SubmitterToken is the bearer token that lets a client choose a report's id
	// (annotation uuid). Empty: nobody may.
	SubmitterToken settings.Secret `env:"INTAKE_SUBMITTER_TOKEN"`

	// ForeignUUID says what becomes of a report with the annotation uuid that comes
	// without that token: refuse (401, as Antenna) or ignore (it gets an id like any
	// other).
	ForeignUUID foreignUUID `env:"INTAKE_FOREIGN_UUID" envDefault:"refuse"`

	// LameDuck is how long intake still accepts after it was told to stop, while
	// load balancers find out: about 15s in Kubernetes.
	LameDuck time.Duration `env:"INTAKE_LAME_DUCK" envDefault:"0s"`
	// Grace is how long requests in hand may take to finish after that.
	Grace time.Duration `env:"INTAKE_GRACE" envDefault:"60s"`
	// PProf serves /debug/pprof/ on the admin address.
	PProf bool `env:"INTAKE_PPROF" envDefault:"false"`
	// BrokenAuth is user:password for /__broken__, which fails on purpose to
	// test error reporting. Empty: the page does not exist.
	BrokenAuth settings.Secret `env:"INTAKE_BROKEN_AUTH"`

	// NATS is how intake reaches the queue.
	NATS queue.Config
	// Log is what is logged.
	Log telemetry.Config
}

// leastHeap is what connections and publishing need beside a small budget.
const leastHeap settings.Bytes = 256 << 20

// Load reads the configuration from environment variables ("KEY=value"), and
// with it others of the same process, pointers as settings.Load takes them. The
// error lists everything that is wrong.
func Load(environ []string, others ...any) (Config, error) {
	var c Config
	err := settings.Load(environ, append([]any{&c}, others...)...)
	if c.MemoryBudget == 0 {
		c.MemoryBudget = quarterOfMemory()
	}
	return c, err
}

// connections is the limits of the public listener. Host is a field that every
// request has.
func (c *Config) connections() transport.Config {
	return transport.Config{Connections: c.MaxConnections, HeaderLines: c.MaxHeaderFields + 1, HeaderTimeout: headerTimeout}
}

// HeapLimit is what the process should keep its heap within, in bytes: three times
// the budget for reports, which is three quarters of the memory when it is not
// set; or, with a small budget, what connections and publishing need, if there is
// as much.
func (c *Config) HeapLimit() int64 {
	return int64(max(3*c.MemoryBudget, min(leastHeap, 3*quarterOfMemory())))
}

// quarterOfMemory is a part of the memory of the container or, where that has no
// limit, of the machine.
func quarterOfMemory() settings.Bytes {
	limit := uint64(unknownMemory)
	for _, ask := range []func() (uint64, error){memlimit.FromSystem, memlimit.FromCgroup} {
		if n, err := ask(); err == nil && n > 0 { // an error means that there is no such limit here
			limit = min(limit, n)
		}
	}
	return settings.Bytes(limit / 4)
}

// unknownMemory is what a machine is taken to have at the most, in bytes.
const unknownMemory = 1 << 40

// foreignUUID is what becomes of an id that was chosen by somebody who may not.
type foreignUUID string

const (
	refuseForeign foreignUUID = "refuse"
	ignoreForeign foreignUUID = "ignore"
)

// UnmarshalText reads "refuse" or "ignore".
func (f *foreignUUID) UnmarshalText(text []byte) error {
	switch *f = foreignUUID(text); *f {
	case refuseForeign, ignoreForeign:
		return nil
	}
	return fmt.Errorf("%q is neither %s nor %s", text, refuseForeign, ignoreForeign)
}

// Validate reports every setting that cannot be, and every contradiction between two.
func (c *Config) Validate() error {
	var p settings.Problems
	p.Addrs(settings.Addr{Key: "INTAKE_ADDR", Value: c.Addr}, settings.Addr{Key: "INTAKE_ADMIN_ADDR", Value: c.AdminAddr})
	c.checkSizes(&p)
	c.checkTimes(&p)
	c.checkSecrets(&p)
	_, err := parseSubmitPaths(c.SubmitPaths)
	addLines(&p, "INTAKE_SUBMIT_PATHS", err)
	checkRules(&p, "INTAKE_THROTTLE_RULES", c.ThrottleRules)
	if c.ShadowRules != "" {
		checkRules(&p, "INTAKE_SHADOW_RULES", c.ShadowRules)
	}
	return p.Err()
}
