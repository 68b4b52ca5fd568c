package intake

import (
	"strings"
	"time"

	"github.com/yagi-crash/yagi/intake/internal/throttle"
	"github.com/yagi-crash/yagi/pkg/queue"
	"github.com/yagi-crash/yagi/pkg/settings"
)

// Bounds of settings. A value outside of them is a slip of the keyboard: a unit that
// was left out, or a zero too many.
const (
	// leastMemory is enough for some reports at a time.
	leastMemory settings.Bytes = 1 << 20
	// mostBudget is more than any machine has, and far from where sums overflow.
	mostBudget settings.Bytes = 1 << 50
	// leastInflight keeps small reports from waiting for one another.
	leastInflight settings.Bytes = 64 << 10
	// leastHeader fits what clients send (under 1 kB) with what one proxy adds; net/http
	// grants 4 kB more. leastFields likewise: Firefox sends 9 fields.
	leastHeader settings.Bytes = 1 << 10
	mostHeader  settings.Bytes = 1 << 20
	leastFields                = 8
	mostFields                 = 100_000
	// leastReport, leastJSON and leastName are less than what the smallest report has: a
	// minidump's streams, three annotations or a part's header lines, and the longest of
	// their names.
	leastReport settings.Bytes = 1 << 10
	leastJSON   settings.Bytes = 256
	leastName   settings.Bytes = 16
	// mostConnections is more than the ports of a hundred load balancers.
	mostConnections = 10_000_000
	// mostBodyRate is 8 Mbit/s, which clients in the field do not send steadily.
	mostBodyRate settings.Bytes = 1_000_000
	// leastWait is less than one round trip to a far client, or one fsync of the queue
	// on a busy disk.
	leastWait = 100 * time.Millisecond
	mostStall = time.Hour
	// mostIdle is longer than any load balancer keeps an idle connection.
	mostIdle = 24 * time.Hour
	// mostLameDuck and mostGrace are longer than any rollout waits for a process.
	mostLameDuck = time.Hour
	mostGrace    = 24 * time.Hour
)

// Values that work, and are probably not what was meant.
const (
	electionTime = 10 * time.Second // a leader election takes 4 to 9 s
	shortStall   = 5 * time.Second
	steepRate    = 64 * 1000 // bytes a second: slow mobile lines have less
)

func (c *Config) checkSizes(p *settings.Problems) {
	settings.Within(p, "INTAKE_MAX_CONNECTIONS", c.MaxConnections, 1, mostConnections)
	settings.Within(p, "INTAKE_MAX_HEADER_BYTES", c.MaxHeaderBytes, leastHeader, mostHeader)
	settings.Within(p, "INTAKE_MAX_HEADER_FIELDS", c.MaxHeaderFields, leastFields, mostFields)
	settings.Within(p, "INTAKE_BODY_MIN_RATE", c.BodyMinRate, 0, mostBodyRate)
	settings.Within(p, "INTAKE_PUBLISH_INFLIGHT_BYTES", c.PublishInflight, leastInflight, mostBudget)
	settings.Within(p, "INTAKE_SPOOL_BUDGET", c.SpoolBudget, 0, mostBudget)
	c.checkLimits(p)
	largest := min(c.Limits.Wire, queue.MaxReport)
	if c.MemoryBudget != 0 {
		settings.Within(p, "INTAKE_MEMORY_BUDGET", c.MemoryBudget, leastMemory, mostBudget)
		if c.room() < largest {
			p.Add("INTAKE_MEMORY_BUDGET", "%v with INTAKE_SPOOL_BUDGET, %v, has no room for one report of INTAKE_MAX_BODY, %v: raise one of the budgets or lower INTAKE_MAX_BODY",
				c.MemoryBudget, c.SpoolBudget, largest)
		}
	}
	if c.NATS.StreamMaxBytes < largest {
		p.Add("NATS_STREAM_MAX_BYTES", "%v is less than one report of INTAKE_MAX_BODY, %v", c.NATS.StreamMaxBytes, largest)
	}
}

