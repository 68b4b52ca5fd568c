package breakpad

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/yagi-crash/yagi/pkg/crash"
)

// breakpadBoundary is one of Breakpad's, on macOS and Windows.
const breakpadBoundary = "---------------------------6B8B4567327B23C6"

const (
	gluedEndNote  = "no line end before the final boundary"
	gluedNextNote = "no line end before a boundary"
)

// glued is a file as Breakpad writes it for some systems: no line end stands
// between its bytes and what follows.
func glued(name, data string) string {
	return strings.TrimSuffix(file(name, "application/octet-stream", data), "\r\n")
}

// everyWay gives the same body to the parser at once, byte by byte, and compressed.
// Boundary B in it stands for the one that is given.
func everyWay(t *testing.T, boundary, body string) map[string]*http.Request {
	t.Helper()
	body = strings.ReplaceAll(body, "--B", "--"+boundary)
	contentType := "multipart/form-data; boundary=" + boundary
	return map[string]*http.Request{
		"whole": request(contentType, "", strings.NewReader(body), int64(len(body))),
		"bytes": request(contentType, "", iotest.OneByteReader(strings.NewReader(body)), -1),
		"gzip":  request(contentType, "gzip", strings.NewReader(gzipped(t, body)), -1),
	}
}

// A file may end without a line end before the boundary where no strict reader
// would have another reading: then it is whole, byte for byte, and the report
// says so.
func TestMissingLineEndBehindAFile(t *testing.T) {
	const minidump = "upload_file_minidump"
	ok := field("ProductName", "Breakpad")
	strict := file(minidump, "application/octet-stream", "MDMP")
	for name, c := range map[string]struct {
		boundary string
		body     string
		dumps    map[string]string
		notes    []string
	}{
		"final boundary and a line end": {
			body:  ok + glued(minidump, "MDMP\x00\r\n--\xff") + "--B--\r\n",
			dumps: map[string]string{minidump: "MDMP\x00\r\n--\xff"}, notes: []string{gluedEndNote},
		},
		"final boundary and nothing": {
			body:  ok + glued(minidump, "MDMP") + "--B--",
			dumps: map[string]string{minidump: "MDMP"}, notes: []string{gluedEndNote},
		},
		"a file that ends like a delimiter begins": {
			body:  ok + glued(minidump, "MDMP\r\n--\r") + "--B--\r\n",
			dumps: map[string]string{minidump: "MDMP\r\n--\r"}, notes: []string{gluedEndNote},
		},
		"a file that ends in LF": {
			body:  ok + glued(minidump, "MDMP\n") + "--B--\r\n",
			dumps: map[string]string{minidump: "MDMP\n"}, notes: []string{gluedEndNote},
		},
		"a file that ends in CRLF loses it: the standard's reading comes first": {
			body:  ok + glued(minidump, "MDMP\r\n") + "--B--\r\n",
			dumps: map[string]string{minidump: "MDMP"},
		},
		"an empty file has the line end of its headers": {
			body:  ok + glued(minidump, "") + "--B--\r\n",
			dumps: map[string]string{minidump: ""}, notes: []string{"dump upload_file_minidump is empty"},
		},
		"what looks like the end earlier in the file is data": {
			body:  ok + glued(minidump, "a--B--\r\nb--B--c--B") + "--B--\r\n",
			dumps: map[string]string{minidump: "a--B--\r\nb--B--c--B"}, notes: []string{gluedEndNote},
		},
		"a proper end makes it data too": {
			body:  ok + glued(minidump, "a--B--") + "\r\n--B--\r\n",
			dumps: map[string]string{minidump: "a--B--"},
		},
		"bare LF": {
			body:  strings.ReplaceAll(ok+glued(minidump, "MDMP"), "\r\n", "\n") + "--B--\n",
			dumps: map[string]string{minidump: "MDMP"}, notes: []string{"lines end in LF instead of CRLF", gluedEndNote},
		},
		"two files": {
			boundary: breakpadBoundary,
			body:     ok + glued("log", "BZh9\x00\r\n--") + glued(minidump, "MDMP\x00\r") + "\r\n--B--\r\n",
			dumps:    map[string]string{"log": "BZh9\x00\r\n--", minidump: "MDMP\x00\r"}, notes: []string{gluedNextNote},
		},
		"three files and the end": {
			boundary: breakpadBoundary,
			body:     ok + glued("a", "1") + glued("b", "") + glued("c", "3") + "--B--\r\n",
			dumps:    map[string]string{"a": "1", "b": "", "c": "3"}, notes: []string{gluedNextNote, "dump b is empty", gluedEndNote},
		},
		"two files, bare LF": {
			boundary: breakpadBoundary,
			body:     strings.ReplaceAll(ok+glued("log", "BZh9")+strict+end, "\r\n", "\n"),
			dumps:    map[string]string{"log": "BZh9", minidump: "MDMP"}, notes: []string{"lines end in LF instead of CRLF", gluedNextNote},
		},
		"a boundary that a file might hold by chance is data, as in Antenna": {
			boundary: "123456789012345",
			body:     ok + glued(minidump, "MDMP") + strict + end,
			dumps:    map[string]string{minidump: "MDMP" + strings.ReplaceAll(strings.TrimSuffix(strict, "\r\n"), "--B", "--123456789012345")},
		},
		"the shortest boundary that none holds": {
			boundary: "1234567890123456",
			body:     ok + glued("log", "BZh9") + strict + end,
			dumps:    map[string]string{"log": "BZh9", minidump: "MDMP"}, notes: []string{gluedNextNote},
		},
		"a file that ends in a boundary's dash": {
			boundary: "-",
			body:     ok + glued(minidump, "MDMP-") + "--B--\r\n",
			dumps:    map[string]string{minidump: "MDMP-"}, notes: []string{gluedEndNote},
		},
		"a boundary without a part behind it is data": {
			boundary: breakpadBoundary,
			body:     ok + glued(minidump, "MDMP--B\r\nContent-Type: form-data; name=") + "\r\n" + end,
			dumps:    map[string]string{minidump: "MDMP--" + breakpadBoundary + "\r\nContent-Type: form-data; name="},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if c.boundary == "" {
				c.boundary = "B"
			}
			for i, text := range c.dumps {
				c.dumps[i] = strings.ReplaceAll(text, "--B", "--"+c.boundary)
			}
			want := got{map[string]string{"ProductName": `"Breakpad"`}, c.dumps, c.notes, "multipart"}
			for way, r := range everyWay(t, c.boundary, c.body) {
				report, err := parse(r, DefaultLimits())
				if err != nil {
					t.Fatalf("%s: %v", way, err)
				}
				if diff := cmp.Diff(want, flat(report)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", way, diff)
				}
			}
		})
	}
}

