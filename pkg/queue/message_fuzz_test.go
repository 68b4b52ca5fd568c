package queue_test

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/nats-io/nats.go"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/queue"
)

// What Encode writes, Decode reads, and then writes the same message once more.
func FuzzEncode(f *testing.F) {
	f.Add(int64(1474200000123456), `{"ProductName":"Firefox"}`, "upload_file_minidump", []byte("MDMP\x00\r\n"), "memory_report", []byte{})
	f.Add(int64(0), "", "", []byte(nil), "a", []byte("not JSON"))
	f.Add(int64(-1), "\xff", "raw_crash", []byte("x"), "dump", []byte("y"))
	f.Fuzz(func(t *testing.T, micros int64, doc, name string, data []byte, other string, otherData []byte) {
		want := &crash.Sealed{ID: id, Received: time.UnixMicro(micros % 4e15).UTC(), RawCrash: part("raw_crash", doc)}
		for _, p := range []crash.Part{part(name, string(data)), part(other, string(otherData))} {
			clean, err := crash.DumpName(p.Name)
			if err == nil && clean == p.Name && (len(want.Dumps) == 0 || want.Dumps[0].Name != p.Name) {
				want.Dumps = append(want.Dumps, p)
			}
		}
		msg, err := queue.Encode(nil, want, 1<<20)
		if errors.Is(err, nats.ErrMaxPayload) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		got, err := decode(msg.Header, msg.Data)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), sameParts); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
		if err := got.Verify(); err != nil {
			t.Fatal(err)
		}
		again, err := queue.Encode(nil, got, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(msg, again, cmpopts.IgnoreUnexported(nats.Msg{})); diff != "" {
			t.Fatalf("written twice (-first +second):\n%s", diff)
		}
	})
}

// Whatever headers a message has, Decode says of which kind its fault is.
func FuzzDecodeHeaders(f *testing.F) {
	msg := encode(f, sealed())
	for _, key := range []string{queue.HeaderFormat, queue.HeaderManifest, queue.HeaderMsgID} {
		f.Add(key, "", "x", "y", msg.Data)
		f.Add(key, "2", key, "1", msg.Data)
	}
	f.Fuzz(func(t *testing.T, key, value, otherKey, otherValue string, body []byte) {
		header := maps.Clone(msg.Header)
		header[key] = []string{value}
		header[otherKey] = append(slices.Clip(header[otherKey]), otherValue)
		_, err := decode(header, body)
		if err != nil && !errors.Is(err, queue.ErrDamaged) && !errors.Is(err, queue.ErrVersion) && !errors.Is(err, queue.ErrIncomplete) {
			t.Fatalf("an error of no kind: %v", err)
		}
	})
}
