package breakpad

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/yagi-crash/yagi/intake/internal/spool"
)

// cpuOf returns the CPU time that parsing a received body takes: the least of some
// tries, whatever else the machine does.
func cpuOf(t *testing.T, contentType, encoding, body string) time.Duration {
	t.Helper()
	limits := DefaultLimits()
	limits.Kept, limits.Inflated, limits.Wire = 1<<30, 1<<30, 1<<30
	limits.Ratio = 1 << 20
	store, err := spool.Open(spool.Config{Memory: int64(len(body))*2 + 1<<20})
	if err != nil {
		t.Fatal(err)
	}
	r := request(contentType, encoding, http.NoBody, int64(len(body)))
	post, err := Open(r, limits)
	if err != nil {
		t.Fatal(err)
	}
	into, err := store.Admit(t.Context(), post.Size, func() {})
	if err != nil {
		t.Fatal(err)
	}
	defer into.Release()
	if err := post.Receive(strings.NewReader(body), into); err != nil {
		t.Fatal(err)
	}
	least, window := time.Hour, make([]byte, WindowSize)
	for range 3 {
		before := cpuTime(t)
		_, _ = post.Parse(window, NewDecoders(1)) // most are refused: what that costs matters
		least = min(least, cpuTime(t)-before)
	}
	return least
}

func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// A body is read in time that goes by its size, whatever is in it and whatever its
// boundary is.
func TestHostileBodiesCostLittleMore(t *testing.T) {
	const size, most = 4 << 20 / smaller, 16
	plain := func(boundary, unit string) (contentType, body string) {
		head := "--" + boundary + "\r\nContent-Disposition: form-data; name=\"a\"; filename=\"f\"\r\nContent-Type: application/octet-stream\r\n\r\nx"
		return `multipart/form-data; boundary="` + boundary + `"`, head + strings.Repeat(unit, size/len(unit)) + "\r\n--" + boundary + "--\r\n"
	}
	contentType, ordinary := plain("B", noise(1<<16))
	base := cpuOf(t, contentType, "", ordinary)
	t.Logf("ordinary: %s for %d bytes", base, size)
	dashes, long := strings.Repeat("-", 198), strings.Repeat("b", 200)
	for name, c := range map[string]struct{ boundary, unit string }{
		"dashes, the shortest boundary":     {"-", "-"},
		"dashes, a boundary of many":        {dashes, "-"},
		"dashes, almost the boundary":       {dashes, strings.Repeat("-", 199) + "x"},
		"the boundary again and again":      {"B", "--B"},
		"the boundary in lines of its own":  {"B", "\r\n--Bx"},
		"final ones that are none":          {"B", "\r\n--B--x"},
		"padding without end":               {"B", "--B" + strings.Repeat(" ", maxPadding) + "x"},
		"final padding without end":         {"B", "--B--" + strings.Repeat("\t", maxPadding+9)},
		"a boundary that repeats itself":    {"a--a--a--a", "--a--a--a"},
		"a long one, all but its last byte": {long, "\r\n--" + long[1:] + "x"},
		"a long one that overlaps":          {long, "--" + long + "x"},
		"first bytes of the boundary":       {"BBBB", "--BBB"},
		"CRs":                               {"B", "\r"},
		"LFs":                               {"B", "\n"},
		"CRLFs":                             {"B", "\r\n"},
		"spaces":                            {"B", " "},
		"glued parts that are none":         {"BBBBBBBBBBBBBBBB", "--BBBBBBBBBBBBBBBB\r\nContent-Disposition: form-data; nam"},
	} {
		for where, prefix := range map[string]string{"in a file": "", "before the first part": "x"} {
			contentType, body := plain(c.boundary, c.unit)
			if prefix != "" {
				body = strings.Repeat(c.unit, size/len(c.unit)) + body[:200]
			}
			if took := cpuOf(t, contentType, "", body); took > most*instrumented*base {
				t.Errorf("%s, %s: %s, an ordinary body takes %s", name, where, took, base)
			} else {
				t.Logf("%s, %s: %.1f", name, where, float64(took)/float64(base))
			}
		}
	}
}

