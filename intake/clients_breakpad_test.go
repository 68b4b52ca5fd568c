package intake_test

import (
	"strings"
	"testing"

	"github.com/yagi-crash/yagi/pkg/crash"
)

const (
	// curlBoundary is one of libcurl's, before its version 8.
	curlBoundary = "------------------------ea41ec3600b0b438"
	// breakpadBoundary is one of Breakpad's own, on Windows and macOS.
	breakpadBoundary = "---------------------------6B8B4567327B23C6"
)

func TestBreakpadClients(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	i := startIntake(t, q.url)
	for _, clients := range []map[string]client{breakpadOnLinux(), breakpadOnWindows(), breakpadOnMacOS()} {
		for name, c := range clients {
			t.Run(name, func(t *testing.T) { c.run(t, q, i) })
		}
	}
}

func breakpadOnLinux() map[string]client {
	const libcurl = "\nAccept: */*\nContent-Length: N\nContent-Type: multipart/form-data; boundary=" + curlBoundary
	linux := pairs{{`a;b\c`, "a value; name=\"x\""}, {"prod", "Example"}, {"ver", "1.2.3"}}
	google := pairs{
		{"comments_", "line one\nline two"},
		{"ctime", "7"},
		{"email", "someone@example.org"},
		{"guid", "5f3c2b1a"},
		{"prod", "Example"},
		{"ptime", "3"},
		{"ver", "1.2.3"},
	}
	ofCurl := dumpLike(curlBoundary, 60_000)
	return map[string]client{
		"Linux, HTTPUpload": {
			head: "POST /submit HTTP/1.1\nHost: crash.example.org\nUser-Agent: Breakpad/1.0 (Linux)" + libcurl,
			body: linux.parts(curlBoundary, quoted) +
				attachment(curlBoundary, crash.MinidumpName, `5f3c 2b1a;%22.dmp`, ofCurl) + ending(curlBoundary),
			annotations: linux.annotations(), dumps: map[string]string{crash.MinidumpName: ofCurl},
			keeps: wholeBody(200, 399), id: "CrashID=bp-ID\n",
		},
		"Linux, google_crashdump_uploader: the file first, no User-Agent": {
			head: "POST /submit HTTP/1.1\nHost: crash.example.org" + libcurl,
			body: attachment(curlBoundary, crash.MinidumpName, "5f3c2b1a.dmp", ofCurl) +
				google.parts(curlBoundary, quoted) + ending(curlBoundary),
			annotations: google.annotations(), dumps: map[string]string{crash.MinidumpName: ofCurl},
			keeps: wholeBody(100, 599), id: "CrashID=bp-ID\n", // it does not look at the status
		},
	}
}

func breakpadOnWindows() map[string]client {
	const winINet = "POST /submit HTTP/1.1\nContent-Type: multipart/form-data; boundary=" + breakpadBoundary +
		"\nUser-Agent: Breakpad/1.0 (Windows)\nHost: crash.example.org\nContent-Length: N\nConnection: Keep-Alive\nCache-Control: no-cache"
	const windowsPath = `C:\Users\Jörg\AppData\Local\Temp\new\0a1b2c3d-\x.dmp`
	windows := pairs{{"guid", ""}, {"prod", "Example"}, {"ver", "1.2.3"}}
	ofBreakpad, second := dumpLike(breakpadBoundary, 60_000), dumpLike(breakpadBoundary, 1000)
	return map[string]client{
		"Windows: no line end behind the file": {
			head: winINet,
			body: windows.parts(breakpadBoundary, quoted) +
				unended(attachment(breakpadBoundary, crash.MinidumpName, windowsPath, ofBreakpad)) + ending(breakpadBoundary),
			annotations: windows.annotations(), dumps: map[string]string{crash.MinidumpName: ofBreakpad},
			notes: []string{"no line end before the final boundary"},
			keeps: wholeBody(200, 200), id: "CrashID=bp-ID\n",
		},
		"Windows, two files": {
			head: winINet,
			body: windows.parts(breakpadBoundary, quoted) +
				unended(attachment(breakpadBoundary, "app-log", `C:\temp\app.log`, second)) +
				unended(attachment(breakpadBoundary, crash.MinidumpName, windowsPath, ofBreakpad)) + ending(breakpadBoundary),
			annotations: windows.annotations(), dumps: map[string]string{"applog": second, crash.MinidumpName: ofBreakpad},
			notes: []string{"no line end before a boundary", "no line end before the final boundary"},
			keeps: wholeBody(200, 200), id: "CrashID=bp-ID\n",
		},
		"Windows, before November 2022": {
			head: winINet,
			body: windows.parts(breakpadBoundary, quoted) +
				attachment(breakpadBoundary, crash.MinidumpName, windowsPath, ofBreakpad) + ending(breakpadBoundary),
			annotations: windows.annotations(), dumps: map[string]string{crash.MinidumpName: ofBreakpad},
			keeps: wholeBody(200, 200), id: "CrashID=bp-ID\n",
		},
	}
}

func breakpadOnMacOS() map[string]client {
	macOS := pairs{
		{"Crash%20Reporter", "Größe"},
		{"CrashTime", "1767225600"},
		{"ProductName", "Example"},
		{"StartupTime", "1767225000"},
		{"Version", "1.2.3"},
	}
	ofBreakpad, second := dumpLike(breakpadBoundary, 60_000), dumpLike(breakpadBoundary, 1000)
	return map[string]client{
		"macOS: a dump and a log, no line end between them": {
			head: "POST /submit?product=Example&version=1.2.3&guid=5f3c2b1a HTTP/1.1\nHost: crash.example.org\nContent-type: multipart/form-data; boundary=" + breakpadBoundary +
				"\nConnection: keep-alive\nAccept: */*\nUser-Agent: crash_report_sender/1.0 CFNetwork/1498 Darwin/23.6.0\nContent-Length: N\nAccept-Language: en-GB,en;q=0.9\nAccept-Encoding: gzip, deflate",
			body: append(macOS, [2]string{"Email", "someone@example.org"}).parts(breakpadBoundary, quoted) +
				unended(attachment(breakpadBoundary, crash.MinidumpName, "minidump.dmp", ofBreakpad)) +
				attachment(breakpadBoundary, "log", "minidump.dmp", "BZh91AY&SY\x00"+second) + ending(breakpadBoundary),
			annotations: macOS.annotations(), dumps: map[string]string{crash.MinidumpName: ofBreakpad, "log": "BZh91AY&SY\x00" + second},
			notes: []string{"no line end before a boundary", "Removed Email from raw crash."},
			keeps: func(r reply) string { return strings.TrimSpace(r.body) }, // whatever the status
			id:    "CrashID=bp-ID",
		},
	}
}
