package breakpad

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"

	"github.com/yagi-crash/yagi/intake/internal/spool"
	"github.com/yagi-crash/yagi/pkg/crash"
)

// packed returns s as a compressor writes it.
func packed(t testing.TB, s string, open func(io.Writer) (io.WriteCloser, error)) string {
	t.Helper()
	var b bytes.Buffer
	z, err := open(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(z, s); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func openZlib(w io.Writer) (io.WriteCloser, error)  { return zlib.NewWriter(w), nil }
func openFlate(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, 6) }
func openZstd(w io.Writer) (io.WriteCloser, error)  { return zstd.NewWriter(w) }

// noise is what no compressor makes smaller.
func noise(size int) string {
	b := make([]byte, size)
	random := rand.NewChaCha8([32]byte{2})
	_, _ = random.Read(b) // never fails
	return string(b)
}

// Every coding gives the same report, in memory or from the file.
func TestCodings(t *testing.T) {
	plain := field("ProductName", "Firefox") +
		file("upload_file_minidump", "application/octet-stream", noise(100_000)) +
		file("memory_report", "application/octet-stream", noise(9)) + end
	want, err := parse(request(formData, "", strings.NewReader(plain), -1), DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	for encoding, body := range map[string]string{
		"identity": plain, "gzip": gzipped(t, plain), "X-GZIP": gzipped(t, plain), "zstd": packed(t, plain, openZstd),
		"deflate": packed(t, plain, openZlib), "Deflate": packed(t, plain, openFlate),
	} {
		for store, room := range map[string]spool.Config{"memory": {Memory: 16 << 20}, "file": {Memory: 16 * spool.Window, File: 16 << 20, Dir: t.TempDir()}} {
			got, err := parseIn(room, request(formData, encoding, strings.NewReader(body), int64(len(body))), DefaultLimits())
			if err != nil {
				t.Errorf("%s in %s: %v", encoding, store, err)
				continue
			}
			if diff := cmp.Diff(flat(want), flat(got)); diff != "" {
				t.Errorf("%s in %s differs", encoding, store)
			}
			for _, d := range got.Dumps {
				if err := d.Verify(); err != nil {
					t.Errorf("%s in %s: %v", encoding, store, err)
				}
			}
			if m := got.Metadata; m.Size != int64(len(body)) || m.Compressed != (encoding != "identity") {
				t.Errorf("%s: size %d, compressed %t", encoding, m.Size, m.Compressed)
			}
		}
	}
}

// A bare deflate body is not taken for zlib's because its first byte is like
// that: here of a stored block (RFC 1951 §3.2.4) with a bit of padding set.
func TestBareDeflateThatLooksLikeZlib(t *testing.T) {
	plain := field("a", "1") + end
	n := len(plain)
	body := string([]byte{0x08, byte(n), byte(n >> 8), byte(^n), byte(^n >> 8)}) + plain + packed(t, "", openFlate)
	if _, err := parse(request(formData, "deflate", strings.NewReader(body), -1), DefaultLimits()); err != nil {
		t.Error(err)
	}
}

// A body for which there is no room in the end is nobody's fault.
func TestNoRoomIsUnavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body := field("ProductName", "Firefox") + file("upload_file_minidump", "application/octet-stream", noise(200*spool.Window)) + end
		_, err := parseIn(spool.Config{Memory: 64 * spool.Window}, request(formData, "", strings.NewReader(body), -1), DefaultLimits())
		if refusal, ok := errors.AsType[*crash.Refusal](err); !ok || refusal.Reason != crash.ReasonUnavailable || refusal.Status != 503 {
			t.Errorf("got %v, want unavailable", err)
		}
	})
}

// What a compressed body holds takes no room, however much it is, and can be read
// in any order.
func TestInflatedTakesNoRoom(t *testing.T) {
	first, second := noise(1000)+strings.Repeat("x", 1_000_000), strings.Repeat("y", 2_000_000)
	zipped := gzipped(t, field("ProductName", "Firefox")+file("a", "application/octet-stream", first)+file("b", "application/octet-stream", second)+end)
	limits := DefaultLimits()
	limits.Ratio = 1000
	report, err := parseIn(spool.Config{Memory: 16 * spool.Window}, request(formData, "gzip", strings.NewReader(zipped), int64(len(zipped))), limits)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{1, 0, 0, 1} {
		got, err := report.Dumps[i].AppendTo(nil)
		if err != nil || string(got) != []string{first, second}[i] {
			t.Errorf("dump %d differs: %v", i, err)
		}
	}
}

