package queuestatus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Names of an uploader's gauges (uploader/metrics.go).
const (
	breakerGauge     = "uploader_breaker_open"
	concurrencyGauge = "uploader_concurrency"
)

// Uploader is a Service, and what its metrics say.
type Uploader struct {
	Service

	// BreakerOpen says that its bucket takes nothing, so that it takes no report
	// from the queue; null when it did not say.
	BreakerOpen *bool `json:"breaker_open"`
	// Concurrency is how many of its workers may be at work; null likewise.
	Concurrency *int `json:"concurrency"`
}

func (u *Uploader) readGauges(ctx context.Context, address *url.URL) error {
	var gauges map[string]float64
	err := readPage(ctx, address.JoinPath("metrics"), func(r io.Reader) (err error) {
		gauges, err = parseGauges(r)
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

// parseGauges returns the gauges without labels of a page in Prometheus' text
// format.
func parseGauges(r io.Reader) (map[string]float64, error) {
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
	var all []string
	if u.BreakerOpen != nil && *u.BreakerOpen {
		all = append(all, fmt.Sprintf("uploader %s: its breaker is open: the bucket takes nothing, and so it takes no report from the queue", u.Address))
	}
	return append(all, u.Service.attention("uploader")...)
}
