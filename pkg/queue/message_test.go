package queue_test

import (
	"bytes"
	"errors"
	"net/textproto"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/nats-io/nats.go"
	"pgregory.net/rapid"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/queue"
)

const id = crash.ID("de1bb258-cbbf-4589-a673-34f800160918")

func part(name, data string) crash.Part {
	return crash.NewPart(name, []byte(data), crash.Sum([]byte(data)))
}

func sealed() *crash.Sealed {
	return &crash.Sealed{
		ID:       id,
		Received: time.Date(2016, 9, 18, 12, 0, 0, 123456000, time.UTC),
		RawCrash: part("raw_crash", `{"ProductName":"Firefox","uuid":"de1bb258-cbbf-4589-a673-34f800160918","version":2}`),
		Dumps:    []crash.Part{part("upload_file_minidump", "MDMP\x00\r\n"), part("memory_report", "")},
	}
}

// sameParts compares parts by what identifies their bytes.
var sameParts = cmp.Comparer(func(a, b crash.Part) bool {
	return a.Name == b.Name && a.Size == b.Size && a.SHA256 == b.SHA256
})

func encode(t testing.TB, s *crash.Sealed) *nats.Msg {
	t.Helper()
	msg, err := queue.Encode(nil, s, queue.InlineLimit(queue.MaxPayload))
	if err != nil {
		t.Fatal(err)
	}
	return msg
}

// decode reads a message that holds its report.
func decode(header nats.Header, body []byte) (*crash.Sealed, error) {
	m, err := queue.ReadManifest(header)
	if err != nil {
		return nil, err
	}
	return m.Decode(body)
}

func TestDecodeUndoesEncode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := sealed()
		want.Dumps = nil
		want.RawCrash = part("raw_crash", rapid.String().Draw(t, "raw_crash"))
		want.Received = time.UnixMicro(rapid.Int64Range(0, 4e15).Draw(t, "received")).UTC()
		names := rapid.SliceOfNDistinct(rapid.StringMatching(`[A-Za-z0-9_]{1,25}`), 0, 16, rapid.ID[string]).Draw(t, "names")
		for _, name := range names {
			want.Dumps = append(want.Dumps, part("d_"+name, string(rapid.SliceOf(rapid.Byte()).Draw(t, "data"))))
		}
		msg, err := queue.Encode(nil, want, 1<<20)
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
	})
}

// testdata holds a message of every version ever published: header lines, a
// blank line, the body. They are never made anew: a release that cannot read
// them cannot read what lies in a queue.
func TestGoldenMessagesAreRead(t *testing.T) {
	header, body := readGolden(t, "testdata/format-1-inline.msg")
	got, err := decode(header, body)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sealed(), got, sameParts); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := got.Verify(); err != nil {
		t.Error(err)
	}

	header, body = readGolden(t, "testdata/format-1-chunked.msg")
	m, err := queue.ReadManifest(header)
	if err != nil {
		t.Fatal(err)
	}
	if want := []uint64{7, 9, 12}; !slices.Equal(m.Chunks, want) || m.ID != id || m.Size() != sealed().Size() || len(body) != 0 {
		t.Errorf("chunks %d of %s, %d bytes, and a body of %d; want %d, %s, %d and none", m.Chunks, m.ID, m.Size(), len(body), want, id, sealed().Size())
	}
}

// What this release writes is what the newest golden messages say.
func TestEncodeWritesTheGoldenMessages(t *testing.T) {
	header, body := readGolden(t, "testdata/format-1-inline.msg")
	msg := encode(t, sealed())
	if diff := cmp.Diff(header, msg.Header); diff != "" {
		t.Errorf("header (-golden +written):\n%s", diff)
	}
	if !bytes.Equal(body, msg.Data) {
		t.Errorf("body %q, golden %q", msg.Data, body)
	}

	header, _ = readGolden(t, "testdata/format-1-chunked.msg")
	msg, err := queue.EncodeChunked(sealed(), []uint64{7, 9, 12})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(header, msg.Header); diff != "" || len(msg.Data) != 0 {
		t.Errorf("%d bytes of body, header (-golden +written):\n%s", len(msg.Data), diff)
	}
}

func readGolden(t *testing.T, file string) (nats.Header, []byte) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, body, ok := bytes.Cut(text, []byte("\r\n\r\n"))
	if !ok {
		t.Fatalf("%s has no blank line", file)
	}
	header := nats.Header{}
	for line := range strings.SplitSeq(string(head), "\r\n") {
		key, value, _ := strings.Cut(line, ": ")
		header.Add(textproto.TrimString(key), value)
	}
	return header, body
}

