package queue_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/devstack/devcert"
	"github.com/yagi-crash/yagi/pkg/devstack/freeport"
	"github.com/yagi-crash/yagi/pkg/queue"
	"github.com/yagi-crash/yagi/pkg/settings"
)

// startServer starts a nats-server with options of its own.
func startServer(t *testing.T, opts *server.Options) *server.Server {
	t.Helper()
	opts.Host, opts.Port, opts.NoSigs, opts.MaxPayload = "127.0.0.1", server.RANDOM_PORT, true, queue.MaxPayload
	if opts.JetStream {
		opts.StoreDir = t.TempDir()
	}
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(20 * time.Second) {
		t.Fatal("the server is not ready after 20 s")
	}
	return s
}

func certificates(t *testing.T) devcert.Files {
	t.Helper()
	files, err := devcert.Make(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// secured are the options of a server that asks for certificates of its authority.
func secured(t *testing.T, files devcert.Files) *server.Options {
	t.Helper()
	cert, err := tls.LoadX509KeyPair(files.ServerCert, files.ServerKey)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(files.CA)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	return &server.Options{TLSTimeout: 10, TLSConfig: &tls.Config{
		Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12,
	}}
}

// load reads a configuration as the tiers do.
func load(t *testing.T, environ ...string) (cfg queue.Config, err error) {
	t.Helper()
	err = settings.Load(environ, &cfg)
	return cfg, err
}

// answers connects and reports whether the server answers.
func answers(t *testing.T, cfg queue.Config) error {
	t.Helper()
	failed := make(chan error, 100)
	nc, err := queue.Connect(cfg, "test", zerolog.Nop(), nats.ReconnectErrHandler(func(_ *nats.Conn, err error) {
		select {
		case failed <- err:
		default:
		}
	}))
	if err != nil {
		return err
	}
	defer nc.Close()
	connected := nc.StatusChanged(nats.CONNECTED)
	if !nc.IsConnected() {
		select {
		case <-connected:
		case err := <-failed:
			return err
		case <-time.After(30 * time.Second):
			return context.DeadlineExceeded
		}
	}
	return nc.FlushTimeout(20 * time.Second)
}

// A server of a private authority is reached, with a client's certificate, whether it
// begins with TLS or says first who it is.
func TestPrivateAuthority(t *testing.T) {
	t.Parallel()
	files := certificates(t)
	for name, first := range map[string]bool{"after INFO": false, "first": true} {
		t.Run(name, func(t *testing.T) {
			opts := secured(t, files)
			opts.TLSHandshakeFirst = first
			url := "NATS_URL=" + startServer(t, opts).ClientURL()
			settings := []string{url, "NATS_CA=" + files.CA, "NATS_CERT=" + files.ClientCert, "NATS_KEY=" + files.ClientKey}
			if first {
				settings = append(settings, "NATS_TLS_FIRST=true")
			}
			cfg, err := load(t, settings...)
			if err != nil {
				t.Fatal(err)
			}
			if err := answers(t, cfg); err != nil {
				t.Errorf("with everything: %v", err)
			}
			stranger := certificates(t)
			for what, change := range map[string]func(*queue.Config){
				"without a certificate":    func(c *queue.Config) { c.Cert, c.Key = "", "" },
				"with another's":           func(c *queue.Config) { c.Cert, c.Key = stranger.ClientCert, stranger.ClientKey },
				"with another's authority": func(c *queue.Config) { c.CA = stranger.CA },
			} {
				wrong := cfg
				change(&wrong)
				if err := answers(t, wrong); err == nil {
					t.Errorf("%s it answers too", what)
				}
			}
		})
	}
}

// A server that speaks no TLS gets no credentials of one who asks for TLS.
func TestAuthorityNeedsTLS(t *testing.T) {
	t.Parallel()
	cfg := queue.Config{URL: startServer(t, &server.Options{}).ClientURL(), CA: certificates(t).CA}
	if err := answers(t, cfg); err == nil || !strings.Contains(err.Error(), "secure connection not available") {
		t.Errorf("connected with %v", err)
	}
}

// A file that cannot be used is told at the start, by its setting.
func TestFilesAreChecked(t *testing.T) {
	t.Parallel()
	files := certificates(t)
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		says     string
		settings []string
	}{
		{"NATS_CA: open /nowhere: no such file", []string{"NATS_CA=/nowhere"}},
		{"NATS_CA: " + empty + " holds no PEM certificate", []string{"NATS_CA=" + empty}},
		{"NATS_CREDS: open /nowhere: no such file", []string{"NATS_CREDS=/nowhere"}},
		{"NATS_KEY: is required with NATS_CERT", []string{"NATS_CERT=" + files.ClientCert}},
		{"NATS_CERT: is required with NATS_KEY", []string{"NATS_KEY=" + files.ClientKey}},
		{"NATS_CERT: reading the certificate and NATS_KEY: ", []string{"NATS_CERT=" + files.ClientCert, "NATS_KEY=" + files.ServerKey}},
		{"NATS_JETSTREAM_DOMAIN: ", []string{"NATS_JETSTREAM_DOMAIN=a.b"}},
		{"NATS_TLS_FIRST: ", []string{"NATS_TLS_FIRST=perhaps"}},
	} {
		_, err := load(t, append(c.settings, "NATS_URL=nats://127.0.0.1")...)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v: %v, want %q", c.settings, err, c.says)
		}
	}
}

