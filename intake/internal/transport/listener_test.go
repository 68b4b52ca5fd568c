package transport

import (
	"io"
	"net"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// poor is a listener of a process without file descriptors, as long as others is open.
type poor struct {
	net.Listener

	others *net.Conn
}

func (p poor) Accept() (net.Conn, error) {
	if c, ok := (*p.others).(*Conn); ok {
		if err := c.SetDeadline(time.Time{}); err == nil {
			return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
		}
	}
	return p.Listener.Accept()
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	var cfg net.ListenConfig
	tcp, err := cfg.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tcp.Close() })
	return tcp
}

func dial(t *testing.T, tcp net.Listener) net.Conn {
	t.Helper()
	var d net.Dialer
	c, err := d.DialContext(t.Context(), "tcp", tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func accept(t *testing.T, l *Listener) net.Conn {
	t.Helper()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// Where the process may open fewer files than connections, the same ones are evicted.
func TestEvictionWhenFilesRunOut(t *testing.T) {
	tcp := listen(t)
	var first net.Conn
	l := New(poor{tcp, &first}, Config{Connections: 100, HeaderLines: 10, HeaderTimeout: time.Minute}, prometheus.NewRegistry())
	client := dial(t, tcp)
	first = accept(t, l)
	dial(t, tcp)
	accept(t, l)
	if _, err := client.Read(make([]byte, 1)); err != io.EOF { //nolint:errorlint // a reader's end
		t.Errorf("the first client reads %v, want the end", err)
	}

	busyClient := dial(t, tcp)
	kept := accept(t, l)
	if _, err := io.WriteString(busyClient, "GET / HTTP/1.1\r\nHost: x\r\n\r\nrest"); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 4096)
	n, err := kept.Read(buffer)
	if err != nil || string(buffer[:n]) != "GET / HTTP/1.1\r\nHost: x\r\n\r\n" {
		t.Fatalf("read %q, %v, want the head", buffer[:n], err)
	}
	for l.evictOne() {
	}
	if n, err := kept.Read(buffer); err != nil || string(buffer[:n]) != "rest" {
		t.Errorf("read %q, %v from a connection with a request in progress", buffer[:n], err)
	}
}

// One from which there is something to read stays, however long it has been there: its
// client has done what it can.
func TestUnreadConnectionsStay(t *testing.T) {
	tcp := listen(t)
	l := New(tcp, Config{Connections: 100, HeaderLines: 10, HeaderTimeout: time.Minute}, prometheus.NewRegistry())
	client := dial(t, tcp)
	kept := accept(t, l)
	if _, err := io.WriteString(client, "GET /"); err != nil {
		t.Fatal(err)
	}
	for limit := time.Now().Add(10 * time.Second); !kept.(*Conn).hasUnread(); { // it has been sent, and arrives
		if time.Now().After(limit) {
			t.Fatal("what was sent is not seen to be unread")
		}
		runtime.Gosched()
	}
	silent := dial(t, tcp)
	accept(t, l)
	l.mu.Lock()
	for c := l.waiting[fresh].first; c != nil; c = c.next {
		c.since = c.since.Add(-time.Minute)
	}
	l.mu.Unlock()
	if !l.evictOne() {
		t.Fatal("none was evicted")
	}
	if _, err := silent.Read(make([]byte, 1)); err != io.EOF { //nolint:errorlint // a reader's end
		t.Errorf("the silent client reads %v, want the end", err)
	}
	if n, err := kept.Read(make([]byte, 10)); n != 5 || err != nil {
		t.Errorf("read %d bytes, %v, from the one that was not read", n, err)
	}
}

// A connection that ends while it waits for a slot leaves none open.
func TestCloseEndsAWaitForAPlace(t *testing.T) {
	tcp := listen(t)
	l := New(tcp, Config{Connections: 1, HeaderLines: 10, HeaderTimeout: time.Minute}, prometheus.NewRegistry())
	for range 1 + l.cfg.Reserve() {
		c := dial(t, tcp)
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := accept(t, l).Read(make([]byte, 4096)); err != nil {
			t.Fatal(err)
		}
	}
	dial(t, tcp)
	ended := make(chan error)
	go func() {
		_, err := l.Accept()
		ended <- err
	}()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("a connection is accepted after the close")
	}
}