func TestDamageIsToldFromAnUnknownVersion(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*nats.Msg)
		want   error
	}{
		"a later version":        {func(m *nats.Msg) { m.Header.Set(queue.HeaderFormat, "2") }, queue.ErrVersion},
		"a later version's body": {func(m *nats.Msg) { m.Header = nats.Header{queue.HeaderFormat: {"17"}}; m.Data = nil }, queue.ErrVersion},
		"chunks elsewhere":       {replace(`"parts"`, `"chunks":[7],"parts"`), queue.ErrIncomplete},
		"too few chunks":         {tooFewChunks, queue.ErrDamaged},
		"more than memory":       {replace(`"size":7`, `"size":4000000000000000000`), queue.ErrDamaged},
		"no headers":             {func(m *nats.Msg) { m.Header = nil }, queue.ErrDamaged},
		"no manifest":            {func(m *nats.Msg) { m.Header.Del(queue.HeaderManifest) }, queue.ErrDamaged},
		"manifest cut off":       {replace("]}", ""), queue.ErrDamaged},
		"another id":             {replace("de1b", "xe1b"), queue.ErrDamaged},
		"a path for a name":      {replace("memory_report", "../report"), queue.ErrDamaged},
		"a reserved name":        {replace("memory_report", "dump_names"), queue.ErrDamaged},
		"raw_crash twice":        {replace("memory_report", "raw_crash"), queue.ErrDamaged},
		"a name twice":           {replace("memory_report", "upload_file_minidump"), queue.ErrDamaged},
		"raw_crash missing":      {replace("raw_crash", "raw_cras"), queue.ErrDamaged},
		"a negative size":        {replace(`"size":7`, `"size":-7`), queue.ErrDamaged},
		"too large a size":       {replace(`"size":7`, `"size":7000000`), queue.ErrDamaged},
		"a body too short":       {func(m *nats.Msg) { m.Data = m.Data[:len(m.Data)-1] }, queue.ErrDamaged},
		"a body too long":        {func(m *nats.Msg) { m.Data = append(m.Data, 0) }, queue.ErrDamaged},
		"a flipped bit":          {func(m *nats.Msg) { m.Data[5] ^= 1 }, queue.ErrDamaged},
		"a short digest":         {replace(`"sha256":"`, `"sha256":"0`), queue.ErrDamaged},
	} {
		msg := encode(t, sealed())
		c.change(msg)
		if got, err := decode(msg.Header, msg.Data); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, %v, want %v", name, got, err, c.want)
		}
	}
}

// What memory is set aside by is checked before anything is read of the body.
func TestManifestThatCannotBe(t *testing.T) {
	for name, change := range map[string]func(*nats.Msg){
		"too few chunks":   tooFewChunks,
		"more than memory": replace(`"size":7`, `"size":4000000000000000000`),
		"a negative size":  replace(`"size":7`, `"size":-7`),
	} {
		msg := encode(t, sealed())
		change(msg)
		if m, err := queue.ReadManifest(msg.Header); !errors.Is(err, queue.ErrDamaged) {
			t.Errorf("%s: got %v, %v", name, m, err)
		}
	}
}

func tooFewChunks(m *nats.Msg) {
	replace(`"parts"`, `"chunks":[7],"parts"`)(m)
	replace(`"size":7`, `"size":9000000`)(m)
}

func replace(old, with string) func(*nats.Msg) {
	return func(m *nats.Msg) {
		manifest := m.Header.Get(queue.HeaderManifest)
		changed := strings.Replace(manifest, old, with, 1)
		if changed == manifest {
			panic("nothing to replace: " + old)
		}
		m.Header.Set(queue.HeaderManifest, changed)
	}
}

func TestEncodeRefusesWhatDoesNotFit(t *testing.T) {
	s := sealed()
	size := int(s.RawCrash.Size + s.Dumps[0].Size)
	if _, err := queue.Encode(nil, s, size); err != nil {
		t.Errorf("at the limit: %v", err)
	}
	if _, err := queue.Encode(nil, s, size-1); !errors.Is(err, nats.ErrMaxPayload) {
		t.Errorf("a byte over the limit: %v, want ErrMaxPayload", err)
	}
}

// The server drops the second of two messages with one Msg-Id. It must not
// take two reports that a client gave one id for the same.
func TestMsgIDOfGivenIDsDependsOnTheContent(t *testing.T) {
	a, b := sealed(), sealed()
	b.Dumps[0] = part("upload_file_minidump", "another")
	if encode(t, a).Header.Get(queue.HeaderMsgID) != string(id) {
		t.Error("the Msg-Id of an id of ours is not the id")
	}
	a.IDGiven, b.IDGiven = true, true
	first, second := encode(t, a).Header.Get(queue.HeaderMsgID), encode(t, b).Header.Get(queue.HeaderMsgID)
	if first == second || !strings.HasPrefix(first, string(id)) {
		t.Errorf("Msg-Ids %s and %s", first, second)
	}
}

func FuzzDecode(f *testing.F) {
	msg := encode(f, sealed())
	f.Add(msg.Header.Get(queue.HeaderFormat), msg.Header.Get(queue.HeaderManifest), msg.Data)
	f.Add("1", `{"id":"","parts":[{"name":"raw_crash","size":-1}]}`, []byte{})
	f.Fuzz(func(t *testing.T, format, manifest string, body []byte) {
		s, err := decode(nats.Header{queue.HeaderFormat: {format}, queue.HeaderManifest: {manifest}}, body)
		if err != nil {
			if !errors.Is(err, queue.ErrDamaged) && !errors.Is(err, queue.ErrVersion) && !errors.Is(err, queue.ErrIncomplete) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		again, err := queue.Encode(nil, s, len(body))
		if err != nil || !bytes.Equal(again.Data, body) {
			t.Fatalf("decoded, but not encoded again: %v", err)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	s := sealed()
	s.Dumps[0] = part("upload_file_minidump", strings.Repeat("x", 400_000))
	b.SetBytes(400_000)
	b.ReportAllocs()
	var buf []byte
	for b.Loop() {
		msg, err := queue.Encode(buf, s, queue.MaxPayload)
		if err != nil {
			b.Fatal(err)
		}
		buf = msg.Data
	}
}

func BenchmarkDecode(b *testing.B) {
	s := sealed()
	s.Dumps[0] = part("upload_file_minidump", strings.Repeat("x", 400_000))
	msg := encode(b, s)
	b.SetBytes(400_000)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decode(msg.Header, msg.Data); err != nil {
			b.Fatal(err)
		}
	}
}
