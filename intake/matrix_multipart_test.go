package intake_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/yagi-crash/yagi/pkg/crash"
)

// Rows 55 to 85: the multipart body. Not among them:
//   - row 84b, a file directly followed by the final boundary: that is Breakpad on
//     Windows, see the clients' tests.

const (
	lfOnly     = "lines end in LF instead of CRLF"
	octets     = "Content-Type: application/octet-stream"
	fileNamedA = `Content-Disposition: form-data; name="a"; filename="f"`
)

func TestMatrixMultipartRefused(t *testing.T) {
	t.Parallel()
	m := startMatrix(t)
	structure := func(name, body string) refused { return malformed(name, whole(body), "invalid_payload_structure") }
	named := func(name string) string { return `Content-Disposition: form-data; name="` + name + `"` }
	dumps := func(n int) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(dump(fmt.Sprintf("dump_%d", i), "x"))
		}
		return b.String()
	}
	m.refuse(t, []refused{
		structure("row 55 another boundary", strings.ReplaceAll(report(), "--B", "--C")),
		structure("row 55 no boundary at all", "ProductName=Firefox"),
		malformed("row 55 chunked without a byte", chunked("0\r\n\r\n"), "invalid_payload_structure"),
		malformed("row 56 no parts", whole(end), "no_annotations"),
		structure("row 57 no final boundary", product()),
		structure("row 58 cut behind a boundary", product()+"--B\r\n"),
		structure("row 58 cut within the final boundary", product()+"--B-"),
		structure("row 60 line ends that change", strings.ReplaceAll(product(), "\r\n", "\n")+field("a", "1")+end),
		structure("row 64 header line without a colon", product()+part("x", named("a"), "nonsense")+end),
		structure("row 65 header line of 17 kB", product()+part("x", named("a"), "X: "+strings.Repeat("x", 17_000))+end),
		structure("row 65 header lines of 15 kB, a hundred times", product()+strings.Repeat(part("x", named("a")+strings.Repeat(";a=", 5000)), 100)+end),
		structure("row 66 33 header lines", product()+part("x", append(strings.Split(strings.Repeat("X: y\n", 32), "\n")[:32], named("a"))...)+end),
		structure("row 67 2,001 parts", strings.Repeat(product(), 2001)+end),
		structure("row 67 100,000 parts", strings.Repeat("--B\r\n\r\n\r\n", 100_000)+end),
		structure("row 76 base64", product()+part("eA==", named("a"), "Content-Transfer-Encoding: base64")+end),
		structure("row 76 quoted-printable", product()+part("=78", named("a"), "Content-Transfer-Encoding: Quoted-Printable")+end),
		malformed("row 78 dump whose name has no letter", whole(product()+dump("../..", "x")+end), "invalid_dump_name"),
		malformed("row 78 dump whose name is not ASCII", whole(product()+dump("дамп", "x")+end), "invalid_dump_name"),
		malformed("row 79 dump named raw_crash", whole(product()+dump("raw_crash", "x")+end), "invalid_dump_name"),
		malformed("row 79 dump named dump_names", whole(product()+dump("dump_names", "x")+end), "invalid_dump_name"),
		malformed("row 79 dump named processed_crash once clean", whole(product()+dump("../processed_crash", "x")+end), "invalid_dump_name"),
		structure("row 81 17 dumps", product()+dumps(17)+end),
	})
}