// What lacks a line end elsewhere is as broken as it ever was.
func TestMissingLineEndElsewhere(t *testing.T) {
	ok := field("ProductName", "Breakpad")
	dump := glued("upload_file_minidump", "MDMP")
	for name, body := range map[string]string{
		"behind a field":               ok + strings.TrimSuffix(field("a", "1"), "\r\n") + "--B--\r\n",
		"behind a field behind a file": ok + dump + "\r\n" + strings.TrimSuffix(field("a", "1"), "\r\n") + "--B--\r\n",
		"behind a file without a name": ok + lines("--B", `Content-Disposition: form-data; filename="f"`, "", "x") + "--B--\r\n",
		"more behind the end":          ok + dump + "--B--\r\nx",
		"more lines behind the end":    ok + dump + "--B--\r\n\r\n",
		"an end that is cut":           ok + dump + "--B-",
		"a boundary that is not final": ok + dump + "--B\r\n",
		"headers that are cut":         ok + dump + "--B\r\nContent-Disposition: form-data; name=\"",
	} {
		for _, boundary := range []string{"B", breakpadBoundary} {
			for way, r := range everyWay(t, boundary, body) {
				_, err := parse(r, DefaultLimits())
				if refusal, ok := errors.AsType[*crash.Refusal](err); !ok || refusal.Reason != crash.ReasonInvalidPayloadStructure {
					t.Errorf("%s, %s, %s: %v, want %s", name, boundary, way, err, crash.ReasonInvalidPayloadStructure)
				}
			}
		}
	}
	body := ok + strings.TrimSuffix(field("a", "1"), "\r\n") + field("b", "2") + end
	for way, r := range everyWay(t, breakpadBoundary, body) {
		report, err := parse(r, DefaultLimits())
		if err != nil {
			t.Fatalf("%s: %v", way, err)
		}
		want := `"1--` + breakpadBoundary + `\r\nContent-Disposition: form-data; name=\"b\"\r\n\r\n2"`
		if text := string(report.Annotations["a"]); text != want || len(report.Metadata.Notes) != 0 {
			t.Errorf("%s: field a is %s with notes %q, want %s", way, text, report.Metadata.Notes, want)
		}
	}
}

// Wherever the window ends, a delimiter without its line end is seen, and the
// file before it is whole.
func TestMissingLineEndAtTheWindowsEdge(t *testing.T) {
	before := strings.ReplaceAll(field("ProductName", "Breakpad")+glued("log", ""), "--B", "--"+breakpadBoundary)
	limits := DefaultLimits()
	limits.Ratio = maxRatio // what is all one letter packs well
	for over := -160; over <= 10; over++ {
		data := strings.Repeat("x", WindowSize-len(before)+over)
		body := field("ProductName", "Breakpad") + glued("log", data) + glued("upload_file_minidump", data) + "--B--\r\n"
		for way, r := range everyWay(t, breakpadBoundary, body) {
			report, err := parse(r, limits)
			if err != nil {
				t.Fatalf("%d bytes, %s: %v", len(data), way, err)
			}
			if dumps := flat(report).Dumps; len(dumps) != 2 || dumps["log"] != data || dumps["upload_file_minidump"] != data {
				t.Fatalf("%d bytes, %s: the files differ", len(data), way)
			}
		}
	}
}

// A body that breaks off behind what looks like its end is refused all the same.
func TestMissingLineEndBeforeABreak(t *testing.T) {
	body := field("ProductName", "Breakpad") + glued("upload_file_minidump", "MDMP") + "--B--\r\n"
	broken := io.MultiReader(strings.NewReader(body), iotest.ErrReader(io.ErrUnexpectedEOF))
	if _, err := parse(request(formData, "", broken, -1), DefaultLimits()); err == nil {
		t.Error("a body that breaks off is taken")
	}
}
