package intake_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/yagi-crash/yagi/pkg/crash"
)

// Rows 86 to 106: annotations, as form fields and as JSON.

func TestMatrixAnnotationsRefused(t *testing.T) {
	t.Parallel()
	m := startMatrix(t, "INTAKE_SUBMITTER_TOKEN=s3cret")
	badJSON := func(name, text string) refused {
		return malformed(name, whole(product()+extra(text)+end), "invalid_json")
	}
	badValue := func(name, text string) refused {
		return malformed(name, whole(product()+extra(text)+end), "invalid_json_value")
	}
	badID := func(name, uuid string) refused {
		return malformed(name, whole(extra(`{"uuid":`+uuid+`}`)+end, "Authorization: Bearer s3cret"), "invalid_uuid")
	}
	members := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `"a%d":1,`, i)
		}
		return "{" + b.String() + `"b":1}`
	}
	nested := func(n int) string {
		return `{"a":` + strings.Repeat("[", n-1) + strings.Repeat("]", n-1) + `}`
	}
	m.refuse(t, []refused{
		malformed("row 89 2,001 annotations in JSON", whole(extra(members(2000))+end), "invalid_payload_structure"),
		malformed("row 89 50,000 annotations as fields", whole(strings.Repeat(field("a", "1"), 50_000)+end), "invalid_payload_structure"),
		badJSON("row 90 not JSON", `{"a":}`),
		badJSON("row 90 JSON with something behind it", `{"a":1} x`),
		badJSON("row 90 two JSON objects", `{"a":1}{"b":1}`),
		badJSON("row 90 nothing", ""),
		badJSON("row 90 JSON not UTF-8", "{\"a\":\"\xff\"}"),
		badValue("row 91 array", `["a"]`),
		badValue("row 91 string", `"a"`),
		badValue("row 91 number", `1`),
		badValue("row 91 null", `null`),
		badJSON("row 92 nested 65 deep", nested(65)),
		badJSON("row 92 nested 100,000 deep", nested(100_000)),
		badJSON("row 93 integer of 5,000 digits", `{"a":`+strings.Repeat("12345678901234567890", 250)+`}`),
		badJSON("row 94 NaN", `{"a":NaN}`),
		badJSON("row 94 Infinity", `{"a":-Infinity}`),
		badJSON("row 97 UTF-16", "\xff\xfe{\x00}\x00"),
		badJSON("row 97 UTF-16 without a mark", "{\x00}\x00"),
		{name: "row 101 uuid without a token", raw: whole(extra(`{"uuid":null}`) + end), status: 401, body: "Discarded=unauthorized_uuid"},
		badID("row 102 uuid of another shape", `"x"`),
		badID("row 102 uuid a number", `1`),
		badID("row 102 uuid null", `null`),
		badID("row 102 uuid an array", `["de1bb258-cbbf-4589-a673-34f801160918"]`),
		malformed("row 105 only a dump", whole(dump(crash.MinidumpName, "MDMP")+end), "no_annotations"),
		malformed("row 105 empty JSON", whole(extra(`{}`)+dump(crash.MinidumpName, "MDMP")+end), "no_annotations"),
	})
}

