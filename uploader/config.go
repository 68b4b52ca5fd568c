package uploader

import (
	"errors"
	"fmt"
	"time"

	"github.com/yagi-crash/yagi/pkg/queue"
	"github.com/yagi-crash/yagi/pkg/settings"
	"github.com/yagi-crash/yagi/pkg/telemetry"
)

// Config is everything that can be set about an uploader.
type Config struct {
	// AdminAddr is the host:port of the metrics, health and version pages. It
	// is for operators: clients have no business there.
	AdminAddr string `env:"UPLOADER_ADMIN_ADDR" envDefault:":8002"`
	// Workers is how many reports are in hand at a time, each held in memory
	// whole: up to 8 MB in its message, or else out of UPLOADER_MEMORY_BUDGET. The
	// process keeps within both together, unless GOMEMLIMIT is set. All uploaders'
	// workers together, times 1.5, must not exceed NATS_MAX_ACK_PENDING.
	Workers int `env:"UPLOADER_WORKERS" envDefault:"16"`
	// MemoryBudget is the memory for reports larger than a message, which arrive
	// in chunks. A worker waits until there is enough of it; a report larger than
	// all of it is taken alone.
	MemoryBudget settings.Bytes `env:"UPLOADER_MEMORY_BUDGET" envDefault:"96MiB"`
	// Bucket is where reports are stored. It has no default: a wrong guess
	// would put personal data into somebody else's hands.
	Bucket string `env:"S3_BUCKET,required,notEmpty"`
	// PutTimeout is how long the PUT of one object may go without progress. It must
	// be shorter than the queue's ack wait of one minute. On the whole an object
	// has as long, and a second more for each 64 KiB.
	PutTimeout time.Duration `env:"UPLOADER_PUT_TIMEOUT" envDefault:"20s"`
	// ProbeInterval is how often a bucket that takes nothing is tried. In the
	// meantime no report is taken from the queue.
	ProbeInterval time.Duration `env:"UPLOADER_PROBE_INTERVAL" envDefault:"5s"`
	// RetryMin is how long a report waits in the queue after its first failed
	// attempt; the wait doubles with each further one.
	RetryMin time.Duration `env:"UPLOADER_RETRY_MIN" envDefault:"1s"`
	// RetryMax is the longest such wait.
	RetryMax time.Duration `env:"UPLOADER_RETRY_MAX" envDefault:"1m"`
	// ReplayWindow is how long reports stay in the queue once they are stored, so
	// that they can be replayed. When a stream has 80 % of NATS_STREAM_MAX_BYTES,
	// the oldest of them go earlier.
	ReplayWindow time.Duration `env:"UPLOADER_REPLAY_WINDOW" envDefault:"24h"`
	// Grace is how long reports in hand may take after a SIGTERM before they
	// are handed back unfinished. It must be shorter than whatever follows with
	// a SIGKILL.
	Grace time.Duration `env:"UPLOADER_GRACE" envDefault:"60s"`
	// PProf serves Go's profiles under /debug/pprof/ on the admin address.
	PProf bool `env:"UPLOADER_PPROF" envDefault:"false"`
	// BrokenAuth is the user:password that may call /__broken__, which raises
	// an error on purpose to see it reported. Empty means that nobody may.
	BrokenAuth settings.Secret `env:"UPLOADER_BROKEN_AUTH"`
	// S3 is how the bucket is reached.
	S3 S3
	// NATS is how the queue is reached.
	NATS queue.Config
	// Log is how events are logged.
	Log telemetry.Config
}

// Load reads the configuration from environ (KEY=value, as os.Environ returns
// it). The error lists every setting that is missing or cannot be.
func Load(environ []string) (Config, error) {
	var cfg Config
	err := settings.Load(environ, &cfg)
	return cfg, err
}

// leastHeap is what an uploader needs beside the reports in hand, in bytes.
const leastHeap = 64 << 20

// HeapLimit is what the process should keep its heap within, in bytes: what the reports
// in hand may take together. They rarely do: a worker with a report in chunks has none
// in a message.
func (c *Config) HeapLimit() int64 {
	return max(leastHeap, int64(c.MemoryBudget)+int64(c.Workers)*queue.MaxPayload)
}

// maxWorkers keeps a slip of the keyboard from taking all memory: a report may
// be queue.MaxPayload bytes.
const maxWorkers = 1024

// Validate reports every setting that cannot be, one a line. Load calls it, and
// the Validate of what is embedded.
func (c *Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Workers < 1 || c.Workers > maxWorkers {
		bad("UPLOADER_WORKERS: %d is not from 1 to %d", c.Workers, maxWorkers)
	}
	if c.MemoryBudget < 1 {
		bad("UPLOADER_MEMORY_BUDGET: %d bytes is less than 1", int64(c.MemoryBudget))
	}
	if c.PutTimeout <= 0 || c.PutTimeout >= queue.AckWait {
		bad("UPLOADER_PUT_TIMEOUT: %v is not between 0 and %v", c.PutTimeout, queue.AckWait)
	}
	if c.ProbeInterval <= 0 {
		bad("UPLOADER_PROBE_INTERVAL: %v is not above 0", c.ProbeInterval)
	}
	if c.RetryMin <= 0 {
		bad("UPLOADER_RETRY_MIN: %v is not above 0", c.RetryMin)
	}
	if c.RetryMax < c.RetryMin {
		bad("UPLOADER_RETRY_MAX: %v is less than UPLOADER_RETRY_MIN, %v", c.RetryMax, c.RetryMin)
	}
	if c.ReplayWindow < 0 {
		bad("UPLOADER_REPLAY_WINDOW: %v is less than 0", c.ReplayWindow)
	}
	if c.Grace < 0 {
		bad("UPLOADER_GRACE: %v is less than 0", c.Grace)
	}
	return errors.Join(errs...)
}
