package main

import (
	"os/exec"
	"strings"
	"testing"
)

// The service holds no server, no test code and nothing of the other tier: what
// is not linked cannot be started, attacked or leaned on.
func TestLinksOnlyWhatItNeeds(t *testing.T) {
	forbidden := map[string]string{
		"github.com/nats-io/nats-server":          "the queue's server",
		"github.com/versity/versitygw":            "an S3 server",
		"github.com/yagi-crash/yagi/pkg/devstack": "servers for tests and for the local program",
		"github.com/yagi-crash/yagi/intake":       "the other tier",
		"testing":                                 "test code",
	}
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatalf("listing the dependencies: %v", err)
	}
	linked := strings.Fields(string(out))
	if len(linked) < 100 {
		t.Fatalf("only %d packages are listed", len(linked))
	}
	for _, pkg := range linked {
		for path, what := range forbidden {
			if pkg == path || strings.HasPrefix(pkg, path+"/") {
				t.Errorf("the uploader links %s, %s", pkg, what)
			}
		}
	}
}
