package queuestatus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// uploaderPatience is how long an uploader may take to show its metrics, which
// cost it next to nothing. It is shorter than the time for a whole look: one
// that hangs must not hold up those who watch.
const uploaderPatience = 2 * time.Second

// Names of an uploader's gauges (uploader/metrics.go).
const (
	breakerGauge     = "uploader_breaker_open"
	concurrencyGauge = "uploader_concurrency"
)

// Uploader is what the metrics of an uploader say.
type Uploader struct {
	// Address is the host and port that were asked.
	Address string `json:"address"`
	// BreakerOpen says that its bucket takes nothing, so that it takes no report
	// from the queue; null when it did not say.
	BreakerOpen *bool `json:"breaker_open"`
	// Concurrency is how many of its workers may be at work; null likewise.
	Concurrency *int `json:"concurrency"`
	// Problem says why it did not say; empty when it did.
	Problem string `json:"problem"`
}

func (s *Status) readUploaders(ctx context.Context, addresses []string) {
	ctx, cancel := context.WithTimeoutCause(ctx, uploaderPatience, fmt.Errorf("no answer within %s", uploaderPatience))
	defer cancel()
	s.Uploaders = make([]Uploader, len(addresses))
	each(len(addresses), func(i int) error {
		if err := s.Uploaders[i].read(ctx, addresses[i]); err != nil {
			s.Uploaders[i].Problem = because(ctx, err).Error()
		}
		return nil
	})
}

func (u *Uploader) read(ctx context.Context, uploader string) error {
	address, err := url.Parse(uploader)
	if err != nil {
		return errors.New("its address is not a URL")
	}
	u.Address = address.Host
	var gauges map[string]float64
	err = readPage(ctx, address.JoinPath("metrics"), func(r io.Reader) (err error) {
		gauges, err = readGauges(r)
		return err
	})
	if err != nil {
		return err
	}
	open, hasBreaker := gauges[breakerGauge]
	concurrency, hasConcurrency := gauges[concurrencyGauge]
	if !hasBreaker || !hasConcurrency {
		return errors.New("its /metrics are not those of an uploader")
	}
	u.BreakerOpen, u.Concurrency = new(open != 0), new(int(concurrency))
	return nil
}

// readGauges returns the gauges without labels of a page in Prometheus' text
// format.
func readGauges(r io.Reader) (map[string]float64, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(r)
	if err != nil {
		return nil, err
	}
	gauges := map[string]float64{}
	for name, family := range families {
		for _, m := range family.GetMetric() {
			if m.GetGauge() != nil && len(m.GetLabel()) == 0 {
				gauges[name] = m.GetGauge().GetValue()
			}
		}
	}
	return gauges, nil
}

func (u *Uploader) attention() []string {
	switch {
	case u.BreakerOpen == nil:
		return []string{fmt.Sprintf("uploader %s does not say how it is: %s", u.Address, u.Problem)}
	case *u.BreakerOpen:
		return []string{fmt.Sprintf("uploader %s: its breaker is open: the bucket takes nothing, and so it takes no report from the queue (its /__heartbeat__ says why)", u.Address)}
	}
	return nil
}
