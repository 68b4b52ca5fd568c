package intake_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"

	"github.com/yagi-crash/yagi/pkg/crash"
)

// Rows 107 to 118, and some of before: what else is answered otherwise than by
// Antenna, as random reports have shown that were given to both.

func TestMatrixAntennaRefused(t *testing.T) {
	t.Parallel()
	m := startMatrix(t, "INTAKE_SUBMITTER_TOKEN=s3cret")
	badID := func(name, uuid string) refused {
		return malformed(name, whole(field("uuid", uuid)+product()+end, "Authorization: Bearer s3cret"), "invalid_uuid")
	}
	m.refuse(t, []refused{
		{name: "row 46 plain body that says br", raw: whole(report(), "Content-Encoding: br"), status: 415, body: "Discarded=unsupported_encoding"},
		malformed("row 47 plain body that says GZIP", whole(report(), "Content-Encoding: GZIP"), "bad_gzip"),
		malformed("row 46 plain body that says deflate", whole(report(), "Content-Encoding: deflate"), "bad_encoding"),
		malformed("row 60 CRLF, and LF behind a boundary", whole(product()+"--B\n"+strings.TrimPrefix(product(), "--B\r\n")+end), "invalid_payload_structure"),
		malformed("row 60 LF behind the first boundary alone", whole("--B\n"+strings.TrimPrefix(product(), "--B\r\n")+end), "invalid_payload_structure"),
		malformed("row 63 much behind the final boundary, on its line", whole(product()+"--B--"+strings.Repeat("x", 130)), "invalid_payload_structure"),
		malformed("row 97 JSON with a surrogate in UTF-8", whole(extra("{\"a\":\"\xed\xa0\x80\"}")+end), "invalid_json"),
		malformed("row 112 gzip header with a name of 512 bytes", whole(zippedAs(t, strings.Repeat("n", 512), report()), "Content-Encoding: gzip"), "bad_gzip"),
		badID("row 114 uuid of a day that does not exist", "de1bb258-cbbf-4589-a673-34f801160230"),
		badID("row 114 uuid with a line end", "de1bb258-cbbf-4589-a673-34f801160918\n"),
		{name: "row 117 JSON parts of 4 MiB and a byte", raw: whole(strings.Repeat(extra(`{"a":"`+strings.Repeat("x", 2<<20-7)+`"}`), 2) + extra("{}") + end), status: 413, body: "Discarded=too_large"},
		{name: "row 117 JSON of 4 MiB and a byte", raw: whole(extra(`{"a":"`+strings.Repeat("x", 4<<20-7)+`"}`) + end), status: 413, body: "Discarded=too_large"},
		{name: "row 118 control character in a header", raw: whole(report(), "X: \x01"), status: 400, body: fromNetHTTP},
	})
}