// checkLimits refuses limits within which no report is. Limits' own Validate refuses
// those that are 0.
func (c *Config) checkLimits(p *settings.Problems) {
	for _, l := range []struct {
		key      string
		n, least settings.Bytes
	}{
		{"INTAKE_MAX_BODY", c.Limits.Wire, leastReport},
		{"INTAKE_MAX_INFLATED", c.Limits.Inflated, leastReport},
		{"INTAKE_MAX_PART_HEADER_BYTES", c.Limits.HeaderBytes, leastJSON},
		{"INTAKE_MAX_JSON", c.Limits.JSON, leastJSON},
		{"INTAKE_MAX_ANNOTATION_NAME", c.Limits.Name, leastName},
	} {
		if l.n > 0 && l.n < l.least {
			p.Add(l.key, "%v is below %v: no report would pass", l.n, l.least)
		}
	}
}

// room is where reports may lie.
func (c *Config) room() settings.Bytes {
	return min(c.MemoryBudget, mostBudget) + min(c.SpoolBudget, mostBudget) // the sum does not overflow
}

func (c *Config) checkTimes(p *settings.Problems) {
	settings.Within(p, "INTAKE_BODY_STALL", c.BodyStall, leastWait, mostStall)
	settings.Within(p, "INTAKE_IDLE_TIMEOUT", c.IdleTimeout, leastWait, mostIdle)
	settings.Within(p, "INTAKE_LAME_DUCK", c.LameDuck, 0, mostLameDuck)
	settings.Within(p, "INTAKE_GRACE", c.Grace, leastWait, mostGrace)
	longest := min(queue.ReadyDeadline/5, queue.DuplicateWindow/2)
	if c.PublishTimeout > longest {
		p.Add("INTAKE_PUBLISH_TIMEOUT", "%v is above %v: the queue would no longer tell a repeated attempt from a new report", c.PublishTimeout, longest)
	} else {
		settings.Within(p, "INTAKE_PUBLISH_TIMEOUT", c.PublishTimeout, leastWait, longest)
	}
}

func (c *Config) checkSecrets(p *settings.Problems) {
	p.Auth("INTAKE_BROKEN_AUTH", c.BrokenAuth)
	if token := c.SubmitterToken.Reveal(); strings.TrimSpace(token) != token {
		p.Add("INTAKE_SUBMITTER_TOKEN", "begins or ends with a space, which no header does")
	}
}

func checkRules(p *settings.Problems, key, source string) {
	_, err := throttle.Load(source)
	addLines(p, key, err)
}

// addLines adds each line of an error, if there is one.
func addLines(p *settings.Problems, key string, err error) {
	if err == nil {
		return
	}
	for problem := range strings.Lines(err.Error()) {
		p.Add(key, "%s", strings.TrimSuffix(problem, "\n"))
	}
}

// Warnings returns settings that work, and are probably not what was meant.
func (c *Config) Warnings() []settings.Warning {
	var all []settings.Warning
	warn := func(when bool, key, problem string) {
		if when {
			all = append(all, settings.Warning{Key: key, Problem: problem})
		}
	}
	warn(c.PublishTimeout < electionTime, "INTAKE_PUBLISH_TIMEOUT", "is shorter than a leader election of the queue, during which clients are answered 503")
	warn(c.BodyStall < shortStall, "INTAKE_BODY_STALL", "is shorter than a mobile line may pause")
	warn(c.BodyMinRate > steepRate, "INTAKE_BODY_MIN_RATE", "is more than a slow mobile line carries")
	warn(c.Limits.Inflated < c.Limits.Wire, "INTAKE_MAX_INFLATED", "is below INTAKE_MAX_BODY, and bounds bodies that are not compressed too")
	warn(c.Limits.Wire > queue.MaxReport, "INTAKE_MAX_BODY", "is above 1 GiB, the largest report that the queue carries")
	warn(c.room() < min(c.Limits.Inflated, queue.MaxReport), "INTAKE_MEMORY_BUDGET", "with INTAKE_SPOOL_BUDGET has no room for one report of INTAKE_MAX_INFLATED, which is answered 503")
	return all
}
