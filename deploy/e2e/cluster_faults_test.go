//go:build faults

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/yagi-crash/yagi/pkg/queue"
)

// cluster is a system on three NATS servers, each of which has everything.
type cluster struct {
	*system

	servers map[string]*process // by name
}

// startCluster starts one.
func startCluster(t *testing.T, settings ...string) *cluster {
	t.Helper()
	c := newCluster(t, newSystem(t, 3))
	c.applyStreams(t)
	c.startTiers(t, settings...)
	awaitHealthy(t, c.url)
	awaitHealthy(t, c.uploaderURL)
	return c
}

// newCluster starts the servers of a system.
func newCluster(t *testing.T, s *system) *cluster {
	t.Helper()
	c := &cluster{system: s, servers: map[string]*process{}}
	common, err := os.ReadFile(suite.natsConf)
	if err != nil {
		t.Fatal(err)
	}
	var routes []string
	for range s.natsAddrs {
		routes = append(routes, freeAddr(t))
	}
	for i, route := range routes {
		name := fmt.Sprintf("n%d", i+1)
		text := strings.Replace(string(common), "server_name: yagi", "server_name: "+name, 1)
		if len(routes) > 1 {
			text += fmt.Sprintf("\ncluster { name: test, listen: %q, routes: [nats://%s] }\n", route, strings.Join(routes, ", nats://"))
		}
		conf := filepath.Join(t.TempDir(), name+".conf")
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c.servers[name] = c.newServer(t, conf, c.natsAddrs[i])
	}
	return c
}

// leader returns the name of the server that leads the stream of reports, once all
// three have what it has.
func (c *cluster) leader(t *testing.T, js jetstream.JetStream) (name string) {
	t.Helper()
	eventually(t, "waiting for a leader that all follow", time.Minute, func() error {
		s, err := js.Stream(t.Context(), queue.StreamName(0))
		if err != nil {
			return err
		}
		info := s.CachedInfo().Cluster
		name = info.Leader
		for _, r := range info.Replicas {
			if r.Offline || !r.Current {
				return fmt.Errorf("%s is behind", r.Name)
			}
		}
		if name == "" || len(info.Replicas) != 2 {
			return fmt.Errorf("leader %q, %d others", name, len(info.Replicas))
		}
		return nil
	})
	return name
}

// The server that leads the stream is killed, and killed again, while clients
// post: an election takes seconds, and no client is sent away.
func TestElectionsFailNoRequest(t *testing.T) {
	c := startCluster(t, "INTAKE_PUBLISH_TIMEOUT=50s") // elections of starved servers take long
	js := c.jetStream(t)
	book := newLedger()
	ctx, stopPosting := context.WithCancel(t.Context())
	defer stopPosting()
	var clients sync.WaitGroup
	for n := range 4 {
		clients.Go(func() { postUntil(ctx, newClient(c.url, 11, n), book) })
	}
	for range 2 {
		victim := c.servers[c.leader(t, js)]
		before := book.size()
		victim.kill()
		eventually(t, "waiting for promises of the next leader", time.Minute, func() error {
			if book.size() < before+20 {
				return errIdle
			}
			return nil
		})
		victim.start()
	}
	c.leader(t, js)
	stopPosting()
	clients.Wait()
	t.Logf("%d reports promised", book.size())
	if len(book.refused) > 0 {
		t.Errorf("clients were sent away: %v", book.refused)
	}
	book.audit(t, c.bucket, 2*time.Minute)
}

// Two of three servers die. Intake says so, promises nothing, and goes on by
// itself once they are back; nothing that was promised before is lost.
func TestQuorumLoss(t *testing.T) {
	c := startCluster(t, "INTAKE_PUBLISH_TIMEOUT=12s")
	js := c.jetStream(t)
	book := newLedger()
	client := newClient(c.url, 12, 0)
	for range 20 {
		book.post(t, client, client.dump(200_000))
	}
	leader := c.leader(t, js)
	dead := []*process{c.servers[leader]}
	for name, s := range c.servers {
		if name != leader && len(dead) < 2 {
			dead = append(dead, s)
		}
	}
	for _, s := range dead {
		s.kill()
	}
	answer := make(chan error, 1)
	go func() {
		_, err := client.post(context.WithoutCancel(t.Context()), client.dump(1000))
		answer <- err
	}()
	for _, url := range []string{c.url, c.uploaderURL} {
		awaitSick(t, url)
	}
	if err := <-answer; err == nil || !strings.HasPrefix(err.Error(), "503 Discarded=unavailable") {
		t.Errorf("without a quorum a client is answered %v", err)
	}
	awaitSick(t, c.url) // also when what is left of the servers says that the stream is well
	for _, s := range dead {
		s.start()
	}
	awaitHealthy(t, c.url)
	awaitHealthy(t, c.uploaderURL)
	for range 20 {
		book.post(t, client, client.dump(200_000))
	}
	book.audit(t, c.bucket, 2*time.Minute)
}

// awaitSick waits until a heartbeat is red.
func awaitSick(t *testing.T, url string) {
	t.Helper()
	awaitHeartbeat(t, url, http.StatusServiceUnavailable)
}
