package settings

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"strings"
	"unicode"
)

// Problems gathers what is wrong with a config, for its Validate: one line for
// each problem, which begins with the variable and says what would be right.
type Problems struct{ errs []error }

// Add notes a problem of a variable.
func (p *Problems) Add(key, format string, args ...any) {
	p.errs = append(p.errs, errors.New(key+": "+fmt.Sprintf(format, args...)))
}

// Err returns all problems as one error with a line for each, or nil.
func (p *Problems) Err() error { return errors.Join(p.errs...) }

// Within notes a problem unless value is from least to most. NaN, which Compare puts
// below all numbers, is not.
func Within[T cmp.Ordered](p *Problems, key string, value, least, most T) {
	if cmp.Compare(value, least) < 0 || cmp.Compare(value, most) > 0 {
		p.Add(key, "%v is not from %v to %v", value, least, most)
	}
}

// Auth notes a problem unless a secret is empty or user:password, each of at least
// one character. It does not repeat the secret.
func (p *Problems) Auth(key string, secret Secret) {
	if secret == "" {
		return
	}
	if user, password, _ := strings.Cut(secret.Reveal(), ":"); user == "" || password == "" {
		p.Add(key, "must be user:password, both not empty")
	}
}

// Addr is a variable that holds an address to listen on.
type Addr struct{ Key, Value string }

// Addrs notes a problem for each address that is not host:port, and for each that
// cannot be listened on because an earlier one takes it.
func (p *Problems) Addrs(addrs ...Addr) {
	for i, a := range addrs {
		if !isAddr(a.Value) {
			p.Add(a.Key, "%q is not host:port or :port, such as 127.0.0.1:8000", a.Value)
			continue
		}
		for _, earlier := range addrs[:i] {
			if isAddr(earlier.Value) && collide(a.Value, earlier.Value) {
				p.Add(a.Key, "%s is taken by %s, %s: give each a port of its own", a.Value, earlier.Key, earlier.Value)
			}
		}
	}
}

// isAddr accepts a port's name too, as net.Listen does.
func isAddr(addr string) bool {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || port == "" || strings.ContainsFunc(host, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
		return false
	}
	_, ok := portOf(port)
	return ok
}

// portOf reads a number, or a name in /etc/services.
func portOf(port string) (int, bool) {
	n, err := net.LookupPort("tcp", port) //nolint:noctx // it asks no server
	return n, err == nil
}

// collide reports whether two addresses are the same port of the same host. A host
// without a name, and the unspecified address, is every address of this machine.
// Port 0 is any free port.
func collide(a, b string) bool {
	hostA, portA, _ := net.SplitHostPort(a)
	hostB, portB, _ := net.SplitHostPort(b)
	numberA, _ := portOf(portA)
	numberB, _ := portOf(portB)
	return numberA == numberB && numberA != 0 && (everywhere(hostA) || everywhere(hostB) || strings.EqualFold(hostA, hostB))
}

func everywhere(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}
