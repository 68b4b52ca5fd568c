package intake_test

import (
	"strings"
	"testing"
)

// crashpadBoundary is one of Crashpad's (http_multipart_builder.cc).
const crashpadBoundary = "---MultipartBoundary-hX2kF0a9QwLr7TzN4yVbS3cD8eGmJ5pU---"

// crashpad completes a client that is Crashpad: it sends fields without a
// Content-Type and then files, both sorted by name, always chunked, and takes
// the whole reply for the report's id. Attachments have one name for field and
// file.
func crashpad(c client, fields pairs, attachments ...string) client {
	c.dumps = map[string]string{"upload_file_minidump": dumpLike(crashpadBoundary, 315_000)}
	c.body = fields.parts(crashpadBoundary, quoted)
	minidump := attachment(crashpadBoundary, "upload_file_minidump", "8b1fa2ae-4b7c-41bb-a8a4-4cb48dbd3c0f.dmp", c.dumps["upload_file_minidump"])
	for _, name := range attachments {
		if minidump != "" && name > "upload_file_minidump" {
			c.body += minidump
			minidump = ""
		}
		data := "\x1f\x8b\r\n--" + name
		c.dumps[strings.NewReplacer(".", "", "-", "").Replace(name)] = data
		c.body += attachment(crashpadBoundary, name, name, data)
	}
	c.body += minidump + ending(crashpadBoundary)
	c.annotations, c.id = fields.annotations(), "CrashID=bp-ID\n"
	return c
}

// chromiumFields are like those of Chromium, which sends 28 to 45, depending on
// the process. Quotes, line ends and percent signs in names arrive %-escaped;
// values are raw.
var chromiumFields = pairs{
	{"Odd%22name%25x", "a \"value\"; name=\"x\"\r\n--no boundary"},
	{"guid", "5f3c2b1a-0d1e-4f2a-8b3c-9d4e5f6a7b8c"},
	{"list_annotations", "first\nsecond"},
	{"lsb-release", "Debian GNU/Linux 12 (bookworm)"},
	{"num-switches", "3"},
	{"plat", "Linux"},
	{"prod", "Chrome_Linux"},
	{"ptype", "browser"},
	{"switch-1", "--user-data-dir=/home/jörg/☃"},
	{"variations", ""},
	{"ver", "156.0.8078.79"},
}

var electronFields = pairs{
	{"_companyName", "Example"},
	{"_productName", "Example App"},
	{"_version", "1.2.3"},
	{"guid", "5f3c2b1a-0d1e-4f2a-8b3c-9d4e5f6a7b8c"},
	{"largest", strings.Repeat("v", 20_320)}, // the most that crashReporter lets through
	{"osarch", "x86_64"},
	{"platform", "linux"},
	{"process_type", "renderer"},
	{"prod", "Electron"},
	{"ver", "38.1.0"},
}

func TestCrashpadClients(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	i := startIntake(t, q.url, "INTAKE_SUBMIT_PATHS=/submit,/api/*/minidump/")
	const identified = "?product=Chrome_Linux&version=156.0.8078.79&guid=5f3c2b1a-0d1e-4f2a-8b3c-9d4e5f6a7b8c"
	const kind = "\nContent-Type: multipart/form-data; boundary=" + crashpadBoundary
	const libcurl = " HTTP/1.1\nHost: crash.example.org\nUser-Agent: Crashpad/0.8.0 libcurl/7.88.1 OpenSSL/3.0.19 zlib/1.2.13 libpsl/0.21.2 (+libidn2/2.3.3) Linux/6.1.0 (x86_64)\nAccept: */*\nAccept-Encoding: deflate, gzip, br, zstd"
	const gzip = "\nContent-Encoding: gzip"
	const chunked = "\nTransfer-Encoding: chunked"
	for name, c := range map[string]client{
		"Chromium on Linux (libcurl)": crashpad(client{
			head:  "POST /submit" + identified + libcurl + gzip + kind + chunked,
			chunk: 65_524, keeps: wholeBody(200, 200),
		}, chromiumFields, "browser_log.txt", "window-state.bin"),
		"with --no-upload-gzip": crashpad(client{
			head:  "POST /submit" + identified + libcurl + kind + chunked,
			chunk: 65_524, keeps: wholeBody(200, 200),
		}, chromiumFields, "att.bin", "browser_log.txt", "zzz"),
		"with --no-identify-client-via-url": crashpad(client{
			head:  "POST /submit" + libcurl + gzip + kind + chunked,
			chunk: 65_524, keeps: wholeBody(200, 200),
		}, chromiumFields),
		"Electron": crashpad(client{
			head:  "POST /submit?product=Electron&version=38.1.0&guid=5f3c2b1a-0d1e-4f2a-8b3c-9d4e5f6a7b8c" + libcurl + gzip + kind + chunked,
			chunk: 65_524, keeps: wholeBody(200, 200),
		}, electronFields),
		"Windows (WinHTTP)": crashpad(client{
			head:  "POST /submit" + identified + " HTTP/1.1\nConnection: Keep-Alive" + gzip + kind + chunked + "\nUser-Agent: Crashpad/0.8.0 WinHTTP/10.0.19041.3636 Windows_NT/10.0.19041.3636 (x64)\nHost: crash.example.org",
			chunk: 32_768, keeps: wholeBody(200, 203),
		}, chromiumFields, "browser_log.txt"),
		"macOS (NSURLSession)": crashpad(client{
			head:  "POST /submit" + identified + " HTTP/1.1\nHost: crash.example.org" + kind + "\nAccept: */*" + gzip + "\nUser-Agent: Crashpad/0.8.0 CFNetwork/1498 Darwin/23.6.0 (x86_64)\nAccept-Language: en-GB,en;q=0.9\nAccept-Encoding: gzip, deflate\nConnection: keep-alive\nTransfer-Encoding: Chunked",
			chunk: 16_384, keeps: wholeBody(200, 203),
		}, chromiumFields, "browser_log.txt"),
		// Its URL comes from the DSN and ends in /api/<project>/minidump/.
		"sentry-native": crashpad(client{
			head:  "POST /api/42/minidump/?sentry_client=sentry.native%2F0.9.1&sentry_key=0123456789abcdef0123456789abcdef&guid=5f3c2b1a-0d1e-4f2a-8b3c-9d4e5f6a7b8c" + libcurl + gzip + kind + chunked,
			chunk: 65_524, keeps: wholeBody(200, 200),
		}, pairs{{"guid", "5f3c2b1a-0d1e-4f2a-8b3c-9d4e5f6a7b8c"}}, "__sentry-breadcrumb1", "__sentry-breadcrumb2", "__sentry-event"),
		// Its own uploader sends the file that Crashpad has left, boundary and all.
		"Chrome on Android": crashpad(client{
			head:  "POST /submit HTTP/1.1\nConnection: Keep-Alive" + gzip + kind + "\nUser-Agent: Dalvik/2.1.0 (Linux; U; Android 14; Pixel 7 Build/UQ1A.240205.002)\nHost: crash.example.org\nAccept-Encoding: gzip\nContent-Length: N",
			keeps: wholeBody(200, 202),
		}, chromiumFields),
	} {
		t.Run(name, func(t *testing.T) { c.run(t, q, i) })
	}
}
