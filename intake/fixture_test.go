package intake_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/yagi-crash/yagi/intake"
	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/devstack/devnats"
	"github.com/yagi-crash/yagi/pkg/queue"
)

// A queue is a real nats-server with the streams applied.
type testQueue struct {
	url string
	js  jetstream.JetStream
	cfg queue.Config
}

func startQueue(t *testing.T) *testQueue {
	t.Helper()
	server, err := devnats.Start(t.Context(), devnats.Config{Addr: "127.0.0.1:0", Dir: t.TempDir(), Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	q := connectQueue(t, server.URL())
	q.apply(t)
	return q
}

func connectQueue(t *testing.T, natsURL string) *testQueue {
	t.Helper()
	cfg := queue.Config{URL: natsURL, Partitions: 1, Replicas: 1, StreamMaxBytes: 256 << 20, MaxAckPending: 100}
	nc, err := queue.Connect(cfg, "test", zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return &testQueue{url: natsURL, js: js, cfg: cfg}
}

func (q *testQueue) apply(t *testing.T) {
	t.Helper()
	plan, err := queue.Plan(t.Context(), q.js, q.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := queue.Apply(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
}

// stored returns every report in the streams, and checks its every digest.
func (q *testQueue) stored(t *testing.T) []*crash.Sealed {
	t.Helper()
	all, broken := q.read(t)
	if len(broken) > 0 {
		t.Fatal(broken)
	}
	return all
}

// read returns the reports in the streams that are whole, and what is wrong with the
// others.
func (q *testQueue) read(t *testing.T) (all []*crash.Sealed, broken []error) {
	t.Helper()
	reader := queue.NewReader(q.js)
	for p := range q.cfg.Partitions {
		stream, err := q.js.Stream(t.Context(), queue.StreamName(p))
		if err != nil {
			t.Fatal(err)
		}
		for seq := uint64(1); ; {
			msg, err := stream.GetMsg(t.Context(), seq, jetstream.WithGetMsgSubject(queue.ReadySubject(p)))
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			seq = msg.Sequence + 1
			m, err := queue.ReadManifest(msg.Header)
			if err != nil {
				t.Fatal(err)
			}
			s, err := reader.Read(t.Context(), queue.StreamName(p), m, msg.Data)
			if err == nil {
				err = s.Verify()
			}
			if err != nil {
				broken = append(broken, err)
				continue
			}
			all = append(all, s)
		}
	}
	return all, broken
}

// text is what a part holds.
func text(t *testing.T, p crash.Part) string {
	t.Helper()
	b, err := p.AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// The one report in the stream.
func (q *testQueue) one(t *testing.T) *crash.Sealed {
	t.Helper()
	all := q.stored(t)
	if len(all) != 1 {
		t.Fatalf("%d reports in the stream, want 1", len(all))
	}
	return all[0]
}

// tier is a running intake.
type tier struct {
	addr, admin string
	log         *syncBuffer
	stop        context.CancelFunc
	done        chan struct{}
	err         error // what Run returned, once done is closed
}

func startIntake(t *testing.T, natsURL string, settings ...string) *tier {
	t.Helper()
	environ := append([]string{
		"NATS_URL=" + natsURL, "INTAKE_ADDR=127.0.0.1:0", "INTAKE_ADMIN_ADDR=127.0.0.1:0", "INTAKE_GRACE=10s",
	}, settings...)
	cfg, err := intake.Load(environ)
	if err != nil {
		t.Fatal(err)
	}
	log := &syncBuffer{}
	server, err := intake.Listen(t.Context(), cfg, zerolog.New(log))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	i := &tier{addr: server.Addr(), admin: server.AdminAddr(), log: log, stop: stop, done: make(chan struct{})}
	go func() {
		defer close(i.done)
		i.err = server.Run(ctx)
	}()
	t.Cleanup(func() {
		stop()
		<-i.done
	})
	return i
}

// ended waits for the tier to end.
func (i *tier) ended(t *testing.T, within time.Duration) error {
	t.Helper()
	select {
	case <-i.done:
		return i.err
	case <-time.After(within):
		t.Fatalf("intake still runs after %s", within)
		return nil
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// conn is a raw connection to intake: tests write the bytes of a request.
type conn struct {
	net.Conn
	t *testing.T
	r *bufio.Reader
}

func (i *tier) dial(t *testing.T) *conn {
	t.Helper()
	var d net.Dialer
	c, err := d.DialContext(t.Context(), "tcp", i.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return &conn{Conn: c, t: t, r: bufio.NewReader(c)}
}

func (c *conn) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		c.t.Fatal(err)
	}
}

// answer is a reply as it stood on the wire.
type answer struct {
	status int
	head   http.Header
	body   string
	closed bool // the connection was closed behind it
}

func (c *conn) answer() answer {
	c.t.Helper()
	response, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.ContentLength < 0 {
		c.t.Error("the reply has no Content-Length")
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, string(body), response.Close && c.isClosed()}
}

// cut ends what is sent, as a client does that dies, but still hears.
func (c *conn) cut() {
	c.t.Helper()
	if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		c.t.Fatal(err)
	}
}

// isClosed waits for the end of the connection.
func (c *conn) isClosed() bool {
	_, err := c.r.ReadByte()
	var timeout net.Error
	return err != nil && (!errors.As(err, &timeout) || !timeout.Timeout())
}

// post sends a request with a Content-Length and further header lines.
func (i *tier) post(t *testing.T, body string, head ...string) answer {
	t.Helper()
	c := i.dial(t)
	c.send(request(len(body), head...) + body)
	return c.answer()
}

// request is the head of a post. A length below 0 is left out.
func request(length int, head ...string) string {
	lines := []string{"POST /submit HTTP/1.1", "Host: crash.example.org", "User-Agent: Breakpad/1.0 (test)"}
	if length >= 0 {
		lines = append(lines, fmt.Sprintf("Content-Length: %d", length))
	}
	if !strings.Contains(strings.ToLower(strings.Join(head, "\n")), "content-type:") {
		lines = append(lines, "Content-Type: multipart/form-data; boundary=B")
	}
	return strings.Join(append(lines, head...), "\r\n") + "\r\n\r\n"
}

func field(name, value string) string {
	return "--B\r\nContent-Disposition: form-data; name=\"" + name + "\"\r\n\r\n" + value + "\r\n"
}

func dump(name, data string) string {
	return "--B\r\nContent-Disposition: form-data; name=\"" + name + "\"; filename=\"f.dmp\"\r\nContent-Type: application/octet-stream\r\n\r\n" + data + "\r\n"
}

const end = "--B--\r\n"

// minidump has bytes that a parser may stumble over.
const minidump = "MDMP\x93\xa7\x00\r\n--B\xff"

// report is a small report.
func report() string {
	return field("ProductName", "Firefox") + dump(crash.MinidumpName, minidump) + end
}

// chunks frames a body as chunked, in pieces of n bytes.
func chunks(body string, n int) string {
	var b strings.Builder
	for body != "" {
		piece := body[:min(n, len(body))]
		fmt.Fprintf(&b, "%x\r\n%s\r\n", len(piece), piece)
		body = body[len(piece):]
	}
	return b.String() + "0\r\n\r\n"
}

// crashID takes the id out of a reply, which must be exactly as it should.
func crashID(t *testing.T, a answer) crash.ID {
	t.Helper()
	text, ok := strings.CutPrefix(a.body, "CrashID=bp-")
	id, err := crash.ParseID(strings.TrimSuffix(text, "\n"))
	if a.status != http.StatusOK || !ok || err != nil || !strings.HasSuffix(text, "\n") {
		t.Fatalf("answered %d %q, want CrashID=bp-<id>\\n", a.status, a.body)
	}
	if got := a.head.Get("Content-Type"); got != "text/plain" {
		t.Errorf("Content-Type %q, want text/plain", got)
	}
	return id
}

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}
