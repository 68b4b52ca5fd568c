package breakpad

import (
	"bytes"
	"strings"
	"testing"

	"github.com/yagi-crash/yagi/intake/internal/spool"
)

// BenchmarkParse is a report of the median size, received and parsed, without
// what the network costs.
func BenchmarkParse(b *testing.B) {
	dump := bytes.Repeat([]byte("\x00\x01\r\n-\xff abcdefgh"), 400_000/16)
	var text strings.Builder
	for i := range 50 {
		text.WriteString(field("Annotation"+string(rune('A'+i)), strings.Repeat("v", 200)))
	}
	text.WriteString(file("upload_file_minidump", "application/octet-stream", string(dump)) + end)
	plain := text.String()
	for name, body := range map[string]string{"plain": plain, "gzip": gzipped(b, plain)} {
		b.Run(name, func(b *testing.B) {
			store, err := spool.Open(spool.Config{Memory: 64 << 20})
			if err != nil {
				b.Fatal(err)
			}
			encoding, window, limits := strings.TrimPrefix(name, "plain"), make([]byte, WindowSize), DefaultLimits()
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			for b.Loop() {
				post, err := Open(request(formData, encoding, nil, int64(len(body))), limits)
				if err != nil {
					b.Fatal(err)
				}
				into, err := store.Admit(b.Context(), post.Size, func() {})
				if err != nil {
					b.Fatal(err)
				}
				if err := post.Receive(strings.NewReader(body), into); err != nil {
					b.Fatal(err)
				}
				if _, err := post.Parse(window, NewDecoders(1)); err != nil {
					b.Fatal(err)
				}
				into.Release()
			}
		})
	}
}
