package queue_test

import (
	"bufio"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/yagi-crash/yagi/pkg/queue"
)

// frozen is a server that welcomes a client and then reads nothing any more, as one
// does whose process is stopped.
func frozen(t *testing.T) (url string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var clients sync.WaitGroup
	end := make(chan struct{})
	clients.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			clients.Go(func() {
				defer c.Close()
				_, _ = io.WriteString(c, `INFO {"server_id":"F","version":"`+queue.MinServerVersion+`","max_payload":8388608,"headers":true}`+"\r\n")
				for lines := bufio.NewReader(c); ; {
					line, err := lines.ReadString('\n')
					if err != nil || strings.HasPrefix(line, "PING") {
						break
					}
				}
				_, _ = io.WriteString(c, "PONG\r\n")
				<-end
			})
		}
	})
	t.Cleanup(func() { close(end); _ = l.Close(); clients.Wait() })
	return "nats://" + l.Addr().String()
}

// A server that takes nothing any more is left well before a report's publishing is
// over (INTAKE_PUBLISH_TIMEOUT, 20 s), however many reports are on their way to it.
func TestFrozenServerIsLeft(t *testing.T) {
	t.Parallel()
	for name, load := range map[string]struct {
		publishers, size int
		every            time.Duration
	}{
		"idle":               {},
		"under load":         {8, 4_000_000, 0},
		"under a light load": {4, 300_000, 500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nc, err := queue.Connect(queue.Config{URL: frozen(t)}, "test", zerolog.Nop())
			if err != nil {
				t.Fatal(err)
			}
			left := nc.StatusChanged(nats.RECONNECTING)
			var publishing sync.WaitGroup
			defer publishing.Wait()
			defer nc.Close()
			for range load.publishers {
				publishing.Go(func() {
					for data := make([]byte, load.size); nc.Publish("crash.0.ready", data) == nil; {
						<-time.After(load.every)
					}
				})
			}
			begun := time.Now()
			select {
			case <-left:
				t.Logf("left after %s", time.Since(begun))
			case <-time.After(16 * time.Second):
				t.Error("it is not left after 16 s")
			}
		})
	}
}