func TestMatrixMultipartAccepted(t *testing.T) {
	t.Parallel()
	m := startMatrix(t)
	disposed := func(value string) string { return part("1", "Content-Disposition: "+value) }
	dense := strings.Repeat("\r\n--\r\n-B\r\r\n\n", 400_000)
	with := func(k kept, name, value string) kept {
		k.annotations[name] = value
		return k
	}
	rows := []accepted{
		{name: "row 59 no line end behind the final boundary", raw: product() + "--B--", want: firefox()},
		{name: "row 60 lines end in bare LF", raw: strings.ReplaceAll(product()+end, "\r\n", "\n"), want: firefox().noted(lfOnly)},
		{name: "row 61 text before and behind", raw: "before\r\n" + product() + end + "behind\r\n--B\r\n", want: firefox()},
		{name: "row 62 spaces behind the boundary", raw: strings.ReplaceAll(product(), "--B\r\n", "--B \t\r\n") + "--B-- \r\n", want: firefox()},
		{name: "row 63 what begins like a boundary", raw: product() + dump("a", "1\r\n--Bx\r\n--B-\r\n2") + end, want: firefox("a", "1\r\n--Bx\r\n--B-\r\n2")},
		{name: "row 65 header line of 16 kB", raw: product() + part("1", fileNamedA, octets, "X: "+strings.Repeat("x", 16_000)) + end, want: firefox("a", "1")},
		{name: "row 67 2,000 parts", raw: strings.Repeat(product(), 2000) + end, want: firefox()},
		{name: "row 68 part without headers", raw: product() + "--B\r\n\r\nnobody's\r\n" + end, want: firefox()},
		{name: "row 69 part without a name", raw: product() + disposed("form-data") + disposed(`form-data; name=""`) + part("1", octets) + end, want: firefox()},
		{
			name: "row 70 two Content-Dispositions", raw: product() + part("1", `Content-Disposition: form-data; name="x"`, fileNamedA, octets) + end,
			want: firefox("a", "1").noted("part with several Content-Disposition lines: the last one counts"),
		},
		{
			name: "row 71 two names", raw: product() + disposed(`form-data; name="a"; name="b"`) + end,
			want: with(firefox(), "b", `"1"`).noted("part with several names: the last one counts"),
		},
		{
			name: "row 72 name in the extended spelling", raw: product() + disposed(`form-data; name*=utf-8''K%C3%B6ln`) + end,
			want: with(firefox(), "Köln", `"1"`).noted("part that is named by name* instead of name"),
		},
		{
			name: "row 73 name of an annotation not UTF-8", raw: product() + field("K\xf6ln", "1") + end,
			want: with(firefox(), "K\uFFFDln", `"1"`).noted("part whose name is not UTF-8: K\uFFFDln"),
		},
		{
			name: "row 73 name of a dump not UTF-8", raw: product() + dump("K\xf6ln", "1") + end,
			want: firefox("Kln", "1").noted("part whose name is not UTF-8: K\uFFFDln"),
		},
		{
			name: "row 74 Content-Type not ASCII", raw: product() + part("1", fileNamedA, "Content-Type: application/\xf6ctets") + end,
			want: firefox("a", "1").noted("unknown content type: a application/\uFFFDctets"),
		},
		{
			name: "row 74 Content-Type not ASCII, no file name", raw: product() + part("1", `Content-Disposition: form-data; name="a"`, "Content-Type: t\xc3\xa9xt/plain") + end,
			want: firefox("a", "1").noted("unknown content type: a t\u00e9xt/plain"),
		},
		{name: "row 75 attachment", raw: disposed("attachment; name=a") + product() + end, want: with(firefox(), "a", `"1"`)},
		{
			name: "row 76 encodings that encode nothing", want: firefox("a", "=78"),
			raw: product() + part("=78", fileNamedA, octets, "Content-Transfer-Encoding: 8bit", "Content-Transfer-Encoding: BINARY") + end,
		},
		{name: "row 77 dump named as a path", raw: product() + dump("../../etc/x", "1") + end, want: firefox("etcx", "1")},
		{name: "row 80 two dumps of one name", raw: product() + dump("a.b", "1") + dump("ab", "2") + end, want: firefox("ab", "2").noted("two dumps named ab: the last one counts")},
		{
			name: "row 80 two dumps of one name once cut", want: firefox(strings.Repeat("a", 30), "2").noted("two dumps named " + strings.Repeat("a", 30) + ": the last one counts"),
			raw: product() + dump(strings.Repeat("a", 31), "1") + dump(strings.Repeat("a", 32), "2") + end,
		},
		{name: "row 82 empty dump", raw: product() + dump(crash.MinidumpName, "") + end, want: firefox(crash.MinidumpName, "").noted("dump upload_file_minidump is empty")},
		{name: "row 83 dump that is no minidump", raw: product() + dump(crash.MinidumpName, "<html>") + end, want: firefox(crash.MinidumpName, "<html>")},
		{name: "row 84 no dump", raw: product() + end, want: firefox()},
		{name: "row 84c empty annotation", raw: product() + field("a", "") + end, want: with(firefox(), "a", `""`)},
		{name: "row 84c annotation that is only its header", raw: product() + strings.TrimSuffix(field("a", ""), "\r\n") + end, want: with(firefox(), "a", `""`)},
		{name: "row 85 all line ends and dashes", raw: product() + dump("a", dense) + end, want: firefox("a", dense)},
	}
	for i := range rows {
		rows[i].raw = whole(rows[i].raw)
	}
	m.accept(t, rows)
}