// What a request costs beside its dumps is bounded: the heads of parts, and
// annotations.
func TestHostilePartsCostLittle(t *testing.T) {
	ordinary := file("a", "application/octet-stream", noise(32<<20/smaller)) + end
	base := cpuOf(t, formData, "", ordinary)
	t.Logf("ordinary: %s for %d bytes", base, len(ordinary))
	head := func(params string) string {
		return "--B\r\nContent-Disposition: form-data; name=a" + params + "\r\n\r\n1\r\n"
	}
	many := func(n int, part string) string { return strings.Repeat(part, n/smaller) + end }
	big := func(unit string, n int) string { return strings.Repeat(unit, n/len(unit)) }
	for name, body := range map[string]string{
		"parameters":          many(2000, head(big(";a=", 16000))),
		"named parameters":    many(2000, head(big(";name=b", 16000))),
		"quotes":              many(2000, head(`;name="`+big(`\"`, 16000)+`"`)),
		"semicolons":          many(2000, head(big(`;`, 16000))),
		"RFC 8187":            many(2000, head(big(`;name*=utf-8''%20`, 16000))),
		"one name, escaped":   many(2000, head(`;filename*=utf-8''`+big(`%20`, 16000))),
		"charsets":            many(2000, head("\r\nContent-Type: text/plain"+big(";charset=l1", 16000))),
		"white space":         many(2000, head(";"+big(" ", 16000)+"=")),
		"continued lines":     many(2000, head(big("\r\n "+big("x", 500), 15000))),
		"empty parts":         many(2000, head("")),
		"header lines":        many(2000, head(big("\r\na:", 64))),
		"JSON parts":          many(24, extra(`{"a":"`+big("b", 4<<20-10)+`"}`)),
		"JSON of numbers":     many(24, extra(`{"a":[`+big("1,", 4<<20-20)+`1]}`)),
		"JSON of arrays":      many(24, extra(`{"a":[`+big("[],", 4<<20-20)+`1]}`)),
		"JSON of names":       many(24, extra(`{`+big(`"a":1,`, 12_000-20)+`"b":1}`)),
		"JSON of escapes":     many(24, extra(`{"a":"`+big(`\u0041`, 4<<20-20)+`"}`)),
		"JSON of spaces":      many(24, extra(`{"a":`+big(` `, 4<<20-20)+`1}`)),
		"JSON that is deep":   many(24, extra(`{"a":`+big(`[`, 2<<20)+big("]", 2<<20)+`}`)),
		"JSON, one number":    many(24, extra(`{"a":`+big(`1`, 4<<20-20)+`}`)),
		"JSON within bounds":  many(smaller, extra(`{"a":[`+big(strings.Repeat("[", 60)+strings.Repeat("]", 60)+",", 4<<20-200)+`1]}`)),
		"values in Latin-1":   many(90, lines("--B", "Content-Disposition: form-data; name=a", "Content-Type: text/plain; charset=latin1", "", big("\xe9", 1<<20), "")),
		"values to be quoted": many(90, field("a", big("\x01", 1<<20))),
		"values not in UTF-8": many(90, field("a", big("a", 1<<20-1)+"\xff")),
	} {
		took := cpuOf(t, formData, "", body)
		if took > 16*instrumented*base {
			t.Errorf("%s: %s, an ordinary body takes %s", name, took, base)
		}
		t.Logf("%s: %.1f", name, float64(took)/float64(base))
	}
}

// rleBomb is a zstd body of one frame that makes size zeros of few bytes: blocks of
// 128 KiB that repeat a byte (RFC 8878 §3.1.1.2).
func rleBomb(before string, size int) string {
	var b bytes.Buffer
	b.WriteString("\x28\xb5\x2f\xfd\x00\x68") // no sizes, a window of 8 MiB
	block := func(kind, n int, data string) {
		word := n<<3 | kind<<1
		b.Write([]byte{byte(word), byte(word >> 8), byte(word >> 16)})
		b.WriteString(data)
	}
	block(0, len(before), before)
	for range size >> 17 {
		block(1, 1<<17, "\x00")
	}
	b.Write([]byte{1, 0, 0})
	return b.String()
}

// A compressed body grows no further than a multiple of what was sent, beside the
// first 64 KiB.
func TestInflationIsBoundedByTheWire(t *testing.T) {
	head := field("ProductName", "Firefox") + strings.TrimSuffix(file("upload_file_minidump", "application/octet-stream", ""), "\r\n")
	zeros := strings.Repeat("\x00", 2<<20)
	sparse := head + zeros[:64<<10-512] + "\r\n" + end
	dense := head + noise(64<<10) + zeros + "\r\n" + end
	for name, c := range map[string]struct {
		encoding, body string
		refused        bool
	}{
		"zstd, 100 MiB of 3 kB":    {"zstd", rleBomb(head, 100<<20), true},
		"zstd, 1 MiB of 200 bytes": {"zstd", rleBomb(head, 1<<20), true},
		"gzip":                     {"gzip", gzipped(t, head+zeros), true},
		"zlib":                     {"deflate", packed(t, head+zeros, openZlib), true},
		"deflate":                  {"deflate", packed(t, head+zeros, openFlate), true},
		"small and sparse":         {"gzip", gzipped(t, sparse), false},
		"small and sparse, zstd":   {"zstd", packed(t, sparse, openZstd), false},
		"grows 30 times":           {"gzip", gzipped(t, dense), false},
	} {
		_, err := parse(request(formData, c.encoding, io.NopCloser(strings.NewReader(c.body)), int64(len(c.body))), DefaultLimits())
		if got := fmt.Sprint(err); (err != nil) != c.refused || c.refused && !strings.Contains(got, "too_large: body inflated is over") {
			t.Errorf("%s (%d bytes): got %v, want it refused: %t", name, len(c.body), err, c.refused)
		}
	}
}

// Of dumps of one name the last counts; many of them would have a compressed report
// decompressed as often.
func TestReplacedDumpsAreFew(t *testing.T) {
	for n, refused := range map[int]bool{maxReplacedDumps + 1: false, maxReplacedDumps + 2: true} {
		var body strings.Builder
		body.WriteString(field("ProductName", "Firefox"))
		for i := range n {
			body.WriteString(file("upload_file_minidump", "application/octet-stream", strconv.Itoa(i)))
		}
		body.WriteString(end)
		packed := gzipped(t, body.String())
		_, err := parse(request(formData, "gzip", strings.NewReader(packed), int64(len(packed))), DefaultLimits())
		if (err != nil) != refused {
			t.Errorf("%d dumps of one name: %v, want them refused: %t", n, err, refused)
		}
	}
}

// maxReplacedDumps is how many dumps of one name may be replaced.
const maxReplacedDumps = 2