// A compressed body that is too large is not decompressed to its end, where it has
// a wrong checksum here.
func TestTooLargeIsNotReadOn(t *testing.T) {
	body := field("ProductName", "Firefox") + file("a", "application/octet-stream", strings.Repeat("x", 2<<20)) + end
	limits := DefaultLimits()
	limits.Kept = 1 << 20
	_, err := parse(request(formData, "gzip", strings.NewReader(flip(gzipped(t, body), -5)), -1), limits)
	if refusal, ok := errors.AsType[*crash.Refusal](err); !ok || refusal.Reason != crash.ReasonTooLarge {
		t.Errorf("got %v, want too_large", err)
	}
}

// A dump of a compressed body is an io.ReaderAt as the standard library wants it.
func TestDumpIsAReaderAt(t *testing.T) {
	for _, encoding := range []string{"gzip", ""} {
		body := field("a", "1") + file("b", "application/octet-stream", noise(999)) + file("c", "application/octet-stream", noise(1001)) + end
		if encoding != "" {
			body = gzipped(t, body)
		}
		report, err := parse(request(formData, encoding, strings.NewReader(body), -1), DefaultLimits())
		if err != nil {
			t.Fatal(err)
		}
		if err := iotest.TestReader(report.Dumps[1].Reader(), []byte(noise(1001))); err != nil {
			t.Errorf("encoding %q: %v", encoding, err)
		}
	}
}

// What lies behind the first gzip member is passed over, as in Antenna, which
// is worth a note.
func TestBytesBehindTheFirstMember(t *testing.T) {
	first := gzipped(t, field("ProductName", "Firefox")+end)
	for name, behind := range map[string]string{"junk": "junk", "a second member": first} {
		got, err := parse(request(formData, "gzip", strings.NewReader(first+behind), -1), DefaultLimits())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if notes := got.Metadata.Notes; len(notes) != 1 || !strings.Contains(notes[0], "behind the compressed body") {
			t.Errorf("%s: notes %q", name, notes)
		}
	}
}

// A body that is not what its coding says is refused, and one that grows too
// large before it has taken the memory.
func TestBadCodings(t *testing.T) {
	plain := field("ProductName", "Firefox") + end
	bomb := field("ProductName", "Firefox") + file("upload_file_minidump", "application/octet-stream", strings.Repeat("\x00", 20<<20)) + end
	limits := DefaultLimits()
	limits.Kept, limits.Inflated = 64<<20, 16<<20
	large := func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w, zstd.WithWindowSize(64<<20)) }
	for name, c := range map[string]struct {
		encoding, body string
		want           crash.Reason
	}{
		"zstd that is none":           {"zstd", plain, crash.ReasonBadEncoding},
		"zstd cut off":                {"zstd", packed(t, plain, openZstd)[:20], crash.ReasonBadEncoding},
		"zstd with a wrong checksum":  {"zstd", flip(packed(t, plain, openZstd), -1), crash.ReasonBadEncoding},
		"deflate that is none":        {"deflate", "\xff\xff\xff", crash.ReasonBadEncoding},
		"zlib with a wrong checksum":  {"deflate", flip(packed(t, plain, openZlib), -1), crash.ReasonBadEncoding},
		"zstd with a huge window":     {"zstd", packed(t, bomb+noise(9<<20), large), crash.ReasonBadEncoding},
		"gzip bomb":                   {"gzip", gzipped(t, bomb), crash.ReasonTooLarge},
		"zstd bomb":                   {"zstd", packed(t, bomb, openZstd), crash.ReasonTooLarge},
		"deflate bomb":                {"deflate", packed(t, bomb, openZlib), crash.ReasonTooLarge},
		"a bomb of bombs":             {"gzip", gzipped(t, gzipped(t, bomb)), crash.ReasonInvalidPayloadStructure},
		"gzip of nothing":             {"gzip", gzipped(t, ""), crash.ReasonInvalidPayloadStructure},
		"zstd of many empty frames":   {"zstd", strings.Repeat(packed(t, "", openZstd), 10_000), crash.ReasonInvalidPayloadStructure},
		"zstd of many skipped frames": {"zstd", strings.Repeat("\x50\x2a\x4d\x18\x00\x00\x00\x00", 5_000), crash.ReasonInvalidPayloadStructure},
	} {
		t.Run(name, func(t *testing.T) {
			room := spool.Config{Memory: 1 << 20, File: 64 << 20, Dir: t.TempDir()}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := parseIn(room, request(formData, c.encoding, strings.NewReader(c.body), int64(len(c.body))), limits)
			runtime.ReadMemStats(&after)
			if refusal, ok := errors.AsType[*crash.Refusal](err); !ok || refusal.Reason != c.want {
				t.Errorf("got %v, want %s", err, c.want)
			}
			if took := after.TotalAlloc - before.TotalAlloc; took > 24<<20 {
				t.Errorf("%d bytes were allocated", took)
			}
		})
	}
}
