package freeport_test

import (
	"net"
	"testing"

	"github.com/yagi-crash/yagi/pkg/devstack/freeport"
)

// The address can be listened on, again and again.
func TestAddrIsFree(t *testing.T) {
	addr, err := new(freeport.Finder).Addr(t.Context())
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

// None is given out twice: two servers of one test must not get the same.
func TestAddrIsAnotherEachTime(t *testing.T) {
	var finder freeport.Finder
	seen := map[string]bool{}
	for range 2000 {
		addr, err := finder.Addr(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if seen[addr] {
			t.Fatalf("%s is given out twice", addr)
		}
		seen[addr] = true
	}
}
