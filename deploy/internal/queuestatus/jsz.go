package queuestatus

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"time"

	"github.com/yagi-crash/yagi/pkg/queue"
)

// jsz is the part of a server's /jsz?streams=true that tells what it has of
// each stream, and what it knows of the other servers that have it
// (server/monitor.go, JSInfo).
type jsz struct {
	Config struct {
		StoreDir string `json:"store_dir"`
	} `json:"config"`
	Accounts []struct {
		ID      string      `json:"id"`
		Streams []jszStream `json:"stream_detail"`
	} `json:"account_details"`
}

type jszStream struct {
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
	State   struct {
		Messages uint64 `json:"messages"`
		Bytes    uint64 `json:"bytes"`
		First    uint64 `json:"first_seq"`
		Last     uint64 `json:"last_seq"`
	} `json:"state"`
	// Cluster is null for a server that is alone.
	Cluster *struct {
		Leader   string `json:"leader"`
		Replicas []struct {
			Name    string `json:"name"`
			Current bool   `json:"current"`
			Offline bool   `json:"offline"`
			Lag     uint64 `json:"lag"`
		} `json:"replicas"`
	} `json:"cluster"`
}

// identity is a stream: accounts may have one of the same name.
type identity struct {
	account, name string
	created       time.Time
}

// copyOf is what a server has of a stream.
type copyOf struct {
	Copy

	leader string // by this server's word
	// caughtUp names the other servers that this one believes to have all that
	// it has itself. The leader's word counts.
	caughtUp map[string]bool
	folder   string   // where it lies on the server's disk
	health   *url.URL // a page that says whether the server trusts it
}

// copies are the copies of each stream, by server.
type copies map[identity]map[string]copyOf

// readCopies asks the servers at the monitoring addresses, whose names are
// known. It returns what it could not find out.
func readCopies(ctx context.Context, monitors, names []string) (copies, []error) {
	pages := make([]jsz, len(monitors))
	problems := each(len(monitors), func(i int) error {
		address, err := url.Parse(monitors[i])
		if err != nil || names[i] == "" {
			return nil // readSync has said so
		}
		address = address.JoinPath("jsz")
		address.RawQuery = "accounts=true&streams=true"
		if err := readJSON(ctx, address, &pages[i]); err != nil {
			return fmt.Errorf("which messages server %s has: %w", names[i], because(ctx, err))
		}
		return nil
	})
	all := copies{}
	for i := range pages {
		address, _ := url.Parse(monitors[i]) // without one the page is empty
		all.add(&pages[i], names[i], address)
	}
	return all, problems
}

// add puts what a server has of our streams with several copies.
func (all copies) add(page *jsz, server string, monitor *url.URL) {
	for _, account := range page.Accounts {
		for _, s := range account.Streams {
			_, ours := queue.PartitionOf(s.Name)
			if !ours && s.Name != queue.DeadLetterStream && s.Name != queue.HeldStream || s.Cluster == nil || len(s.Cluster.Replicas) == 0 {
				continue
			}
			c := copyOf{
				Copy: Copy{
					Server: server, Leads: s.Cluster.Leader == server,
					Messages: s.State.Messages, Bytes: s.State.Bytes, FirstSequence: s.State.First, LastSequence: s.State.Last,
				},
				leader:   s.Cluster.Leader,
				caughtUp: map[string]bool{},
				folder:   path.Join(page.Config.StoreDir, account.ID, "streams", s.Name),
				health:   monitor.JoinPath("healthz"),
			}
			c.health.RawQuery = url.Values{"account": {account.ID}, "stream": {s.Name}}.Encode()
			for _, r := range s.Cluster.Replicas {
				c.caughtUp[r.Name] = r.Current && !r.Offline && r.Lag == 0
			}
			id := identity{account.ID, s.Name, s.Created.UTC()}
			if all[id] == nil {
				all[id] = map[string]copyOf{}
			}
			all[id][server] = c
		}
	}
}

// healthy says that the server takes its copy for whole. While it catches up
// with the leader it does not, although the leader calls it current.
func (c *copyOf) healthy(ctx context.Context) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.health.String(), nil)
	if err != nil {
		return false
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	return res.StatusCode == http.StatusOK
}
