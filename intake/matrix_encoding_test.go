package intake_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/yagi-crash/yagi/pkg/crash"
)

// Rows 37 to 54: Content-Type and Content-Encoding.

func TestMatrixEncoding(t *testing.T) {
	t.Parallel()
	m := startMatrix(t, "INTAKE_MAX_INFLATED=2MB")
	kind := func(value string) string { return whole(report(), "Content-Type: "+value) }
	zipped := gzipped(t, report())
	encoded := func(body string, lines ...string) string {
		head := make([]string, len(lines))
		for i, line := range lines {
			head[i] = "Content-Encoding: " + line
		}
		return whole(body, head...)
	}
	unsupported := func(name string, lines ...string) refused {
		return refused{name: name, raw: encoded(zipped, lines...), status: http.StatusUnsupportedMediaType, body: "Discarded=unsupported_encoding"}
	}
	tooLarge := func(name, raw string) refused {
		return refused{name: name, raw: raw, status: http.StatusRequestEntityTooLarge, body: "Discarded=too_large"}
	}
	zeros := strings.Repeat("\x00", 3_000_000)
	wrongSum := []byte(zipped)
	wrongSum[len(wrongSum)-5] ^= 1
	m.refuse(t, []refused{
		malformed("row 37 no Content-Type", strings.Replace(whole(report()), "Content-Type: multipart/form-data; boundary=B\r\n", "", 1), "no_content_type"),
		malformed("row 37 empty Content-Type", kind(""), "no_content_type"),
		malformed("row 38 JSON", kind("application/json"), "wrong_content_type"),
		malformed("row 38 plain text", kind("text/plain; boundary=B"), "wrong_content_type"),
		malformed("row 38 url-encoded", kind("application/x-www-form-urlencoded"), "wrong_content_type"),
		malformed("row 38 another multipart", kind("multipart/related; boundary=B"), "wrong_content_type"),
		malformed("row 39 no boundary", kind("multipart/form-data"), "no_boundary"),
		malformed("row 39 boundary empty", kind("multipart/form-data; boundary="), "no_boundary"),
		malformed("row 39 boundary empty in quotes", kind(`multipart/form-data; boundary=""`), "no_boundary"),
		malformed("row 40 boundary of 201 bytes", kind("multipart/form-data; boundary="+strings.Repeat("B", 201)), "no_boundary"),
		malformed("row 42 two boundaries", kind("multipart/form-data; boundary=B; boundary=C"), "no_boundary"),
		malformed("row 42 the same boundary twice", kind("multipart/form-data; boundary=B; boundary=B"), "no_boundary"),
		malformed("row 44 two Content-Types", whole(report(), "Content-Type: multipart/form-data; boundary=B", "Content-Type: text/plain"), "wrong_content_type"),
		malformed("row 44 the same Content-Type twice", whole(report(), "Content-Type: multipart/form-data; boundary=B", "Content-Type: multipart/form-data; boundary=B"), "wrong_content_type"),
		unsupported("row 46 br", "br"),
		unsupported("row 46 compress", "compress"),
		unsupported("row 46 no such encoding", "x"),
		unsupported("row 46 with a parameter", "gzip;q=1"),
		unsupported("row 47 gzip twice", "gzip, gzip"),
		unsupported("row 47 gzip and identity", "gzip, identity"),
		unsupported("row 47 gzip and identity on two lines", "gzip", "identity"),
		malformed("row 48 not gzip", encoded(report(), "gzip"), "bad_gzip"),
		malformed("row 48 a byte of gzip", encoded(zipped[:1], "gzip"), "bad_gzip"),
		malformed("row 49 gzip cut in its middle", encoded(zipped[:50], "gzip"), "bad_gzip"),
		malformed("row 49 gzip cut in its checksum", encoded(zipped[:len(zipped)-1], "gzip"), "bad_gzip"),
		malformed("row 49 gzip with a wrong checksum", encoded(string(wrongSum), "gzip"), "bad_gzip"),
		tooLarge("row 52 gzip bomb in a dump", encoded(gzipped(t, product()+dump("a", zeros)+end), "gzip")),
		tooLarge("row 52 gzip that grows 400 times, within INTAKE_MAX_INFLATED", encoded(gzipped(t, product()+dump("a", zeros[:1_900_000])+end), "gzip")),
		tooLarge("row 52 zstd that grows 400 times, within INTAKE_MAX_INFLATED", encoded(rleBomb(product(), 15), "zstd")),
		tooLarge("row 52 gzip bomb behind the end", encoded(gzipped(t, report()+zeros), "gzip")),
		malformed("row 54 gzip that does not say so", whole(zipped), "invalid_payload_structure"),
	})
	const behind = "bytes behind the compressed body were passed over"
	same := firefox(crash.MinidumpName, minidump)
	long := strings.Repeat("B", 200)
	const odd = "-- a/b(c)=?:,'é"
	respell := func(boundary string) string { return strings.ReplaceAll(product()+end, "--B", "--"+boundary) }
	m.accept(t, []accepted{
		{name: "row 40 boundary of 200 bytes", raw: whole(respell(long), "Content-Type: multipart/form-data; boundary="+long), want: firefox()},
		{name: "row 41 boundary behind another parameter", raw: kind("multipart/form-data; charset=utf-8; boundary=B"), want: same},
		{name: "row 43 capitals", raw: kind("MULTIPART/FORM-DATA; BOUNDARY=B"), want: same},
		{name: "row 43 multipart/mixed", raw: kind("multipart/mixed; boundary=\"B\""), want: same},
		{name: "row 45 unquoted boundary of all sorts of characters", raw: whole(respell(odd), "Content-Type: multipart/form-data; boundary="+odd), want: firefox()},
		{name: "row 46 empty", raw: encoded(report(), ""), want: same},
		{name: "row 46 identity", raw: encoded(report(), "Identity"), want: same},
		{name: "row 46 x-gzip", raw: encoded(zipped, "x-gzip"), want: same},
		{name: "row 47 gzip in capitals", raw: encoded(zipped, "GZIP"), want: same},
		{name: "row 50 junk behind gzip", raw: encoded(zipped+"junk", "gzip"), want: same.noted(behind)},
		{name: "row 51 two gzip members", raw: encoded(zipped+gzipped(t, "another"), "gzip"), want: same.noted(behind)},
	})
}
