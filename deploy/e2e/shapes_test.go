package e2e

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// shape is one way to send a report.
type shape struct {
	header http.Header
	body   io.Reader
	length int64 // -1: chunked
	dumps  map[string]string
}

// shapes are all ways in which clients send reports.
func shapes(t *testing.T) map[string]shape {
	t.Helper()
	noise := newClient("", 4, 0)
	data := func(size int) string { return string(noise.bytes(size)) }
	field := "--B\r\nContent-Disposition: form-data; name=\"ProductName\"\r\n\r\nTest\r\n"
	extra := "--B\r\nContent-Disposition: form-data; name=\"extra\"; filename=\"extra.json\"\r\nContent-Type: application/json\r\n\r\n{\"ProductName\":\"Test\"}\r\n"
	all := map[string]shape{}
	add := func(name, annotations string, dumps map[string]string) {
		var body strings.Builder
		body.WriteString(annotations)
		for dump, data := range dumps {
			fmt.Fprintf(&body, "--B\r\nContent-Disposition: form-data; name=%q; filename=\"f\"\r\nContent-Type: application/octet-stream\r\n\r\n%s\r\n", dump, data)
		}
		body.WriteString("--B--\r\n")
		plain, packed := body.String(), pack(t, body.String())
		form := http.Header{"Content-Type": {"multipart/form-data; boundary=B"}}
		zipped := form.Clone()
		zipped.Set("Content-Encoding", "gzip")
		all[name] = shape{form, strings.NewReader(plain), int64(len(plain)), dumps}
		all[name+", chunked"] = shape{form, strings.NewReader(plain), -1, dumps}
		all[name+", gzip"] = shape{zipped, bytes.NewReader(packed), int64(len(packed)), dumps}
		all[name+", chunked gzip"] = shape{zipped, bytes.NewReader(packed), -1, dumps}
	}
	minidump := func(size int) map[string]string { return map[string]string{"upload_file_minidump": data(size)} }
	add("form fields", field, minidump(1000))
	add("JSON extra", extra, minidump(1000))
	add("two dumps", field, map[string]string{"upload_file_minidump": data(1000), "memory_report": data(2000)})
	add("annotations only", field, nil)
	add("900 kB", field, minidump(900_000))
	add("7 MB", field, minidump(7_000_000))
	return all
}

func pack(t *testing.T, s string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := io.WriteString(z, s); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
