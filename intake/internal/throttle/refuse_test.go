package throttle_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/yagi-crash/yagi/intake/internal/throttle"
)

// A condition can neither make texts nor lists grow, nor compare what is nested:
// what it costs is bounded by the report.
func TestNothingGrows(t *testing.T) {
	for condition, want := range map[string]string{
		`(has("a") ? text("a") : 1) + (has("a") ? text("a") : 1) == "b"`: "only numbers can be added",
		`text("a") + text("b") == "c"`:                                   "texts cannot be added",
		`{"a": text("a"), "b": 1}["a"] + {"a": 1}["a"] == 2`:             "only numbers can be added",
		`let a = has("a"); a`:                                            "there are no variables",
		`let x = [1]; let y = [x, x]; y in [y]`:                          "there are no variables",
		`[1] == [1]`:                                                     "lists and maps cannot be compared",
		`products != package_names["a"]`:                                 "lists and maps cannot be compared",
		`{"a": 1} == {"a": 1}`:                                           "lists and maps cannot be compared",
		`nil == products`:                                                "lists and maps cannot be compared",
		`number("a") + nope == 1`:                                        "unknown name nope",
	} {
		_, err := throttle.Parse("f", ruleFile(t, condition))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", condition, err, want)
		}
	}
	for _, condition := range []string{`number("a") + 1 + json_int("a", "b") < 3`, `[1, 2][0] == 1`, `package_names["a"][0] == "x"`, `len(products) + 1 == 1`} {
		if _, err := throttle.Parse("f", ruleFile(t, condition)); err != nil {
			t.Errorf("%s: %v", condition, err)
		}
	}
}

// ruleFile is a file of one rule.
func ruleFile(t *testing.T, condition string) []byte {
	t.Helper()
	file, err := json.Marshal(map[string]any{"rules": []any{map[string]string{"name": "r", "when": condition, "verdict": "accept"}}})
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// However wrong a file is, it is refused soon.
func TestBadFilesAreRefusedSoon(t *testing.T) {
	const most = 10 * time.Second // generous, for -race: it takes 0.3 s at most
	long := strings.Repeat("a", 1000)
	for name, rule := range map[string]string{
		"unknown names": `{name: r, when: 'text("` + long + `") == nope', verdict: accept},`,
		"escapes":       `{name: r, when: "text(\"` + long + `\u00e9\") == nope", verdict: accept},`,
		"short":         `{when: x},`,
		"keys":          `{a: 1, b: 2, c: 3},`,
	} {
		rules := throttle.MaxFile/len(rule) - 1
		if name != "keys" {
			rules = min(rules, 1000)
		}
		begin := time.Now()
		_, err := throttle.Parse("f", []byte("rules: ["+strings.Repeat(rule, rules)+"]"))
		if took := time.Since(begin); took > most {
			t.Errorf("%s: took %s, want at most %s", name, took, most)
		}
		if _, ok := errors.AsType[*throttle.FileError](err); !ok {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// A file that is too large is no good, which is another thing than one that
// cannot be read; what is not a file is not even opened, because that may hang.
func TestFilesThatAreNotRead(t *testing.T) {
	large, pipe := filepath.Join(t.TempDir(), "large.yml"), filepath.Join(t.TempDir(), "pipe.yaml")
	if err := os.WriteFile(large, []byte("rules: []"+strings.Repeat(" ", throttle.MaxFile)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := throttle.Load(large)
	if wrong, ok := errors.AsType[*throttle.FileError](err); !ok || wrong.Error() != large+":1:1: the file is larger than 1 MiB" {
		t.Errorf("got %v", err)
	}
	for _, path := range []string{pipe, t.TempDir() + "/", "/dev/null"} {
		if _, err := throttle.Load(path); err == nil || !strings.Contains(err.Error(), path+" is not a regular file") {
			t.Errorf("got %v, want an error that names %s", err, path)
		}
	}
}
