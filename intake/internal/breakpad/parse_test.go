package breakpad

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/queue"
	"github.com/yagi-crash/yagi/pkg/settings"
)

func TestParse(t *testing.T) {
	product := map[string]string{"ProductName": `"Firefox"`}
	none := map[string]string{}
	for name, c := range map[string]struct {
		contentType string
		body        string
		want        got
	}{
		"a field and a dump": {
			body: field("ProductName", "Firefox") + file("upload_file_minidump", "application/octet-stream", "MDMP\x00\r\n--\xff") + end,
			want: got{product, map[string]string{"upload_file_minidump": "MDMP\x00\r\n--\xff"}, nil, "multipart"},
		},
		"multipart/mixed, any case, other parameters, quoted boundary": {
			contentType: `Multipart/Mixed; charset=utf-8; Boundary="B"`,
			body:        field("ProductName", "Firefox") + end,
			want:        got{product, none, nil, "multipart"},
		},
		"annotations as JSON keep their values verbatim": {
			body: extra(`{"a": 1.0, "b": "x\ud800", "c": null, "d": {"e": [true]}}`) + end,
			want: got{map[string]string{"a": "1.0", "b": `"x\ud800"`, "c": "null", "d": `{"e": [true]}`}, none, nil, "json"},
		},
		"JSON takes the place of the fields before it, not of those behind": {
			body: field("before", "1") + extra(`{"a":"1"}`) + field("behind", "2") + end,
			want: got{map[string]string{"a": `"1"`, "behind": `"2"`}, none, []string{"includes annotations in both json-encoded extra and formdata parts"}, "json"},
		},
		"two dumps and a file of another type": {
			body: field("ProductName", "Firefox") + file("upload_file_minidump", "application/vnd.tcpdump.pcap", "1") + file("memory.report", "application/octet-stream", "22") + end,
			want: got{
				product,
				map[string]string{"upload_file_minidump": "1", "memoryreport": "22"},
				[]string{"unknown content type: upload_file_minidump application/vnd.tcpdump.pcap"},
				"multipart",
			},
		},
		"of two dumps under one name the last counts": {
			body: field("ProductName", "Firefox") + file("a.b", "application/octet-stream", "1") + file("ab", "application/octet-stream", "2") + end,
			want: got{product, map[string]string{"ab": "2"}, []string{"two dumps named ab: the last one counts"}, "multipart"},
		},
		"dump and upload_file_minidump lie under one key": {
			body: field("ProductName", "Firefox") + file("dump", "application/octet-stream", "1") + file("upload_file_minidump", "application/octet-stream", "2") + end,
			want: got{product, map[string]string{"upload_file_minidump": "2"}, []string{"two dumps named upload_file_minidump: the last one counts"}, "multipart"},
		},
		"a repeated field: the last value": {
			body: field("ProductName", "Fenix") + field("ProductName", "Firefox") + end,
			want: got{product, none, nil, "multipart"},
		},
		"a part without a name is passed over": {
			body: field("ProductName", "Firefox") + lines("--B", "", "nobody's", "--B", "Content-Type: text/plain", "", "x", "") + end,
			want: got{product, none, nil, "multipart"},
		},
		"bad UTF-8 in a field drops the field": {
			body: field("ProductName", "Firefox") + field("URL", "\xff") + end,
			want: got{product, none, []string{"extract payload text part exception: invalid text or charset: utf-8"}, "multipart"},
		},
		"a character set is noted as it was sent": {
			body: field("ProductName", "Firefox") + lines("--B", `Content-Disposition: form-data; name="City"`, "Content-Type: text/plain; charset=US-ASCII", "", "K\xf6ln", "") + end,
			want: got{product, none, []string{"extract payload text part exception: invalid text or charset: US-ASCII"}, "multipart"},
		},
		"a boundary in quotes loses spaces at its end": {
			contentType: `multipart/form-data; boundary="B  "`, body: field("ProductName", "Firefox") + end,
			want: got{product, none, nil, "multipart"},
		},
		"latin-1": {
			body: field("ProductName", "Firefox") + lines("--B", `Content-Disposition: form-data; name="City"`, "Content-Type: text/plain; charset=ISO-8859-1", "", "K\xf6ln", "") + end,
			want: got{map[string]string{"ProductName": `"Firefox"`, "City": `"Köln"`}, none, nil, "multipart"},
		},
		"names unquoted, with intos and slashes, and with quotes in them": {
			body: lines("--B", `Content-Disposition: form-data; name=a b/c[d]é`, "", "1", "--B", `Content-Disposition: form-data; name="x;\"y"; other=1`, "", "2", "") + end,
			want: got{map[string]string{"a b/c[d]é": `"1"`, `x;"y`: `"2"`}, none, nil, "multipart"},
		},
		"a Windows path as file name is a file": {
			body: field("ProductName", "Firefox") + lines("--B", `Content-Disposition: form-data; name="upload_file_minidump"; filename="C:\temp\a.dmp"`, "Content-Type: application/octet-stream", "", "1", "") + end,
			want: got{product, map[string]string{"upload_file_minidump": "1"}, nil, "multipart"},
		},
		"preamble, epilogue, padding behind the boundary": {
			body: "a preamble --Bx\r\n--Bx\r\n--B \t\r\n" + strings.TrimPrefix(field("ProductName", "Firefox"), "--B\r\n") + "--B-- \t\r\nepilogue --B",
			want: got{product, none, nil, "multipart"},
		},
		"what only looks like a boundary is data": {
			body: field("ProductName", "Firefox") + file("upload_file_minidump", "application/octet-stream", "\r\n--Bx\r\n--B-\r\n--B x\r\n-B\r\n--") + end,
			want: got{product, map[string]string{"upload_file_minidump": "\r\n--Bx\r\n--B-\r\n--B x\r\n-B\r\n--"}, nil, "multipart"},
		},
		"what only looks like the end is data": {
			body: field("ProductName", "Firefox") + file("upload_file_minidump", "application/octet-stream", "\r\n--B--x\r\n--B---\r\n--B--\t\x00") + end,
			want: got{product, map[string]string{"upload_file_minidump": "\r\n--B--x\r\n--B---\r\n--B--\t\x00"}, nil, "multipart"},
		},
		"few odd bytes behind the end": {
			body: field("ProductName", "Firefox") + "--B--x" + strings.Repeat("\r\n--", 32),
			want: got{product, none, nil, "multipart"},
		},
		"a CR behind the end": {
			body: field("ProductName", "Firefox") + "--B--\r",
			want: got{product, none, nil, "multipart"},
		},
		"a first boundary within a line": {
			body: "preamble" + field("ProductName", "Firefox") + end,
			want: got{product, none, nil, "multipart"},
		},
		"LF in a header line is part of it": {
			body: lines("--B", "Content-Disposition: form-data; name=Product\nName", "", "Firefox", "") + end,
			want: got{map[string]string{"Product\nName": `"Firefox"`}, none, nil, "multipart"},
		},
		"empty values, with and without their line end": {
			body: field("a", "") + lines("--B", `Content-Disposition: form-data; name="b"`, "", "") + end,
			want: got{map[string]string{"a": `""`, "b": `""`}, none, nil, "multipart"},
		},
		"no line end behind the final boundary": {
			body: field("ProductName", "Firefox") + "--B--",
			want: got{product, none, nil, "multipart"},
		},
		"bare LF": {
			body: strings.ReplaceAll(field("ProductName", "Firefox")+end, "\r\n", "\n"),
			want: got{product, none, []string{"lines end in LF instead of CRLF"}, "multipart"},
		},
		"of several Content-Dispositions the last": {
			body: lines("--B", `Content-Disposition: form-data; name="x"`, `content-disposition: attachment; name="ProductName"`, "", "Firefox", "") + end,
			want: got{product, none, []string{"part with several Content-Disposition lines: the last one counts"}, "multipart"},
		},
		"a continued header line": {
			body: lines("--B", "Content-Disposition: form-data;", ` name="ProductName"`, "", "Firefox", "") + end,
			want: got{product, none, nil, "multipart"},
		},
		"a field that is too large is dropped": {
			body: field("ProductName", "Firefox") + field("big", hex.EncodeToString([]byte(noise(1<<19)))+"x") + end,
			want: got{product, none, []string{"dropped annotation big: over 1048576 bytes"}, "multipart"},
		},
		"a name that is too long is dropped": {
			body: field("ProductName", "Firefox") + field(strings.Repeat("x", 257), "1") + end,
			want: got{product, none, []string{"dropped an annotation whose name is over 256 bytes"}, "multipart"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if c.contentType == "" {
				c.contentType = formData
			}
			// As a whole, byte by byte, and chunked and compressed.
			small := len(c.body) < 1<<16
			for way, r := range map[string]*http.Request{
				"whole":   request(c.contentType, "", strings.NewReader(c.body), int64(len(c.body))),
				"chunked": request(c.contentType, "identity", io.MultiReader(strings.NewReader(c.body)), -1),
				"gzip":    request(c.contentType, "GZIP", strings.NewReader(gzipped(t, c.body)), -1),
				"bytes":   request(c.contentType, "", iotest.OneByteReader(strings.NewReader(c.body)), int64(len(c.body))),
			} {
				if way == "bytes" && !small {
					continue
				}
				report, err := parse(r, DefaultLimits())
				if err != nil {
					t.Fatalf("%s: %v", way, err)
				}
				if diff := cmp.Diff(c.want, flat(report)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", way, diff)
				}
				for _, d := range report.Dumps {
					if err := d.Verify(); err != nil {
						t.Errorf("%s: %v", way, err)
					}
				}
			}
		})
	}
}

