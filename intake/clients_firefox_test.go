package intake_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"strings"
	"testing"

	"github.com/yagi-crash/yagi/pkg/crash"
)

const (
	// geckoBoundary is one of Firefox's for a FormData: four numbers in hex, which
	// lack their leading zeros.
	geckoBoundary = "----geckoformboundary3fde30f7bee26109c1a98075f6dbb51"
	// fenixBoundary is one of MozillaSocorroService's, and of the old client's
	// on Windows and macOS.
	fenixBoundary = "---------------------------2A3B4C5D0F1E2D3C"
	// submitterBoundary is that of Socorro's stage submitter, always.
	submitterBoundary = "01659896d5dc42cabd7f3d8a3dcdd3bb"
)

// firefoxAnnotations are 54 strings of some 11 kB in JSON, one of them JSON
// itself.
func firefoxAnnotations() map[string]string {
	m := map[string]string{
		"ProductName": "Firefox", "Version": "153.7.0", "BuildID": "20260801120000", "ProductID": "{ec8030f7-c20a-464f-9b0e-13a3a9e97384}",
		"CrashTime": "1767225600", "CrashEventID": "0c9f2d1e-1f2e-4d3c-8b4a-5f6e7d8c9b0a", "SubmittedFrom": "Client", "Throttleable": "1",
		"MinidumpSha256Hash": strings.Repeat("0f", 32), "Vendor": "Mozilla", "URL": "https://example.org/?a=1&b=<2>", "Notes": "Größe \u2028 ☃ \x7f \"\\\n",
		"TelemetryEnvironment": `{"build":{"applicationId":"{ec8030f7}"},"settings":{"locale":"de","addons":"` + strings.Repeat(`x\u00fc`, 1300) + `"}}`,
	}
	for i := len(m); i < 54; i++ {
		m[fmt.Sprintf("Annotation%02d", i)] = strings.Repeat("v", i)
	}
	return m
}

