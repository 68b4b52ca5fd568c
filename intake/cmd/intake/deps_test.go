package main

import (
	"os/exec"
	"strings"
	"testing"
)

// The front tier can neither write to S3 nor embed a server, because its
// binary does not hold the code.
func TestBinaryLinksNothingThatItDoesNotNeed(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(out), "github.com/yagi-crash/yagi/intake\n") {
		t.Fatal("go list does not show the binary's own code: the test shows nothing")
	}
	for _, banned := range []string{
		"github.com/aws/", "github.com/nats-io/nats-server", "github.com/versity/", "github.com/Shopify/toxiproxy",
		"github.com/yagi-crash/yagi/uploader", "github.com/yagi-crash/yagi/deploy", "github.com/yagi-crash/yagi/pkg/devstack", "testing\n",
	} {
		for pkg := range strings.Lines(string(out)) {
			if strings.HasPrefix(pkg, banned) {
				t.Errorf("the binary links %s", strings.TrimSpace(pkg))
			}
		}
	}
}
