package uploader

import (
	"strings"
	"testing"

	"github.com/yagi-crash/yagi/pkg/queue"
)

// BenchmarkProcess stores a report of about 400 kB, three objects, in a real S3
// server within this process.
func BenchmarkProcess(b *testing.B) {
	w := newWorld(b, 1)
	u, err := Listen(b.Context(), w.cfg, nopLog())
	must(b, err)
	defer u.admin.Close()
	must(b, u.connect())
	defer u.disconnect()
	report := newReport(b, strings.Repeat("x", 400_000))
	report.Dumps = report.Dumps[:1]
	msg := message(b, report)
	b.SetBytes(int64(len(msg.Data)))
	b.ReportAllocs()
	for b.Loop() {
		if v := u.process(b.Context(), queue.StreamName(0), msg.Header, msg.Data); v.err != nil {
			b.Fatal(v.err)
		}
	}
}
