package queue_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/devstack/devnats"
	"github.com/yagi-crash/yagi/pkg/devstack/freeport"
	"github.com/yagi-crash/yagi/pkg/queue"
)

// connect starts a server and connects as a tier does.
func connect(t *testing.T) (jetstream.JetStream, queue.Config) {
	t.Helper()
	server, err := devnats.Start(t.Context(), devnats.Config{Addr: "127.0.0.1:0", Dir: t.TempDir(), Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	cfg := queue.Config{URL: server.URL(), Partitions: 2, Replicas: 1, StreamMaxBytes: 64 << 20, MaxAckPending: 10}
	nc, err := queue.Connect(cfg, "test", zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js, cfg
}

func plan(t *testing.T, js jetstream.JetStream, cfg queue.Config) []queue.Change {
	t.Helper()
	changes, err := queue.Plan(t.Context(), js, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return changes
}

func apply(t *testing.T, js jetstream.JetStream, cfg queue.Config) {
	t.Helper()
	if err := queue.Apply(t.Context(), plan(t, js, cfg)); err != nil {
		t.Fatal(err)
	}
}

// Applied once, a real server says of its streams what this package wants, to
// the last field, and there is nothing left to do.
func TestApplyMakesWhatCheckWants(t *testing.T) {
	js, cfg := connect(t)
	if got := len(plan(t, js, cfg)); got != 7 {
		t.Fatalf("plan for an empty server has %d steps, want 7 (two streams, two consumers, dead letters, held reports and their consumer)", got)
	}
	apply(t, js, cfg)
	for _, c := range plan(t, js, cfg) {
		t.Errorf("still to do: %s", c.Does)
	}
}

// Applying again heals what someone changed, and says what it will do.
func TestApplyHeals(t *testing.T) {
	js, cfg := connect(t)
	apply(t, js, cfg)
	live, err := js.Stream(t.Context(), queue.StreamName(0))
	if err != nil {
		t.Fatal(err)
	}
	changed := live.CachedInfo().Config
	changed.MaxAge, changed.AllowDirect = time.Hour, false
	if _, err := js.UpdateStream(t.Context(), changed); err != nil {
		t.Fatal(err)
	}
	changes := plan(t, js, cfg)
	if len(changes) != 1 || !strings.Contains(changes[0].Does, "max_age") || !strings.Contains(changes[0].Does, "1h0m0s") || !strings.Contains(changes[0].Does, "allow_direct") {
		t.Fatalf("plan: %v", changes)
	}
	apply(t, js, cfg)
	if left := plan(t, js, cfg); len(left) != 0 {
		t.Errorf("still to do: %s", left[0].Does)
	}
}

// A smaller number of partitions leaves the others alone.
func TestApplyNeverRemoves(t *testing.T) {
	js, cfg := connect(t)
	apply(t, js, cfg)
	cfg.Partitions = 1
	apply(t, js, cfg)
	if _, err := js.Stream(t.Context(), queue.StreamName(1)); err != nil {
		t.Errorf("partition 1: %v", err)
	}
}

// A repeated publish is stored once, so that intake may repeat it.
func TestRepeatedPublishIsStoredOnce(t *testing.T) {
	js, cfg := connect(t)
	apply(t, js, cfg)
	for i, duplicate := range []bool{false, true} {
		msg := encode(t, sealed())
		msg.Subject = queue.ReadySubject(0)
		ack, err := js.PublishMsg(t.Context(), msg)
		if err != nil {
			t.Fatal(err)
		}
		if ack.Duplicate != duplicate || ack.Sequence != 1 {
			t.Errorf("publish %d: duplicate %t, sequence %d", i+1, ack.Duplicate, ack.Sequence)
		}
	}
}

// The message that the server hands out is the one that was encoded.
func TestMessageSurvivesTheServer(t *testing.T) {
	js, cfg := connect(t)
	apply(t, js, cfg)
	want := sealed()
	want.Dumps[0] = part("upload_file_minidump", strings.Repeat("\r\n\x00\xff", 7_000_000/4))
	msg := encode(t, want)
	msg.Subject = queue.ReadySubject(1)
	if _, err := js.PublishMsg(t.Context(), msg); err != nil {
		t.Fatal(err)
	}
	consumer, err := js.Consumer(t.Context(), queue.StreamName(1), queue.Consumer)
	if err != nil {
		t.Fatal(err)
	}
	got, err := consumer.Next()
	if err != nil {
		t.Fatal(err)
	}
	s, err := decode(got.Headers(), got.Data())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(); err != nil {
		t.Error(err)
	}
}

func TestStreamNames(t *testing.T) {
	for _, name := range []string{queue.DeadLetterStream, "CRASHES_", "CRASHES_-1", "CRASHES_01", "CRASHES_1x", "CRASHES_+1", "OTHER_1", "1"} {
		if p, ok := queue.PartitionOf(name); ok {
			t.Errorf("PartitionOf(%s) = %d", name, p)
		}
	}
	for p := range 12 {
		if got, ok := queue.PartitionOf(queue.StreamName(p)); !ok || got != p {
			t.Errorf("PartitionOf(StreamName(%d)) = %d, %t", p, got, ok)
		}
	}
}

func TestPartitionsAreEven(t *testing.T) {
	const reports, n = 20_000, 4
	counts := make([]int, n)
	for range reports {
		counts[queue.Partition(crash.NewID(time.Now(), crash.Accept), n)]++
	}
	for p, count := range counts {
		if share := float64(count) * n / reports; share < 0.9 || share > 1.1 {
			t.Errorf("partition %d has %.2f of an even share", p, share)
		}
	}
}

func TestOldServersAreNamed(t *testing.T) {
	js, _ := connect(t)
	if err := queue.CheckServer(js.Conn()); err != nil {
		t.Errorf("the embedded server: %v", err)
	}
	js.Conn().Close()
	if err := queue.CheckServer(js.Conn()); err == nil {
		t.Error("a closed connection is no trouble")
	}
}

// A tier starts whatever is down, and is connected once the server is there.
func TestConnectOutlivesAnAbsentServer(t *testing.T) {
	addr, err := new(freeport.Finder).Addr(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	nc, err := queue.Connect(queue.Config{URL: "nats://" + addr}, "test", zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if err := nc.Publish("x", []byte("x")); err == nil {
		t.Error("a publish without a connection is taken")
	}
	connected := nc.StatusChanged(nats.CONNECTED)
	server, err := devnats.Start(t.Context(), devnats.Config{Addr: addr, Dir: t.TempDir(), Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	select {
	case <-connected:
	case <-ctx.Done():
		if !nc.IsConnected() {
			t.Fatal("not connected 10 s after the server came")
		}
	}
}

func TestValidateNamesEverySetting(t *testing.T) {
	err := (&queue.Config{Partitions: 0, Replicas: 2, StreamMaxBytes: 1, MaxAckPending: 0}).Validate()
	if err == nil {
		t.Fatal("no error")
	}
	names := []string{"NATS_PARTITIONS", "NATS_REPLICAS", "NATS_STREAM_MAX_BYTES", "NATS_MAX_ACK_PENDING"}
	if missing := slices.DeleteFunc(names, func(n string) bool { return strings.Contains(err.Error(), n) }); len(missing) > 0 {
		t.Errorf("%v does not name %v", err, missing)
	}
}

// Nothing that is told of a NATS_URL that cannot be used repeats its password.
func TestConnectErrorHidesThePassword(t *testing.T) {
	for _, url := range []string{
		"nats://user:s3cret@host:bad", "nats://u:s3cret://x@127.0.0.1:1", "nats://u:s3cret%@127.0.0.1:1",
		"nats://u:s3cret/x@127.0.0.1:1", "nats://u:s3cret?x@127.0.0.1:1", "nats://u:s3cret x@127.0.0.1:1",
		"nats://127.0.0.1:1?password=s3cret", "bad://u:s3cret@127.0.0.1:1", "ws://u:s3cret@127.0.0.1:1,nats://u:s3cret@127.0.0.1:1",
	} {
		said := &lines{}
		failed := make(chan struct{}, 1000)
		nc, err := queue.Connect(queue.Config{URL: url}, "test", zerolog.New(said), nats.SetCustomDialer(deaf{failed}))
		if err != nil {
			if strings.Contains(err.Error(), "s3cret") || !strings.Contains(err.Error(), "NATS_URL") {
				t.Errorf("%s: got %v, want an error that names NATS_URL and no password", url, err)
			}
			continue
		}
		<-failed
		<-failed
		nc.Close()
		said.mu.Lock()
		if all := strings.Join(said.all, ""); strings.Contains(all, "s3cret") {
			t.Errorf("%s: logged %s", url, all)
		}
		said.mu.Unlock()
	}
}

// deaf reaches nobody, and says so at each attempt.
type deaf struct{ failed chan<- struct{} }

// Dial implements nats.CustomDialer.
func (d deaf) Dial(_, address string) (net.Conn, error) {
	select {
	case d.failed <- struct{}{}:
	default:
	}
	return nil, fmt.Errorf("dialling %s: nobody", address)
}