func TestMetadata(t *testing.T) {
	plain := field("a", "1") + end
	packed := gzipped(t, plain)
	r := request(formData, "x-gzip", strings.NewReader(packed), -1)
	r.Header.Set("User-Agent", "Breakpad/1.0")
	report, err := parse(r, DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	want := crash.Metadata{Payload: "multipart", Compressed: true, Size: int64(len(packed)), UserAgent: "Breakpad/1.0"}
	if diff := cmp.Diff(want, report.Metadata); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	report, err = parse(request(formData, "", strings.NewReader(plain), -1), DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	want = crash.Metadata{Payload: "multipart", Size: int64(len(plain)), UserAgent: "None"}
	if diff := cmp.Diff(want, report.Metadata); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRefusals(t *testing.T) {
	ok := field("ProductName", "Firefox")
	limits := DefaultLimits()
	limits.Wire, limits.Inflated = 1<<20, 2<<20
	for name, c := range map[string]struct {
		contentType, encoding, body string
		want                        crash.Reason
		status                      int
	}{
		"no content type":                {"", "", ok + end, crash.ReasonNoContentType, 400},
		"wrong content type":             {"application/json", "", ok + end, crash.ReasonWrongContentType, 400},
		"no boundary":                    {"multipart/form-data", "", ok + end, crash.ReasonNoBoundary, 400},
		"empty boundary":                 {"multipart/form-data; boundary=", "", ok + end, crash.ReasonNoBoundary, 400},
		"two boundaries":                 {formData + "; boundary=C", "", ok + end, crash.ReasonNoBoundary, 400},
		"endless boundary":               {"multipart/form-data; boundary=" + strings.Repeat("b", 201), "", ok + end, crash.ReasonNoBoundary, 400},
		"no body":                        {formData, "", "", crash.ReasonNoContentLength, 400},
		"unknown encoding":               {formData, "br", ok + end, crash.ReasonUnsupportedEncoding, 415},
		"stacked encodings":              {formData, "gzip, gzip", ok + end, crash.ReasonUnsupportedEncoding, 415},
		"not gzip":                       {formData, "gzip", ok + end, crash.ReasonBadGzip, 400},
		"gzip cut off":                   {formData, "gzip", gzipped(t, ok+end)[:40], crash.ReasonBadGzip, 400},
		"gzip with a wrong checksum":     {formData, "gzip", flip(gzipped(t, ok+end), -5), crash.ReasonBadGzip, 400},
		"gzip bomb":                      {formData, "gzip", gzipped(t, ok+file("upload_file_minidump", "application/octet-stream", strings.Repeat("\x00", 3<<20))+end), crash.ReasonTooLarge, 413},
		"gzip bomb behind the end":       {formData, "gzip", gzipped(t, ok+end+strings.Repeat("\x00", 3<<20)), crash.ReasonTooLarge, 413},
		"too large":                      {formData, "", ok + file("a", "application/octet-stream", strings.Repeat("x", 1<<20)) + end, crash.ReasonTooLarge, 413},
		"invalid JSON":                   {formData, "", extra(`{"a":}`) + end, crash.ReasonInvalidJSON, 400},
		"JSON with something behind it":  {formData, "", extra(`{"a":1} x`) + end, crash.ReasonInvalidJSON, 400},
		"NaN":                            {formData, "", extra(`{"a":NaN}`) + end, crash.ReasonInvalidJSON, 400},
		"JSON that is not UTF-8":         {formData, "", extra("{\"a\":\"\xff\"}") + end, crash.ReasonInvalidJSON, 400},
		"JSON nested deeply":             {formData, "", extra(`{"a":`+strings.Repeat("[", 64)+strings.Repeat("]", 64)+"}") + end, crash.ReasonInvalidJSON, 400},
		"JSON array":                     {formData, "", extra(`["a"]`) + end, crash.ReasonInvalidJSONValue, 400},
		"JSON null":                      {formData, "", extra(`null`) + end, crash.ReasonInvalidJSONValue, 400},
		"no final boundary":              {formData, "", ok, crash.ReasonInvalidPayloadStructure, 400},
		"cut behind a boundary":          {formData, "", ok + "--B\r\n", crash.ReasonInvalidPayloadStructure, 400},
		"another boundary":               {"multipart/form-data; boundary=C", "", ok + end, crash.ReasonInvalidPayloadStructure, 400},
		"header without colon":           {formData, "", ok + lines("--B", "nonsense", "", "x", "") + end, crash.ReasonInvalidPayloadStructure, 400},
		"endless header":                 {formData, "", ok + lines("--B", "X: "+strings.Repeat("x", 17<<10), "", "x", "") + end, crash.ReasonInvalidPayloadStructure, 400},
		"many headers":                   {formData, "", ok + "--B\r\n" + strings.Repeat("X: y\r\n", 33) + "\r\nx\r\n" + end, crash.ReasonInvalidPayloadStructure, 400},
		"many continued header lines":    {formData, "", ok + "--B\r\nX: y\r\n" + strings.Repeat(" z\r\n", 32) + "\r\nx\r\n" + end, crash.ReasonInvalidPayloadStructure, 400},
		"blank continued header lines":   {formData, "", strings.ReplaceAll(ok+"--B\nX: y\n"+strings.Repeat(" \n", 9000)+"\nx\n"+end, "\r\n", "\n"), crash.ReasonInvalidPayloadStructure, 400},
		"line ends that change":          {formData, "", "--B\nContent-Disposition: form-data; name=\"a\"\n\n1\r\n--B\r\nContent-Disposition: form-data; name=\"b\"\r\n\r\n2\r\n--B--\r\n", crash.ReasonInvalidPayloadStructure, 400},
		"the last line end changes":      {formData, "", "--B\nContent-Disposition: form-data; name=\"a\"\n\n1\r\n--B--\r\n", crash.ReasonInvalidPayloadStructure, 400},
		"an integer of 4,301 digits":     {formData, "", extra(`{"a":[1`+strings.Repeat("0", 4300)+"]}") + end, crash.ReasonInvalidJSON, 400},
		"fields beside JSON":             {formData, "", extra(manyKeys(1999, 5)) + field("a", "1") + field("b", "1") + end, crash.ReasonInvalidPayloadStructure, 400},
		"fields that grow as JSON":       {formData, "", field("a", strings.Repeat("\x01", 900_000)) + end, crash.ReasonTooLarge, 413},
		"text behind the final boundary": {formData, "", ok + "--B--x" + strings.Repeat("\r\n--", 33), crash.ReasonInvalidPayloadStructure, 400},
		"line ends that change at once":  {formData, "", "--B\n" + strings.TrimPrefix(ok, "--B\r\n") + end, crash.ReasonInvalidPayloadStructure, 400},
		"line ends that change to LF":    {formData, "", ok + "--B\n\n2\r\n" + end, crash.ReasonInvalidPayloadStructure, 400},
		"JSON that is cut off":           {formData, "", strings.TrimSuffix(extra(`{"a":"1`), "\r\n"), crash.ReasonInvalidJSON, 400},
		"a list that is cut off":         {formData, "", extra(`["a"]`), crash.ReasonInvalidJSONValue, 400},
		"JSON and a piece of the end":    {formData, "", extra(`{"a":"1"}`) + "--B-", crash.ReasonInvalidJSON, 400},
		"JSON and nothing behind it":     {formData, "", extra(`{"a":"1"}`), crash.ReasonInvalidPayloadStructure, 400},
		"bad JSON and a bomb behind it":  {formData, "gzip", gzipped(t, extra(`{`)+end+strings.Repeat("\x00", 3<<20)), crash.ReasonInvalidJSON, 400},
		"bare LF, and CRLF in a header":  {formData, "", "--B\nContent-Disposition: form-data; name=\"a\"\r\n\n1\n--B--\n", crash.ReasonInvalidPayloadStructure, 400},
		"bad JSON and a wrong checksum":  {formData, "gzip", flip(gzipped(t, extra(`{`)+end), -5), crash.ReasonBadGzip, 400},
		"2,001 annotations in JSON":      {formData, "", extra(manyKeys(2001, 5)) + end, crash.ReasonInvalidPayloadStructure, 400},
		"transfer encoding":              {formData, "", ok + lines("--B", `Content-Disposition: form-data; name="a"`, "Content-Transfer-Encoding: base64", "", "eA==", "") + end, crash.ReasonInvalidPayloadStructure, 400},
		"2,001 parts":                    {formData, "", strings.Repeat(field("a", "1"), 2001) + end, crash.ReasonInvalidPayloadStructure, 400},
		"17 dumps":                       {formData, "", ok + seventeen() + end, crash.ReasonInvalidPayloadStructure, 400},
		"reserved dump name":             {formData, "", ok + file("raw_crash", "application/octet-stream", "x") + end, crash.ReasonInvalidDumpName, 400},
		"dump without a usable name":     {formData, "", ok + file("../..", "application/octet-stream", "x") + end, crash.ReasonInvalidDumpName, 400},
		"no parts":                       {formData, "", end, crash.ReasonNoAnnotations, 400},
		"only a dump":                    {formData, "", file("upload_file_minidump", "application/octet-stream", "x") + end, crash.ReasonNoAnnotations, 400},
		"empty JSON object":              {formData, "", extra(`{}`) + end, crash.ReasonNoAnnotations, 400},
	} {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int64{int64(len(c.body)), -1} {
				if len(c.body) == 0 && size < 0 {
					continue // a chunked body without a byte has no boundary either
				}
				_, err := parse(request(c.contentType, c.encoding, strings.NewReader(c.body), size), limits)
				var refusal *crash.Refusal
				if !errors.As(err, &refusal) {
					t.Fatalf("got %v, want a refusal", err)
				}
				if refusal.Reason != c.want || refusal.Status != c.status {
					t.Errorf("got %d %v, want %d %s", refusal.Status, refusal, c.status, c.want)
				}
			}
		})
	}
}

func flip(s string, at int) string {
	b := []byte(s)
	b[len(b)+at] ^= 1
	return string(b)
}

// manyKeys is a JSON object of n members whose names are so long.
func manyKeys(n, length int) string {
	members := make([]string, n)
	for i := range members {
		members[i] = fmt.Sprintf("\"%0*d\":1", length, i)
	}
	return "{" + strings.Join(members, ",") + "}"
}

func seventeen() string {
	var b strings.Builder
	for i := range 17 {
		b.WriteString(file("dump"+string(rune('a'+i)), "application/octet-stream", "x"))
	}
	return b.String()
}

// The limits are inclusive.
func TestAtTheLimit(t *testing.T) {
	body := field("ProductName", "Firefox") + end
	limits := DefaultLimits()
	limits.Wire = settings.Bytes(len(body))
	if _, err := parse(request(formData, "", strings.NewReader(body), -1), limits); err != nil {
		t.Errorf("at the limit: %v", err)
	}
	limits.Wire--
	for _, size := range []int64{-1, int64(len(body))} {
		_, err := parse(request(formData, "", strings.NewReader(body), size), limits)
		var refusal *crash.Refusal
		if !errors.As(err, &refusal) || refusal.Reason != crash.ReasonTooLarge {
			t.Errorf("a byte over the limit, announced as %d: %v", size, err)
		}
	}
}

// What breaks while the body is read is not mistaken for what the body says.
func TestRefusalOfTheReaderWins(t *testing.T) {
	slow := &crash.Refusal{Reason: crash.ReasonTooSlow, Status: http.StatusRequestTimeout}
	body := field("ProductName", "Firefox") + file("a", "application/octet-stream", strings.Repeat("x", 1000))
	for encoding, text := range map[string]string{"": body, "gzip": gzipped(t, body)[:60]} {
		broken := io.MultiReader(strings.NewReader(text), iotest.ErrReader(slow))
		_, err := parse(request(formData, encoding, broken, -1), DefaultLimits())
		var refusal *crash.Refusal
		if !errors.As(err, &refusal) || refusal != slow {
			t.Errorf("encoding %q: got %v, want %v", encoding, err, slow)
		}
	}
}

// A body that breaks off is refused wherever it does, compressed or not: it is
// the client's fault and not ours.
func TestBrokenBodyIsRefusedAnywhere(t *testing.T) {
	body := field("ProductName", "Firefox") + end
	for encoding, text := range map[string]string{"": body, "gzip": gzipped(t, body)} {
		for cut := range len(text) {
			broken := io.MultiReader(strings.NewReader(text[:cut]), iotest.ErrReader(io.ErrUnexpectedEOF))
			_, err := parse(request(formData, encoding, broken, -1), DefaultLimits())
			if refusal, ok := errors.AsType[*crash.Refusal](err); !ok || refusal.Status != http.StatusBadRequest {
				t.Errorf("encoding %q, cut at %d: %v, want a refusal with status 400", encoding, cut, err)
			}
		}
	}
}

// What cannot be stored is refused before it is held in memory.
func TestTooMuchToKeepIsRefused(t *testing.T) {
	limits := DefaultLimits()
	limits.Kept = 1000
	for name, body := range map[string]string{
		"one dump":  file("a", "application/octet-stream", strings.Repeat("x", 1001)),
		"two dumps": file("a", "application/octet-stream", strings.Repeat("x", 600)) + file("a", "application/octet-stream", strings.Repeat("x", 600)),
		"fields":    strings.Repeat(field("a", strings.Repeat("x", 100)), 11),
		"JSON":      extra(manyKeys(100, 20)),
	} {
		_, err := parse(request(formData, "", strings.NewReader(body+end), -1), limits)
		if refusal, ok := errors.AsType[*crash.Refusal](err); !ok || refusal.Reason != crash.ReasonTooLarge {
			t.Errorf("%s: %v, want too_large", name, err)
		}
	}
}

// A client that announces much and sends little costs little memory.
func TestAnnouncedSizeTakesNoMemory(t *testing.T) {
	body := field("ProductName", "Firefox") + "--B\r\nContent-Disposition: form-data; name=\"a\"; filename=\"f\"\r\nContent-Type: application/octet-stream\r\n\r\nx"
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := parse(request(formData, "", strings.NewReader(body), 25<<20), DefaultLimits()); err == nil {
		t.Fatal("a cut body is taken")
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 2<<20 {
		t.Errorf("%d bytes were allocated for %d", took, len(body))
	}
}

func TestNotesAreFew(t *testing.T) {
	body := extra(manyKeys(2000, 300)) + strings.Repeat(field("x", "\xff"), 1000) + field("ProductName", "Firefox") + end
	report, err := parse(request(formData, "", strings.NewReader(body), -1), DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	if n := len(report.Metadata.Notes); n > 100 || !strings.Contains(report.Metadata.Notes[0], "2000 annotations") {
		t.Errorf("%d notes, the first %q", n, report.Metadata.Notes[0])
	}
}

// Whatever arrives, Parse answers with a report that can be sealed, or with a
// refusal, and in the same way however the bytes come.
func FuzzParse(f *testing.F) {
	f.Add(formData, field("ProductName", "Firefox")+file("upload_file_minidump", "application/octet-stream", "MDMP")+end)
	f.Add(formData, extra(`{"a":"1"}`)+end)
	f.Add(formData, "--B\n\n--B--")
	f.Add(`multipart/mixed; boundary="B"`, "preamble\r\n--B\r\nContent-Disposition: form-data; name=a b\r\n\r\n\r\n--B--")
	f.Fuzz(func(t *testing.T, contentType, body string) {
		limits := DefaultLimits()
		limits.Wire = 1 << 16
		report, err := parse(request(contentType, "", strings.NewReader(body), -1), limits)
		again, errAgain := parse(request(contentType, "", iotest.OneByteReader(strings.NewReader(body)), -1), limits)
		if (err == nil) != (errAgain == nil) {
			t.Fatalf("at once: %v; byte by byte: %v", err, errAgain)
		}
		if err != nil {
			if _, ok := errors.AsType[*crash.Refusal](err); !ok {
				t.Fatalf("error without a reason: %v", err)
			}
			return
		}
		if diff := cmp.Diff(flat(report), flat(again)); diff != "" {
			t.Fatalf("at once and byte by byte differ:\n%s", diff)
		}
		report.Received = time.Now()
		report.ID = crash.NewID(report.Received, crash.Accept)
		sealed, err := report.Seal()
		if err != nil {
			t.Fatalf("sealing: %v", err)
		}
		msg, err := queue.Encode(nil, sealed, 1<<20)
		if err != nil {
			t.Fatalf("encoding: %v", err)
		}
		m, err := queue.ReadManifest(msg.Header)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Decode(msg.Data); err != nil {
			t.Fatalf("what would be published cannot be decoded: %v", err)
		}
		if doc, err := sealed.RawCrash.AppendTo(nil); err != nil || !json.Valid(doc) {
			t.Fatalf("raw_crash is not JSON: %v\n%s", err, doc)
		}
		if err := sealed.Verify(); err != nil {
			t.Fatal(err)
		}
	})
}
