package freeport_test

import (
	"net"
	"testing"

	"github.com/yagi-crash/yagi/pkg/devstack/freeport"
)

// The address can be listened on, again and again.
func TestAddrIsFree(t *testing.T) {
	addr, err := freeport.Addr(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