func TestMatrixAnnotationsAccepted(t *testing.T) {
	t.Parallel()
	m := startMatrix(t)
	only := func(pairs ...string) kept {
		k := kept{annotations: map[string]string{}}
		for i := 0; i < len(pairs); i += 2 {
			k.annotations[pairs[i]] = pairs[i+1]
		}
		return k
	}
	charset := func(name, value string) string {
		return part(value, `Content-Disposition: form-data; name="a"`, "Content-Type: text/plain; charset="+name)
	}
	const (
		notText = "extract payload text part exception: invalid text or charset: "
		both    = "includes annotations in both json-encoded extra and formdata parts"
		digits  = "12345678901234567890"
	)
	limit := 1 << 20
	big := strings.Repeat("x", limit)
	long := strings.Repeat("n", 256)
	rows := []accepted{
		{name: "row 86 not UTF-8", raw: product() + field("a", "K\xf6ln") + end, want: firefox().noted(notText + "utf-8")},
		{name: "row 87 unknown character set", raw: product() + charset("klingon", "1") + end, want: firefox().noted(notText + "klingon")},
		{name: "row 87 not in its character set", raw: product() + charset("us-ascii", "K\xf6ln") + end, want: firefox().noted(notText + "us-ascii")},
		{name: "row 87 character set that only Antenna knows", raw: product() + charset("windows-1252", "\x80") + end, want: firefox().noted(notText + "windows-1252")},
		{name: "row 87 known character set", raw: charset("ISO-8859-1", "K\xf6ln") + end, want: only("a", `"Köln"`)},
		{name: "row 88 value of 1 MiB", raw: field("a", big) + end, want: only("a", `"`+big+`"`)},
		{name: "row 88 value of 1 MiB and a byte", raw: product() + field("a", big+"x") + end, want: firefox().noted("dropped annotation a: over 1048576 bytes")},
		{name: "row 89 name of 256 bytes", raw: field(long, "1") + end, want: only(long, `"1"`)},
		{name: "row 89 name of 257 bytes", raw: product() + field(long+"n", "1") + end, want: firefox().noted("dropped an annotation whose name is over 256 bytes")},
		{
			name: "row 89 name of 8 kB in JSON", raw: extra(`{"ProductName":"Firefox","`+strings.Repeat("n", 8000)+`":1}`) + end,
			want: firefox().noted("dropped 1 annotations whose names are over 256 bytes"),
		},
		{name: "row 92 nested 64 deep", raw: extra(`{"a":`+strings.Repeat("[", 63)+strings.Repeat("]", 63)+`}`) + end, want: only("a", strings.Repeat("[", 63)+strings.Repeat("]", 63))},
		{name: "row 93 integer of 4,300 digits", raw: extra(`{"a":`+strings.Repeat(digits, 215)+`}`) + end, want: only("a", strings.Repeat(digits, 215))},
		{name: "row 95 a name twice in JSON", raw: extra(`{"a":1,"a":2}`) + end, want: only("a", "2")},
		{name: "row 95 a name twice as fields", raw: field("a", "1") + field("a", "2") + end, want: only("a", `"2"`)},
		{name: "row 96 half a surrogate pair", raw: extra(`{"a":"\ud800"}`) + end, want: only("a", `"\ud800"`)},
		{name: "row 97 byte order mark", raw: extra("\xef\xbb\xbf{\"a\":1}") + end, want: only("a", "1")},
		{name: "row 98 values that are not strings", raw: extra(`{"a":1.0,"b":null,"c":true,"d":{"e":[1E2]}}`) + end, want: only("a", "1.0", "b", "null", "c", "true", "d", `{"e":[1E2]}`)},
		{name: "row 99 two JSON parts", raw: extra(`{"a":1,"b":1}`) + extra(`{"a":2}`) + end, want: only("a", "2").noted("several JSON parts: the last one counts")},
		{name: "row 100 JSON and fields", raw: field("a", "1") + extra(`{"b":"2"}`) + field("c", "3") + end, want: only("b", `"2"`, "c", `"3"`).noted(both)},
		{
			name: "row 101 names that Yagi writes itself", want: only("a", `"1"`, "dump_checksums", `"x"`, "legacy_processing", `"x"`),
			raw: field("a", "1") + field("metadata", "x") + field("submitted_timestamp", "x") + field("version", "x") + field("dump_checksums", "x") + field("legacy_processing", "x") + end,
		},
		{name: "row 103 control characters", raw: field("a", "\x00\x1b[2J\r\n\x7f\u2028") + end, want: only("a", `"\u0000\u001b[2J\r\n`+"\x7f"+`\u2028"`)},
		{
			name: "row 104 what identifies a person", want: firefox().noted(
				"Removed Email from raw crash.", "Removed TelemetryClientId from raw crash.",
				"Removed TelemetryServerURL from raw crash.", "Removed TelemetrySessionId from raw crash."),
			raw: product() + field("Email", "x") + field("TelemetryClientId", "x") + field("TelemetryServerURL", "x") + field("TelemetrySessionId", "x") + end,
		},
	}
	for i := range rows {
		rows[i].raw = whole(rows[i].raw)
	}
	m.accept(t, rows)
}

// The log has one event a report, and nothing in it that a client sent; nor have
// the metrics, whose series a client could otherwise multiply.
func TestMatrixLogAndMetricsHoldNothingOfTheReport(t *testing.T) {
	t.Parallel()
	const secret, broken = "canary-annotation", "\x1b[2J\n{\"level\":\"canary\"}"
	i := startIntake(t, startQueue(t).url, "INTAKE_SUBMITTER_TOKEN=canary-token", "INTAKE_BODY_STALL=100ms")
	body := field("URL", secret) + field("ProductName", secret+broken) + field("Version", broken) + dump(secret, secret) + end
	id := crashID(t, i.post(t, body, "Authorization: Bearer canary-token", "X-Forwarded-For: 203.0.113.7"))
	i.post(t, field(secret, secret)+dump("raw_crash", secret)+end)
	i.post(t, field("ProductName", strings.Repeat("canary", 2000))+end)
	i.post(t, report(), "Content-Encoding: "+secret)
	stalled := i.dial(t)
	stalled.send(request(1000) + field(secret, secret))
	stalled.answer()
	cut := i.dial(t)
	cut.send(request(1000) + field(secret, secret))
	cut.cut()
	cut.answer()
	trailer := i.dial(t)
	trailer.send(chunked("5\r\nhello\r\n0\r\n" + secret + "\r\n\r\n"))
	trailer.answer()
	broke := i.dial(t)
	broke.send(whole(report(), secret+" : x"))
	broke.answer()
	_, page := get(t, "http://"+i.admin+"/metrics")
	i.stop()
	if err := i.ended(t, 20*time.Second); err != nil {
		t.Fatal(err)
	}
	log := i.log.String()
	t.Run("row 103 the log", func(t *testing.T) {
		if n := strings.Count(log, `"message":"report"`); n != 7 {
			t.Errorf("%d events for 7 reports:\n%s", n, log)
		}
		if !strings.Contains(log, string(id)) {
			t.Errorf("no event names %s", id)
		}
		for _, leak := range []string{"canary", "\x1b", `\u001b`, "203.0.113.7", "127.0.0.1:" + port(stalled)} {
			if strings.Contains(log, leak) {
				t.Errorf("the log has %q:\n%s", leak, log)
			}
		}
	})
	t.Run("row 106 the metrics", func(t *testing.T) {
		if !strings.Contains(page, `intake_reports_total{reason="",result="queued"} 2`) {
			t.Errorf("the metrics do not count the reports:\n%s", page)
		}
		if strings.Contains(page, "canary") || strings.Contains(page, secret) {
			t.Errorf("the metrics hold what a client sent:\n%s", page)
		}
	})
}

func port(c *conn) string {
	_, p, _ := strings.Cut(c.LocalAddr().String(), ":")
	return p
}