func TestMatrixAntennaAccepted(t *testing.T) {
	t.Parallel()
	m := startMatrix(t)
	const (
		noEnd   = "no line end before the final boundary"
		noNext  = "no line end before a boundary"
		unknown = "unknown content type: "
	)
	with := func(k kept, name, value string) kept {
		k.annotations[name] = value
		return k
	}
	named := `Content-Disposition: form-data; name="a"`
	boundary := "---------------------------6B8B4567327B23C6"
	open := func(name string) string { return strings.TrimSuffix(dump(name, "MDMP"), "\r\n") }
	long := strings.Repeat("n", 600)
	notes := make([]string, 100)
	for i := range notes {
		notes[i] = "extract payload text part exception: invalid text or charset: utf-8"
	}
	same := firefox(crash.MinidumpName, minidump)
	m.accept(t, []accepted{
		{name: "row 40 boundary that is not ASCII", raw: whole(strings.ReplaceAll(report(), "--B", "--\xf6"), "Content-Type: multipart/form-data; boundary=\xf6"), want: firefox(crash.MinidumpName, strings.ReplaceAll(minidump, "--B", "--\xf6"))},
		{name: "row 41 space before the equals sign", raw: whole(report(), "Content-Type: multipart/form-data; boundary =B"), want: same},
		{name: "row 61 first boundary behind text on its line", raw: whole("before" + report()), want: same},
		{name: "row 61 half a line end behind the final boundary", raw: whole(product() + "--B--\r"), want: firefox()},
		{name: "row 84b file directly followed by the final boundary", raw: whole(product() + open("a") + end), want: firefox("a", "MDMP").noted(noEnd)},
		{
			name: "row 84b file directly followed by another", want: firefox("a", "MDMP", "b", "MDMP").noted(noNext),
			raw: whole(strings.ReplaceAll(product()+open("a")+dump("b", "MDMP")+end, "--B", "--"+boundary), "Content-Type: multipart/form-data; boundary="+boundary),
		},
		{name: "row 107 no space behind a colon", raw: whole(product() + part("1", `Content-Disposition:form-data; name="a"`) + end), want: with(firefox(), "a", `"1"`)},
		{name: "row 107 spaces around a type", raw: whole(product() + part("1", named, "Content-Type :\t application/octet-stream ") + end), want: firefox("a", "1")},
		{name: "row 107 folded line", raw: whole(product() + part("1", "Content-Disposition: form-data;", "\tname=\"a\"") + end), want: with(firefox(), "a", `"1"`)},
		{name: "row 108 type that begins like text/plain", raw: whole(product() + part("1", named, "Content-Type: text/plain-ish") + end), want: with(firefox(), "a", `"1"`)},
		{name: "row 109 file name whose character set nobody has", raw: whole(product() + part("1", named+"; filename*=klingon''f") + end), want: with(firefox(), "a", `"1"`)},
		{
			name: "row 110 dump beside upload_file_minidump", raw: whole(product() + dump(crash.MinidumpName, "1") + dump("dump", "2") + end),
			want: firefox("dump", "2").noted("two dumps named dump: the last one counts"),
		},
		{name: "row 111 half a surrogate pair in a name", raw: whole(extra(`{"a\ud800":1}`) + end), want: kept{annotations: map[string]string{"a\uFFFD": "1"}}},
		{name: "row 112 gzip header with a name of 511 bytes", raw: whole(zippedAs(t, strings.Repeat("n", 511), report()), "Content-Encoding: gzip"), want: same},
		{
			name: "row 113 long note", raw: whole(product() + part("1", fmt.Sprintf("Content-Disposition: form-data; name=%q", long), octets+"; x") + end),
			want: firefox(long[:30], "1").noted((unknown + long)[:512]),
		},
		{name: "row 113 101 notes", raw: whole(product() + strings.Repeat(field("a", "\xff"), 101) + end), want: firefox().noted(notes...)},
		{name: "row 115 deflate", raw: whole(packed(t, "deflate", report()), "Content-Encoding: deflate"), want: same},
		{name: "row 115 zstd", raw: whole(packed(t, "zstd", report()), "Content-Encoding: zstd"), want: same},
	})
}

// What is told of the client is its User-Agent in Latin-1, of several all.
func TestUserAgentIsReadAsByAntenna(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	crashID(t, startIntake(t, q.url).post(t, report(), "User-Agent: K\xf6ln \xc3\xb6"))
	if raw := text(t, q.one(t).RawCrash); !strings.Contains(raw, `"user_agent":"Breakpad/1.0 (test),Köln Ã¶"`) {
		t.Errorf("raw_crash: %s", raw)
	}
}

// zippedAs compresses under a file name, which the header has.
func zippedAs(t *testing.T, name, s string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Name = name
	return compress(t, z, &b, s)
}

func packed(t *testing.T, coding, s string) string {
	t.Helper()
	var b bytes.Buffer
	if coding == "deflate" {
		return compress(t, zlib.NewWriter(&b), &b, s)
	}
	z, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	return compress(t, z, &b, s)
}

func compress(t *testing.T, z io.WriteCloser, b *bytes.Buffer, s string) string {
	t.Helper()
	_, err := io.WriteString(z, s)
	if err := errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// A rule that cannot make sense of an annotation does not match.
func TestMatrixRules(t *testing.T) {
	t.Parallel()
	m := startMatrix(t, "INTAKE_THROTTLE_RULES=mozilla")
	environments := []string{`"[]"`, `"null"`, `"1"`, `[]`, `"\"text\""`}
	for _, environment := range environments {
		t.Run("row 120 "+environment, func(t *testing.T) {
			crashID(t, m.intake.post(t, extra(`{"ProductName":"Firefox","ReleaseChannel":"esr","TelemetryEnvironment":`+environment+`}`)+end))
		})
	}
	if got := len(m.queue.stored(t)); got != len(environments) {
		t.Errorf("%d reports in the stream, want %d", got, len(environments))
	}
}
