package main

import (
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/yagi-crash/yagi/pkg/queue"
)

// A replica that goes offline needs attention, and the rest is still told.
func TestStatusOfACluster(t *testing.T) {
	servers := startCluster(t)
	environ := []string{"NATS_URL=" + servers["n1"].ClientURL() + "," + servers["n2"].ClientURL(), "NATS_REPLICAS=3", "NATS_STREAM_MAX_BYTES=64MiB"}
	if got := crashctlWhile(t, func(code int) bool { return code != 0 }, environ, "stream", "apply", "--yes", "--timeout=10s"); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	publish(t, connect(t, servers["n1"].ClientURL()), 0, 1000)
	s := readStatus(t, environ, 0)
	stream := s.Partitions[0].Stream
	if stream.Leader == "" || len(stream.Replicas) != 2 || s.Total.Backlog.Depth != 1 {
		t.Fatalf("%+v", s.Partitions[0])
	}

	// A shell in which NATS_REPLICAS is not set takes no copies away.
	bare := []string{environ[0], environ[2]}
	readStatus(t, bare, 0)
	for _, args := range [][]string{{}, {"--accept=shrink"}} {
		got := crashctl(t, bare, append([]string{"stream", "apply", "--yes"}, args...)...)
		if got.code != 2 || got.out != "" {
			t.Errorf("%v: %+v", args, got)
		}
		requireWords(t, got.errors, "CRASHES_HELD is on 3 servers and would be on 1", "--accept fewer-replicas")
	}

	gone := stream.Replicas[0].Server
	servers[gone].Shutdown()
	servers[gone].WaitForShutdown()
	environ[0] = "NATS_URL=" + servers[stream.Leader].ClientURL()
	got := crashctlWhile(t, func(code int) bool { return code == exitCannotTell }, environ, "status", "--timeout=20s")
	if got.code != 1 {
		t.Errorf("exit code %d, want 1", got.code)
	}
	requireWords(t, got.out, "stream CRASHES_0: replica "+gone+" is offline")
}

// crashctlWhile runs crashctl again as long as the exit code says so: elections may
// be going on, which take their time on a busy machine.
func crashctlWhile(t *testing.T, again func(code int) bool, environ []string, args ...string) outcome {
	t.Helper()
	for until := time.Now().Add(2 * time.Minute); ; {
		if got := crashctl(t, environ, args...); !again(got.code) || time.Now().After(until) {
			return got
		}
	}
}

// startCluster runs three servers that know each other, by name.
func startCluster(t *testing.T) map[string]*server.Server {
	t.Helper()
	servers := map[string]*server.Server{}
	for name, opts := range clusterOptions(t) {
		servers[name] = newServer(t, opts)
	}
	for name, s := range servers {
		if !s.ReadyForConnections(10 * time.Second) {
			t.Fatalf("server %s is not ready after 10 s", name)
		}
	}
	return servers
}

// clusterOptions are those of three servers that know each other, by name.
func clusterOptions(t *testing.T) map[string]*server.Options {
	t.Helper()
	var ports []int
	var routes []*url.URL
	for range 3 {
		free := listen(t)
		var port int
		if _, err := fmt.Sscanf(free.Addr().String(), "127.0.0.1:%d", &port); err != nil {
			t.Fatal(err)
		}
		free.Close()
		ports = append(ports, port)
		routes = append(routes, &url.URL{Scheme: "nats", Host: free.Addr().String()})
	}
	all := map[string]*server.Options{}
	for i, port := range ports {
		name := fmt.Sprintf("n%d", i+1)
		all[name] = &server.Options{
			ServerName: name, JetStream: true, SyncAlways: true, MaxPayload: queue.MaxPayload, Routes: routes,
			Cluster:  server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: port},
			HTTPHost: "127.0.0.1", HTTPPort: server.RANDOM_PORT,
		}
	}
	return all
}
