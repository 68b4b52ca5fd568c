package main

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Whatever does not answer, crashctl gives up in time, says what it could not
// reach and keeps the password to itself.
func TestUnreachable(t *testing.T) {
	closed, silent := listen(t), listen(t)
	closed.Close()
	for name, url := range map[string]string{
		"nobody listens": "nats://ops:secret@" + closed.Addr().String(),
		"silence":        "nats://ops:secret@" + silent.Addr().String(),
		"both":           "nats://ops:secret@" + silent.Addr().String() + ",nats://ops:secret@" + closed.Addr().String(),
	} {
		for _, args := range [][]string{{"status"}, {"status", "--json"}, {"stream", "apply"}, {"stream", "apply", "--yes"}} {
			begin := time.Now()
			got := crashctl(t, []string{"NATS_URL=" + url}, append(args, "--timeout=200ms")...)
			if took := time.Since(begin); took > time.Second {
				t.Errorf("%s: %v took %s", name, args, took)
			}
			said := got.errors + got.out
			if got.code != 2 || strings.Contains(said, "secret") {
				t.Errorf("%s: %v: %+v", name, args, got)
			}
			requireWords(t, said, "connecting to NATS at "+strings.ReplaceAll(url, "ops:secret", "***")+": ")
		}
	}
}

// An address that cannot be parsed is reported without its password.
func TestAddressThatIsNone(t *testing.T) {
	got := crashctl(t, []string{"NATS_URL=nats://ops:secret@127.0.0.1:port"}, "status")
	if got.code != 2 || strings.Contains(got.errors+got.out, "secret") {
		t.Errorf("%+v", got)
	}
	requireWords(t, got.errors, "\nNATS_URL: address 1 is not one such as nats://")
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// That nobody listens is told, and not only that there is no connection.
func TestNobodyListens(t *testing.T) {
	closed := listen(t)
	closed.Close()
	got := crashctl(t, []string{"NATS_URL=nats://" + closed.Addr().String()}, "status", "--timeout=2s")
	requireWords(t, got.out, "no connection within 2s (dial tcp "+closed.Addr().String(), "connection refused)")
	for _, timeout := range []string{"0s", "-1s"} {
		got := crashctl(t, nil, "status", "--timeout="+timeout)
		if got.code != 2 {
			t.Errorf("%+v", got)
		}
		requireWords(t, got.errors, "--timeout has to be above 0, not "+timeout)
	}
}

func TestRefusedCredentials(t *testing.T) {
	s := startServer(t, &server.Options{Username: "ops", Password: "right"})
	url := strings.Replace(s.ClientURL(), "://", "://ops:wrong@", 1)
	got := crashctl(t, []string{"NATS_URL=" + url}, "status", "--timeout=2s")
	if got.code != 2 || strings.Contains(got.out, "wrong") {
		t.Errorf("%+v", got)
	}
	requireWords(t, got.out, "no connection within 2s (nats: Authorization Violation)")
}

func TestWithoutJetStream(t *testing.T) {
	s := startServer(t, &server.Options{})
	for _, args := range [][]string{{"status"}, {"stream", "apply"}} {
		got := crashctl(t, []string{"NATS_URL=" + s.ClientURL()}, args...)
		if got.code != 2 {
			t.Errorf("%v: %+v", args, got)
		}
		requireWords(t, got.out+got.errors, "asking JetStream at "+s.ClientURL()+": ", "not enabled")
	}
}

// A server that takes questions and is silent is given up too.
func TestNoAnswer(t *testing.T) {
	s := startServer(t, &server.Options{})
	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if _, err := nc.SubscribeSync("$JS.API.>"); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	got := crashctl(t, []string{"NATS_URL=" + s.ClientURL()}, "status", "--timeout=200ms")
	if got.code != 2 {
		t.Errorf("%+v", got)
	}
	requireWords(t, got.out, "asking JetStream at "+s.ClientURL()+": no answer within 200ms")
}

// A missing permission is told at once, by its subject: the server does not
// answer what it does not allow.
func TestMissingPermission(t *testing.T) {
	s := startServer(t, &server.Options{
		JetStream: true,
		Users: []*server.User{
			{Username: "admin", Password: "admin"},
			{Username: "ops", Password: "ops", Permissions: &server.Permissions{
				Publish: &server.SubjectPermission{Deny: []string{"$JS.API.CONSUMER.INFO.>", "$JS.API.STREAM.CREATE.CRASHES_1"}},
			}},
		},
	})
	as := func(user string) []string {
		return []string{"NATS_URL=" + strings.Replace(s.ClientURL(), "://", "://"+user+":"+user+"@", 1), "NATS_STREAM_MAX_BYTES=64MiB"}
	}
	if got := crashctl(t, as("admin"), "stream", "apply", "--yes"); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	begin := time.Now()
	got := crashctl(t, as("ops"), "status", "--timeout=30s")
	if got.code != 2 {
		t.Errorf("status: %+v", got)
	}
	requireWords(t, got.out, "consumer uploader of CRASHES_0: ", `Permissions Violation for Publish to "$JS.API.CONSUMER.INFO.CRASHES_0.uploader"`)

	got = crashctl(t, as("ops"), "stream", "apply", "--timeout=30s")
	if got.code != 2 || got.out != "" {
		t.Errorf("apply: %+v", got)
	}
	requireWords(t, got.errors, "Permissions Violation for Publish")
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("took %s", took)
	}
}

// Every problem of the settings is told at once.
func TestSettings(t *testing.T) {
	got := crashctl(t, []string{"NATS_PARTITIONS=0", "NATS_REPLICAS=x", "NATS_MONITOR_URL=http://127.0.0.1:8222,secret", "INTAKE_URL=secret", "UPLOADER_URL=secret"}, "status")
	if got.code != 2 {
		t.Errorf("exit code %d, want 2", got.code)
	}
	requireWords(t, got.errors, "\nNATS_URL: ", "\nNATS_PARTITIONS: ", "\nNATS_REPLICAS: ", "\nNATS_MONITOR_URL: address 2 ", "\nINTAKE_URL: address 1 ", "\nUPLOADER_URL: address 1 ")
	if strings.Contains(got.errors, "secret") {
		t.Errorf("%q repeats an address", got.errors)
	}
}