// inJSON is the text of a client's JSON annotations.
func inJSON(t *testing.T, annotations map[string]string) string {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(annotations); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// extra is the part of JSON annotations, which has a file name.
func extraPart(boundary, filename, json string) string {
	return clientPart(boundary, `Content-Disposition: form-data; name="extra"; filename="`+filename+`"`+"\r\nContent-Type: application/json", json)
}

// typed is a file of another type than most.
func typed(boundary, name, filename, kind, data string) string {
	return clientPart(boundary, `Content-Disposition: form-data; name="`+name+`"; filename="`+filename+`"`+"\r\nContent-Type: "+kind, data)
}

var submittedID = regexp.MustCompile(`^bp-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// crashSubmit is what Firefox's CrashSubmit does with a reply: status 200, lines
// that end in LF and hold exactly one "=", and an id of its own shape.
func crashSubmit(r reply) string {
	for line := range strings.SplitSeq(wholeBody(200, 200)(r), "\n") {
		if pair := strings.Split(line, "="); len(pair) == 2 && pair[0] == "CrashID" && submittedID.MatchString(pair[1]) {
			return pair[1]
		}
	}
	return ""
}

func TestFirefoxClients(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	i := startIntake(t, q.url)
	for _, clients := range []map[string]client{geckoClients(t), curlClients(t), olderFirefoxes(t)} {
		for name, c := range clients {
			t.Run(name, func(t *testing.T) { c.run(t, q, i) })
		}
	}
}

// firefoxLine is how Firefox and its crash reporter ask; reporterAgent is the
// reporter's name.
const (
	firefoxLine   = "POST /submit?id={ec8030f7-c20a-464f-9b0e-13a3a9e97384}&version=153.7.0&buildid=20260801120000 HTTP/1.1\nHost: crash.example.org"
	reporterAgent = "\nUser-Agent: crashreporter/153.7.0 (linux x86_64)"
	curlHead      = "\nAccept: */*\nContent-Length: N\nContent-Type: multipart/form-data; boundary=" + curlBoundary
)

// memoryReport is a file that is no dump.
func memoryReport() string { return "\x1f\x8b\x08\x00" + noise(3000) }

// geckoClients post by Firefox's own network code.
func geckoClients(t *testing.T) map[string]client {
	t.Helper()
	sent := firefoxAnnotations()
	personal := map[string]string{"Email": "someone@example.org", "TelemetryClientId": "c", "TelemetryServerURL": "https://t.example.org", "TelemetrySessionId": "s"}
	removed := []string{
		"Removed Email from raw crash.", "Removed TelemetryClientId from raw crash.",
		"Removed TelemetryServerURL from raw crash.", "Removed TelemetrySessionId from raw crash.",
	}
	withPersonal := maps.Clone(sent)
	maps.Copy(withPersonal, personal)
	const agent = "\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0"
	const gecko = "\nAccept: */*\nAccept-Language: en-US,en;q=0.9\nAccept-Encoding: gzip, deflate, br, zstd\nContent-Type: multipart/form-data; boundary=" + geckoBoundary + "\nContent-Length: N\nConnection: keep-alive"
	dump, report := dumpLike(geckoBoundary, 200_000), memoryReport()
	return map[string]client{
		"crashreporter, Gecko backend": {
			head: firefoxLine + reporterAgent + gecko + "\nPriority: u=4",
			body: extraPart(geckoBoundary, "extra.json", inJSON(t, withPersonal)) +
				typed(geckoBoundary, crash.MinidumpName, "0c9f2d1e.dmp", "application/vnd.tcpdump.pcap", dump) + ending(geckoBoundary),
			annotations: sent, dumps: map[string]string{crash.MinidumpName: dump},
			notes: append([]string{"unknown content type: upload_file_minidump application/vnd.tcpdump.pcap"}, removed...),
			keeps: crashIDLine(200, 299), id: "bp-ID",
		},
		"CrashSubmit": {
			head: firefoxLine + agent + gecko,
			body: extraPart(geckoBoundary, "blob", inJSON(t, sent)) + attachment(geckoBoundary, crash.MinidumpName, "0c9f2d1e.dmp", dump) +
				typed(geckoBoundary, "memory_report", "0c9f2d1e.memory.json.gz", "application/gzip", report) +
				attachment(geckoBoundary, crash.MinidumpName+"_browser", "0c9f2d1e-browser.dmp", dump[:5000]) + ending(geckoBoundary),
			annotations: sent, dumps: map[string]string{crash.MinidumpName: dump, crash.MinidumpName + "_browser": dump[:5000], "memory_report": report},
			notes: []string{"unknown content type: memory_report application/gzip"},
			keeps: crashSubmit, id: "bp-ID",
		},
	}
}

// curlClients post by libcurl or by the program curl, which leaves out braces.
func curlClients(t *testing.T) map[string]client {
	t.Helper()
	sent := firefoxAnnotations()
	text := inJSON(t, sent)
	globbed := strings.NewReplacer("{", "", "}", "").Replace(firefoxLine)
	dump, large, report := dumpLike(curlBoundary, 60_000), dumpLike(curlBoundary, 1_140_000), memoryReport()
	return map[string]client{
		"crashreporter, curl backend: waits for leave to send": {
			head: globbed + reporterAgent + curlHead + "\nExpect: 100-continue",
			body: extraPart(curlBoundary, "extra.json", text) + attachment(curlBoundary, crash.MinidumpName, "0c9f2d1e.dmp", large) +
				attachment(curlBoundary, "memory_report", "0c9f2d1e.memory.json.gz", report) + ending(curlBoundary),
			annotations: sent, dumps: map[string]string{crash.MinidumpName: large, "memory_report": report},
			keeps: crashIDLine(100, 399), id: "bp-ID",
		},
		"crashreporter, libcurl backend": {
			head: firefoxLine + reporterAgent + curlHead,
			body: extraPart(curlBoundary, "extra.json", text) +
				attachment(curlBoundary, crash.MinidumpName, "0c9f2d1e.dmp", dump) + ending(curlBoundary),
			annotations: sent, dumps: map[string]string{crash.MinidumpName: dump},
			keeps: crashIDLine(200, 200), id: "bp-ID",
		},
	}
}

// olderFirefoxes are no longer made, and still post.
func olderFirefoxes(t *testing.T) map[string]client {
	t.Helper()
	sent := firefoxAnnotations()
	old := pairs{{"BuildID", "20190801120000"}, {"ProductName", "Firefox"}, {"Theme", `classic/1.0;"x"`}, {"Version", "68.0"}}
	dump := dumpLike(curlBoundary, 60_000)
	return map[string]client{
		"the client before 2023": {
			head: firefoxLine + "\nUser-Agent: Breakpad/1.0 (Linux)" + curlHead,
			body: extraPart(curlBoundary, "extra.json", inJSON(t, sent)) +
				attachment(curlBoundary, crash.MinidumpName, "0c9f2d1e.dmp", dump) + ending(curlBoundary),
			annotations: sent, dumps: map[string]string{crash.MinidumpName: dump},
			keeps: crashIDLine(200, 399), id: "bp-ID",
		},
		"the client before Firefox 73: a part an annotation": {
			head: firefoxLine + "\nUser-Agent: Breakpad/1.0 (Linux)" + curlHead,
			body: old.parts(curlBoundary, quoted) +
				attachment(curlBoundary, crash.MinidumpName, "0c9f2d1e.dmp", dump) + ending(curlBoundary),
			annotations: old.annotations(), dumps: map[string]string{crash.MinidumpName: dump},
			keeps: crashIDLine(200, 399), id: "bp-ID",
		},
	}
}

// Names without quotes, whatever is in them; a dump amid the fields or none; and
// a last value that the client itself ends in CRLF.
func TestFenix(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	i := startIntake(t, q.url)
	const head = "POST /submit?id=%7Beeb82917-e434-4870-8148-5c03d4caa81b%7D&version=130.0&android_component_version=130.0 HTTP/1.1\nContent-Type: multipart/form-data; boundary=" + fenixBoundary +
		"\nContent-Encoding: gzip\nUser-Agent: Dalvik/2.1.0 (Linux; U; Android 14; Pixel 7 Build/UQ1A.240205.002)\nHost: crash.example.org\nConnection: Keep-Alive\nAccept-Encoding: gzip\nContent-Length: N"
	const unquoted = "Content-Disposition: form-data; name=%s"
	before := pairs{
		{"ProductName", "Fenix"},
		{"ProductID", "{eeb82917-e434-4870-8148-5c03d4caa81b}"},
		{"Version", "130.0"},
		{"Breadcrumbs", `[{"timestamp":"2026-01-01T00:00:00","message":"a=b; c"}]`},
		{"a b/c[d]", "1"},
		{"Größe ☃", "2"},
		{"JavaStackTrace", "java.lang.RuntimeException: x\n\tat a.b.C.d(C.kt:1)\n"},
	}
	behind := pairs{{"CrashType", "fatal native crash"}, {"Android_Version", "34 (REL)"}, {"Android_CPU_ABI", "arm64-v8a\r\n"}}
	all := append(append(pairs{}, before...), behind...).annotations()
	tail := behind.parts(fenixBoundary, unquoted) + ending(fenixBoundary)
	dump := dumpLike(fenixBoundary, 100_000)
	for name, c := range map[string]client{
		"a native crash": {
			body:  before.parts(fenixBoundary, unquoted) + attachment(fenixBoundary, crash.MinidumpName, "0c9f2d1e.dmp", dump) + tail,
			dumps: map[string]string{crash.MinidumpName: dump},
		},
		"a Java crash": {body: before.parts(fenixBoundary, unquoted) + tail},
	} {
		c.head, c.annotations, c.keeps, c.id = head, all, crashIDLine(100, 399), "bp-ID"
		t.Run(name, func(t *testing.T) { c.run(t, q, i) })
	}
}

// Socorro's stage submitter sends a report on as another collector stored it,
// under its id, and does not look at the reply.
func TestStageSubmitter(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	i := startIntake(t, q.url, "INTAKE_SUBMITTER_TOKEN=s3cret")
	const id = "de1bb258-cbbf-4589-a673-34f801160918"
	const head = "POST /submit HTTP/1.1\nHost: crash.example.org\nUser-Agent: Breakpad/1.0 (Linux)\nAccept-Encoding: gzip, deflate\nAccept: */*\nConnection: keep-alive" +
		"\nContent-Type: multipart/form-data; boundary=" + submitterBoundary + "\nContent-Length: N\nAuthorization: Bearer s3cret"
	sent := pairs{{"=?utf-8?b?R3LDtsOfZQ==?=", "Größe"}, {"ProductName", "Firefox"}, {"Version", "153.7.0"}} // name: RFC 2047 for Größe
	dump := dumpLike(submitterBoundary, 50_000)
	files := attachment(submitterBoundary, "memory_report", "file.dump", noise(100)) + attachment(submitterBoundary, crash.MinidumpName, "file.dump", dump)
	for name, c := range map[string]client{
		"fields": {
			head: head + "\nContent-Encoding: gzip",
			body: append(sent, [2]string{"uuid", id}).parts(submitterBoundary, quoted+"\r\nContent-Type: text/plain; charset=utf-8") + files + ending(submitterBoundary),
		},
		"JSON": {
			head: head,
			body: clientPart(submitterBoundary, "Content-Disposition: form-data; name=\"extra\"\r\nContent-Type: application/json",
				`{"=?utf-8?b?R3LDtsOfZQ==?=":"Gr\u00f6\u00dfe","ProductName":"Firefox","Version":"153.7.0","uuid":"`+id+`"}`) + files + ending(submitterBoundary),
		},
	} {
		c.annotations, c.dumps = sent.annotations(), map[string]string{crash.MinidumpName: dump, "memory_report": noise(100)}
		c.keeps, c.id = wholeBody(100, 599), "CrashID=bp-"+id+"\n"
		t.Run(name, func(t *testing.T) { c.run(t, q, i) })
	}
}