// leaf starts a server with streams of its own that is a leaf node of a hub with a
// domain, and returns both.
func leaf(t *testing.T) (hub, leaf *server.Server) {
	t.Helper()
	addr, err := new(freeport.Finder).Addr(t.Context())
	must(t, err)
	at := &url.URL{Scheme: "nats-leaf", Host: addr}
	port, err := strconv.Atoi(at.Port())
	must(t, err)
	hub = startServer(t, &server.Options{
		ServerName: "hub", JetStream: true, JetStreamDomain: "hub", LeafNode: server.LeafNodeOpts{Host: "127.0.0.1", Port: port},
	})
	leaf = startServer(t, &server.Options{
		ServerName: "leaf", JetStream: true, JetStreamDomain: "leaf",
		LeafNode: server.LeafNodeOpts{ReconnectInterval: 50 * time.Millisecond, Remotes: []*server.RemoteLeafOpts{{URLs: []*url.URL{at}}}},
	})
	for deadline := time.Now().Add(30 * time.Second); leaf.NumLeafNodes() == 0; <-time.After(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the leaf node is not connected after 30 s")
		}
	}
	return hub, leaf
}

// storeChunked stores a report in two chunks and its ready message.
func storeChunked(t *testing.T, js jetstream.JetStream) *crash.Sealed {
	t.Helper()
	report := sealed()
	body := make([]byte, report.Size())
	_, err := report.ReadAt(body, 0)
	if !errors.Is(err, io.EOF) {
		must(t, err)
	}
	var chunks []uint64
	for _, chunk := range [][]byte{body[:10], body[10:]} {
		ack, err := js.Publish(t.Context(), queue.ChunkSubject(0), chunk)
		must(t, err)
		chunks = append(chunks, ack.Sequence)
	}
	msg, err := queue.EncodeChunked(report, chunks)
	must(t, err)
	msg.Subject = queue.ReadySubject(0)
	_, err = js.PublishMsg(t.Context(), msg)
	must(t, err)
	return report
}

// Everything of the queue works over a leaf node, in the hub's domain, and nothing of it
// is in the leaf's own.
func TestDomainOverALeafNode(t *testing.T) {
	t.Parallel()
	hub, leaf := leaf(t)
	cfg := queue.Config{URL: leaf.ClientURL(), Domain: "hub", Partitions: 1, Replicas: 1, StreamMaxBytes: 64 << 20, MaxAckPending: 10}
	nc, err := queue.Connect(cfg, "test", zerolog.Nop())
	must(t, err)
	t.Cleanup(nc.Close)
	js, err := queue.Open(nc, cfg)
	must(t, err)
	apply(t, js, cfg)
	for _, c := range plan(t, js, cfg) {
		t.Errorf("still to do: %s", c.Does)
	}
	chunked := storeChunked(t, js)
	pullers, err := queue.NewPullers(js)
	must(t, err)
	msg, err := pullers.Take(t.Context(), func(p *queue.Puller) (jetstream.Msg, error) {
		return p.Next(queue.StreamName(0), queue.Consumer, 20*time.Second)
	})
	must(t, err)
	if msg == nil {
		t.Fatal("no message comes")
	}
	reader := queue.NewReader(js)
	next, err := reader.NextReady(t.Context(), 0, 1)
	if err != nil || next == nil || next.Sequence != 3 {
		t.Errorf("the first ready message is %+v, %v, want number 3", next, err)
	}
	manifest, err := queue.ReadManifest(msg.Headers())
	must(t, err)
	s, err := reader.Read(t.Context(), queue.StreamName(0), manifest, msg.Data())
	must(t, err)
	if s.ID != chunked.ID || s.Verify() != nil {
		t.Errorf("read %s, %v, want %s", s.ID, s.Verify(), chunked.ID)
	}
	meta, err := msg.Metadata()
	must(t, err)
	must(t, queue.NewCopier(js).Bury(t.Context(), msg.Headers(), msg.Data(), queue.Death{
		Stream: queue.StreamName(0), Sequence: meta.Sequence.Stream, Stored: meta.Timestamp, Cause: "test",
	}))
	must(t, msg.DoubleAck(t.Context()))
	must(t, pullers.Close())
	found, err := queue.Inspect(t.Context(), js, 0, cfg)
	must(t, err)
	if found.Consumer.NumAckPending != 0 || found.Consumer.NumPending != 0 || len(found.Differences) > 0 {
		t.Errorf("%+v", found.Consumer)
	}
	for who, s := range map[string]*server.Server{"hub": hub, "leaf": leaf} {
		info, err := s.Jsz(nil)
		must(t, err)
		if want := map[string]int{"hub": 3, "leaf": 0}[who]; info.Streams != want {
			t.Errorf("the %s has %d streams, want %d", who, info.Streams, want)
		}
	}
}
