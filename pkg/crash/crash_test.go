package crash_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/yagi-crash/yagi/pkg/crash"
)

func TestDumpName(t *testing.T) {
	for field, want := range map[string]string{
		"upload_file_minidump":  "upload_file_minidump",
		"att.bin":               "attbin",
		"browser_log.txt":       "browser_logtxt",
		"../../etc/passwd":      "etcpasswd",
		"käse":                  "kse",
		"a\x00b\xff":            "ab",
		strings.Repeat("x", 40): strings.Repeat("x", 30),
		"dump":                  "dump",
		"raw_crash_":            "raw_crash_",
	} {
		if got, err := crash.DumpName(field); got != want || err != nil {
			t.Errorf("DumpName(%q) = %q, %v, want %q", field, got, err, want)
		}
	}
	for _, field := range []string{"", "../..", "дамп", "raw_crash", "dump_names", "processed_crash", "raw.crash_"[:3] + "_.crash"} {
		got, err := crash.DumpName(field)
		var refusal *crash.Refusal
		if !errors.As(err, &refusal) || refusal.Reason != crash.ReasonInvalidDumpName {
			t.Errorf("DumpName(%q) = %q, %v, want invalid_dump_name", field, got, err)
		}
	}
}

func FuzzDumpName(f *testing.F) {
	f.Add("upload_file_minidump")
	f.Add("../raw_crash")
	allowed := regexp.MustCompile(`^[A-Za-z0-9_]{1,30}$`)
	f.Fuzz(func(t *testing.T, field string) {
		name, err := crash.DumpName(field)
		if err != nil {
			return
		}
		if !allowed.MatchString(name) || name == "raw_crash" || name == "dump_names" || name == "processed_crash" {
			t.Fatalf("DumpName(%q) let %q through", field, name)
		}
		if again, err := crash.DumpName(name); again != name || err != nil {
			t.Fatalf("DumpName(%q) = %q, %v: not stable", name, again, err)
		}
	})
}

// text is what a part holds.
func text(t *testing.T, p crash.Part) []byte {
	t.Helper()
	b, err := p.AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func report() *crash.Report {
	return &crash.Report{
		ID:       "de1bb258-cbbf-4589-a673-34f800160918",
		Received: noon,
		Annotations: crash.Annotations{
			"ProductName": crash.Text("Fire<fox> & \"more\""),
			"Number":      json.RawMessage("1.0"),
			"Lone":        json.RawMessage(`"\ud800"`),
			"uuid":        crash.Text("overwritten"),
			"metadata":    crash.Text("overwritten"),
			"Email":       crash.Text("someone@example.org"),
		},
		Dumps: []crash.Part{crash.NewPart("upload_file_minidump", []byte("MDMP"), crash.Sum([]byte("MDMP")))},
		Metadata: crash.Metadata{
			Payload: crash.PayloadMultipart, Compressed: true, Size: 1234,
			Notes: []string{"a note"}, UserAgent: "Breakpad/1.0", ThrottleRule: "accept_everything",
		},
	}
}

func TestRawCrashHasEveryFieldOfVersion2(t *testing.T) {
	r := report()
	r.Scrub()
	sealed, err := r.Seal()
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(text(t, sealed.RawCrash), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"ProductName":         "Fire<fox> & \"more\"",
		"Number":              1.0,
		"Lone":                "\uFFFD", // how Go reads a lone surrogate
		"submitted_timestamp": "2016-09-18T12:00:00.000000+00:00",
		"uuid":                "de1bb258-cbbf-4589-a673-34f800160918",
		"version":             2.0,
		"metadata": map[string]any{
			"payload": "multipart", "payload_compressed": "1", "payload_size": 1234.0,
			"collector_notes": []any{"a note", "Removed Email from raw crash."},
			"dump_checksums":  map[string]any{"upload_file_minidump": crash.Sum([]byte("MDMP")).String()},
			"user_agent":      "Breakpad/1.0", "throttle_rule": "accept_everything",
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("raw_crash differs (-want +got):\n%s", diff)
	}
	for _, verbatim := range []string{`"Number":1.0`, `"Lone":"\ud800"`} {
		if !strings.Contains(string(text(t, sealed.RawCrash)), verbatim) {
			t.Errorf("raw_crash does not keep %s as it was sent: %s", verbatim, text(t, sealed.RawCrash))
		}
	}
	if sealed.RawCrash.SHA256 != crash.Sum(text(t, sealed.RawCrash)) {
		t.Error("the digest is not raw_crash's")
	}
}

// An annotation's value is JSON of the text's own length, but for what JSON has to
// escape.
func TestText(t *testing.T) {
	for text, want := range map[string]string{
		"": `""`, "plain": `"plain"`, "<&>": `"<&>"`, "<&>\n": `"<&>\n"`, "\x00\x1f": `"\u0000\u001f"`, "\"\\\n": `"\"\\\n"`,
		"Köln \U0001F600": "\"Köln \U0001F600\"", "\xff": `"\ufffd"`, "\x7f": "\"\x7f\"",
	} {
		if got := string(crash.Text(text)); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}

func TestRawCrashIsTheSameBytesEveryTime(t *testing.T) {
	first, err := report().Seal()
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		again, err := report().Seal()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(text(t, again.RawCrash), text(t, first.RawCrash)) {
			t.Fatalf("two raw_crash documents of one report:\n%s\n%s", text(t, first.RawCrash), text(t, again.RawCrash))
		}
	}
}

// A report without notes or dumps has empty ones, never null.
func TestRawCrashNeverHoldsNull(t *testing.T) {
	sealed, err := (&crash.Report{ID: "de1bb258-cbbf-4589-a673-34f800160918", Received: noon}).Seal()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text(t, sealed.RawCrash)), "null") {
		t.Errorf("got %s", text(t, sealed.RawCrash))
	}
}

func TestVerifyNamesTheDamagedPart(t *testing.T) {
	sealed, err := report().Seal()
	if err != nil {
		t.Fatal(err)
	}
	if err := sealed.Verify(); err != nil {
		t.Fatalf("an undamaged report: %v", err)
	}
	sealed.Dumps[0].Data = strings.NewReader("mDMP")
	if err := sealed.Verify(); !errors.Is(err, crash.ErrDigest) || !strings.Contains(err.Error(), "upload_file_minidump") {
		t.Errorf("got %v, want ErrDigest naming upload_file_minidump", err)
	}
}

// A client may get any reason; each is one word that is safe in a header, a
// log and a metric's label.
func TestReasonsAreWords(t *testing.T) {
	word := regexp.MustCompile(`^[a-z0-9_]+$`)
	seen := map[crash.Reason]bool{}
	for _, r := range crash.Reasons() {
		if !word.MatchString(string(r)) || seen[r] {
			t.Errorf("reason %q", r)
		}
		seen[r] = true
	}
}
