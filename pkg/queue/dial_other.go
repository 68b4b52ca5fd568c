//go:build !linux

package queue

import "net"

// dialer is as in dial_linux.go, without what only Linux has: a server that is frozen
// is noticed some 10 s later.
func dialer() *net.Dialer { return &net.Dialer{Timeout: dialTimeout} }
