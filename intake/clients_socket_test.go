package intake_test

import "testing"

// Crashpad's socket transport (Android, Fuchsia) speaks HTTP/1.0 with a chunked
// body, names neither host nor itself, and reads the reply by hand: a status
// line of HTTP/1.0 or 1.1, a length in this very spelling, never chunks.
func TestCrashpadSocketTransport(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	i := startIntake(t, q.url)
	const line = "POST /submit?product=Chrome_Android&version=156.0.8078.79&guid=5f3c2b1a-0d1e-4f2a-8b3c-9d4e5f6a7b8c HTTP/1.0"
	const rest = "\nContent-Type: multipart/form-data; boundary=" + crashpadBoundary + "\nTransfer-Encoding: chunked"
	for name, head := range map[string]string{
		"gzip":                  line + "\nContent-Encoding: gzip" + rest,
		"with --no-upload-gzip": line + rest,
	} {
		c := crashpad(client{head: head, chunk: 32_768, keeps: wholeBody(200, 203)}, chromiumFields, "browser_log.txt")
		t.Run(name, func(t *testing.T) { c.run(t, q, i) })
	}
}
