package layout_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/layout"
)

const id = crash.ID("de1bb258-cbbf-4589-a673-34f800160918")

func ExampleRawCrash() {
	fmt.Println(layout.RawCrash("de1bb258-cbbf-4589-a673-34f800160918"))
	// Output: v1/raw_crash/20160918/de1bb258-cbbf-4589-a673-34f800160918
}

func ExampleDumpNames() {
	fmt.Println(layout.DumpNames("de1bb258-cbbf-4589-a673-34f800160918"))
	// Output: v1/dump_names/de1bb258-cbbf-4589-a673-34f800160918
}

func ExampleDump() {
	fmt.Println(layout.Dump("upload_file_minidump", "de1bb258-cbbf-4589-a673-34f800160918"))
	fmt.Println(layout.Dump("memory_report", "de1bb258-cbbf-4589-a673-34f800160918"))
	// Output:
	// v1/dump/de1bb258-cbbf-4589-a673-34f800160918
	// v1/memory_report/de1bb258-cbbf-4589-a673-34f800160918
}

func part(name, data string) crash.Part {
	return crash.NewPart(name, []byte(data), crash.Sum([]byte(data)))
}

func ExampleObjects() {
	objects, _ := layout.Objects(&crash.Sealed{
		ID:       "de1bb258-cbbf-4589-a673-34f800160918",
		RawCrash: part("raw_crash", `{"ProductName":"Firefox"}`),
		Dumps: []crash.Part{
			part("upload_file_minidump", "MDMP"),
			part("memory_report", "report"),
		},
	})
	for _, o := range objects {
		body, _ := o.Part.AppendTo(nil)
		fmt.Printf("%s %s\n", o.Key, body)
	}
	// Output:
	// v1/dump_names/de1bb258-cbbf-4589-a673-34f800160918 ["memory_report", "upload_file_minidump"]
	// v1/dump/de1bb258-cbbf-4589-a673-34f800160918 MDMP
	// v1/memory_report/de1bb258-cbbf-4589-a673-34f800160918 report
	// v1/raw_crash/20160918/de1bb258-cbbf-4589-a673-34f800160918 {"ProductName":"Firefox"}
}

func ExampleParse() {
	id, part, err := layout.Parse("v1/dump/de1bb258-cbbf-4589-a673-34f800160918")
	fmt.Println(id, part, err)
	// Output: de1bb258-cbbf-4589-a673-34f800160918 upload_file_minidump <nil>
}

// Socorro reads the list of names even of a report that has no dump.
func TestReportWithoutDumpsHasAnEmptyList(t *testing.T) {
	objects, err := layout.Objects(&crash.Sealed{ID: id})
	if err != nil {
		t.Fatal(err)
	}
	list, err := objects[0].Part.AppendTo(nil)
	if err != nil || len(objects) != 2 || string(list) != "[]" {
		t.Errorf("got %d objects, the first %q, %v, want 2 and []", len(objects), list, err)
	}
}

func TestEveryObjectCarriesTheDigestOfItsBody(t *testing.T) {
	objects, err := layout.Objects(&crash.Sealed{
		ID:       id,
		RawCrash: part("raw_crash", "{}"),
		Dumps:    []crash.Part{part("a", "MDMP")},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		if err := o.Part.Verify(); err != nil {
			t.Errorf("%s: %v", o.Key, err)
		}
	}
}

func TestKeysReadBack(t *testing.T) {
	for _, part := range []string{"raw_crash", "dump_names", "upload_file_minidump", "memory_report", strings.Repeat("x", 30)} {
		key := map[string]string{"raw_crash": layout.RawCrash(id), "dump_names": layout.DumpNames(id)}[part]
		if key == "" {
			key = layout.Dump(part, id)
		}
		gotID, gotPart, err := layout.Parse(key)
		if err != nil || gotID != id || gotPart != part {
			t.Errorf("Parse(%q) = %s, %s, %v, want %s, %s", key, gotID, gotPart, err, id, part)
		}
	}
}

func TestOtherKeysAreRefused(t *testing.T) {
	for _, key := range []string{
		"",
		"v1",
		"v1/",
		string(id),
		"v1/" + string(id),
		"v1//" + string(id),
		"v2/dump/" + string(id),
		"/v1/dump/" + string(id),
		"v1/dump/" + string(id) + "/",
		"v1/dump/x/" + string(id),
		"v1/raw_crash/" + string(id),
		"v1/raw_crash/20160917/" + string(id),
		"v1/processed_crash/" + string(id),
		"v1/a.b/" + string(id),
		"v1/" + strings.Repeat("x", 31) + "/" + string(id),
		"v1/upload_file_minidump/" + string(id),
		"v1/dump/DE1BB258-cbbf-4589-a673-34f800160918",
	} {
		if gotID, part, err := layout.Parse(key); !errors.Is(err, layout.ErrNotAKey) {
			t.Errorf("Parse(%q) = %s, %s, %v, want ErrNotAKey", key, gotID, part, err)
		}
	}
}

func TestProbesAreNoReports(t *testing.T) {
	for key, want := range map[string]string{
		layout.Probe("x"):                       "v1/probe/yagi-x",
		layout.Control("dump_names", "x"):       "v1/dump_names/yagi-probe-x",
		layout.Control(crash.MinidumpName, "x"): "v1/dump/yagi-probe-x",
		layout.Control("memory_report", "x"):    "v1/memory_report/yagi-probe-x",
		layout.Control(crash.RawCrashName, "x"): "v1/raw_crash/probe/yagi-x",
	} {
		if key != want || !layout.IsProbe(key) {
			t.Errorf("the key is %s, want %s, which is a probe's", key, want)
		}
		if _, _, err := layout.Parse(key); !errors.Is(err, layout.ErrNotAKey) {
			t.Errorf("Parse(%q) = %v, want ErrNotAKey", key, err)
		}
	}
	if layout.IsProbe(layout.Dump("probe", id)) || layout.IsProbe(layout.RawCrash(id)) {
		t.Error("a report's object counts as a probe")
	}
}
