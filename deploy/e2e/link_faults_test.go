//go:build faults

package e2e

import (
	"strings"
	"testing"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// link is a network between two parts of a system, on which anything can go
// wrong.
type link struct {
	t     *testing.T
	proxy *toxiproxy.Proxy
}

// newLink returns a link to an address that works.
func newLink(t *testing.T, upstream string) *link {
	t.Helper()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	l := &link{t: t, proxy: toxiproxy.NewProxy(server, t.Name(), freeAddr(t), upstream)}
	l.mend()
	t.Cleanup(l.cut)
	return l
}

// addr is where the link begins.
func (l *link) addr() string { return l.proxy.Listen }

// cut breaks every connection and takes no new one.
func (l *link) cut() { l.proxy.Stop() }

// mend lets connections through again.
func (l *link) mend() {
	l.t.Helper()
	if err := l.proxy.Start(); err != nil {
		l.t.Fatal(err)
	}
}

// ail adds a toxic, in toxiproxy's own words, such as
// {"type":"latency","stream":"downstream","attributes":{"latency":1000}}.
func (l *link) ail(toxic string) {
	l.t.Helper()
	if _, err := l.proxy.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
		l.t.Fatal(err)
	}
}
