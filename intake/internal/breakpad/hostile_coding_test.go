package breakpad

import (
	"bytes"
	"strings"
	"testing"

	"github.com/klauspost/compress/flate"
)

// A compressed body is read in time that goes by its size on the wire, also where its
// blocks hold little or nothing. The ordinary one grows ten times.
func TestHostileCodingsCostLittleMore(t *testing.T) {
	const size, most = 1 << 20 / smaller, 16
	repeat := func(head, unit string) string { return head + strings.Repeat(unit, size/len(unit)) }
	unit := noise(1000)
	var ordinary strings.Builder
	for ordinary.Len() < 10*size {
		ordinary.WriteString(strings.Repeat(unit[ordinary.Len()%900:][:100], 10))
	}
	wire := gzipped(t, file("a", "application/octet-stream", ordinary.String())+end)
	base := cpuOf(t, formData, "gzip", wire)
	perByte := float64(base) / float64(max(len(wire), size))
	t.Logf("ordinary: %s for %d bytes", base, len(wire))

	const zstdHead = "\x28\xb5\x2f\xfd\x00\x68" // no sizes, a window of 8 MiB
	for name, c := range map[string]struct{ encoding, body string }{
		"zstd, empty frames":         {"zstd", repeat("", zstdHead+"\x01\x00\x00")},
		"zstd, skipped frames":       {"zstd", repeat("", "\x50\x2a\x4d\x18\x00\x00\x00\x00")},
		"zstd, empty blocks":         {"zstd", repeat(zstdHead, "\x00\x00\x00")},
		"zstd, blocks of one byte":   {"zstd", repeat(zstdHead, "\x0a\x00\x00x")},
		"deflate, empty blocks":      {"deflate", repeat("", "\x00\x00\x00\xff\xff")},
		"deflate, blocks of a byte":  {"deflate", repeat("", "\x00\x01\x00\xfe\xffx")},
		"deflate, many small tables": {"deflate", repeat("", flushed(t, strings.Repeat("aabbbacdeeefg", 7)))},
	} {
		took := cpuOf(t, formData, c.encoding, c.body)
		if ratio := float64(took) / float64(len(c.body)) / perByte; ratio > most*instrumented {
			t.Errorf("%s: %s for %d bytes, %.1f times as much a byte as an ordinary body", name, took, len(c.body), ratio)
		} else {
			t.Logf("%s: %.1f", name, ratio)
		}
	}
}

// flushed is a text as blocks of deflate of which none is the last.
func flushed(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.HuffmanOnly)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
