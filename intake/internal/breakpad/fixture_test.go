package breakpad

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/yagi-crash/yagi/intake/internal/spool"
	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/settings"
)

const formData = "multipart/form-data; boundary=B"

// lines joins lines the way they stand on the wire.
func lines(l ...string) string { return strings.Join(l, "\r\n") }

func field(name, value string) string {
	return lines("--B", `Content-Disposition: form-data; name="`+name+`"`, "", value, "")
}

func file(name, kind, data string) string {
	return lines("--B", `Content-Disposition: form-data; name="`+name+`"; filename="f"`, "Content-Type: "+kind, "", data, "")
}

func extra(json string) string {
	return lines("--B", `Content-Disposition: form-data; name="extra"; filename="extra.json"`, "Content-Type: application/json", "", json, "")
}

const end = "--B--\r\n"

func request(contentType, encoding string, body io.Reader, size int64) *http.Request {
	r := httptest.NewRequestWithContext(context.Background(), http.MethodPost, "/submit", body)
	r.ContentLength = size
	r.Header = http.Header{}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	if encoding != "" {
		r.Header.Set("Content-Encoding", encoding)
	}
	return r
}

func gzipped(t testing.TB, s string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := io.WriteString(z, s); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// got is what a test compares of a report.
type got struct {
	Annotations map[string]string // JSON text
	Dumps       map[string]string
	Notes       []string
	Payload     string
}

// DefaultLimits are those that hold when nothing is set.
func DefaultLimits() Limits {
	var l Limits
	if err := settings.Load(nil, &l); err != nil {
		panic(err)
	}
	l.Kept = 8 << 20
	return l
}

// parse has a request received and parsed in a store of its own, which is in
// memory.
func parse(r *http.Request, limits Limits) (*crash.Report, error) {
	return parseIn(spool.Config{Memory: 512 << 20}, r, limits)
}

func parseIn(room spool.Config, r *http.Request, limits Limits) (*crash.Report, error) {
	return parseAll(room, r, limits, NewDecoders(1))
}

func parseWith(decoders *Decoders, r *http.Request) (*crash.Report, error) {
	return parseAll(spool.Config{Memory: 16 << 20}, r, DefaultLimits(), decoders)
}

func parseAll(room spool.Config, r *http.Request, limits Limits, decoders *Decoders) (*crash.Report, error) {
	store, err := spool.Open(room)
	if err != nil {
		return nil, err
	}
	post, err := Open(r, limits)
	if err != nil {
		return nil, err
	}
	into, err := store.Admit(context.Background(), post.Size, func() {})
	if err != nil {
		return nil, err
	}
	if err := post.Receive(r.Body, into); err != nil {
		return nil, err
	}
	return post.Parse(make([]byte, WindowSize), decoders)
}

func flat(r *crash.Report) got {
	g := got{Annotations: map[string]string{}, Dumps: map[string]string{}, Notes: r.Metadata.Notes, Payload: r.Metadata.Payload}
	for name, value := range r.Annotations {
		g.Annotations[name] = string(value)
	}
	for _, d := range r.Dumps {
		data, err := d.AppendTo(nil)
		if err != nil {
			panic(err)
		}
		g.Dumps[d.Name] = string(data)
	}
	return g
}
