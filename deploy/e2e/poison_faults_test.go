//go:build faults

package e2e

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/queue"
)

// Messages that can never be stored come between reports, and the uploader is
// killed while it has them in hand. Each becomes one dead letter, the reports are
// stored, and nothing is left that would keep the stream from being trimmed.
func TestPoisonUnderKills(t *testing.T) {
	seed := number(t, "E2E_SEED", uint64(time.Now().UnixNano()))
	t.Logf("E2E_SEED=%d", seed)
	s := startSystem(t, "UPLOADER_RETRY_MAX=2s") // each uploader counts attempts anew
	js := s.publisher(t)
	book := newLedger()
	c := newClient(s.url, seed, 0)
	random := rand.New(rand.NewPCG(seed, 8))
	const rounds, each = 4, 5
	for round := range rounds {
		for i := range each {
			for _, msg := range poison(t, fmt.Sprintf("poison %d %d", round, i)) {
				if _, err := js.PublishMsg(t.Context(), msg); err != nil {
					t.Fatal(err)
				}
			}
			book.post(t, c, c.dump(100_000))
		}
		rest(t.Context(), time.Duration(random.Int64N(int64(2*time.Second))))
		s.uploader.kill()
		s.uploader.start()
	}
	ops := s.jetStream(t)
	eventually(t, "waiting for the queue to be drained", 90*time.Second, func() error {
		consumer, err := ops.Consumer(t.Context(), queue.StreamName(0), queue.Consumer)
		if err != nil {
			return err
		}
		if info := consumer.CachedInfo(); info.NumPending+uint64(info.NumAckPending) > 0 {
			return fmt.Errorf("%d + %d reports wait", info.NumPending, info.NumAckPending)
		}
		return nil
	})
	book.audit(t, s.bucket, 10*time.Second)

	dead, err := ops.Stream(t.Context(), queue.DeadLetterStream)
	if err != nil {
		t.Fatal(err)
	}
	info, err := dead.Info(t.Context(), jetstream.WithSubjectFilter(queue.DeadReadySubjects))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(info.State.Subjects); n != rounds*each*2 {
		t.Errorf("there are %d dead letters, want %d", n, rounds*each*2)
	}
}

// publisher publishes to the queue as intake may.
func (s *system) publisher(t *testing.T) jetstream.JetStream {
	t.Helper()
	cfg := s.config()
	cfg.URL = s.natsURL("intake:i")
	nc, err := queue.Connect(cfg, "intake", zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// poison makes a message without headers, and a report that is not what its manifest
// says.
func poison(t *testing.T, text string) []*nats.Msg {
	t.Helper()
	r := crash.Report{ID: crash.NewID(time.Now(), crash.Accept), Received: time.Now().UTC(), Dumps: []crash.Part{
		crash.NewPart(crash.MinidumpName, []byte(text), crash.Sum([]byte(text))),
	}}
	sealed, err := r.Seal()
	if err != nil {
		t.Fatal(err)
	}
	short, err := queue.Encode(nil, sealed, queue.MaxPayload)
	if err != nil {
		t.Fatal(err)
	}
	short.Data = []byte(strings.Replace(string(short.Data), text, "", 1))
	short.Header.Set(queue.HeaderMsgID, "short "+text)
	all := []*nats.Msg{short, {Data: []byte(text)}}
	for _, msg := range all {
		msg.Subject = queue.ReadySubject(0)
	}
	return all
}
