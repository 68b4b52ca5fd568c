package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func file(t *testing.T, name, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// What the check says of a file that intake takes, takes with a warning, and
// refuses, and of one that is not there.
func TestRulesCheck(t *testing.T) {
	warned := file(t, "warned.yaml", "rules:\n  - {name: a, when: has(\"x\"), verdict: accept}\n")
	bad := file(t, "bad.yaml", "rules:\n  - {name: a, when: nope, verdict: accept}\n  - {name: b, when: true, verdict: none}\n")
	large := file(t, "large.yaml", "rules: []"+strings.Repeat(" ", 1<<20))
	for source, want := range map[string]outcome{
		large:             {1, "", large + ":1:1: the file is larger than 1 MiB"},
		t.TempDir() + "/": {2, "", "is not a regular file"},
		"mozilla":         {0, "count    16\n", ""},
		warned:            {0, "warning  " + warned + ":2:5: rule a: this last rule does not decide", ""},
		bad:               {1, "", bad + ":2:21: rule a: unknown name nope\n" + bad + ":3:36: rule b: \"none\" is no verdict"},
		"absent.yaml":     {2, "", "no such file"},
		"mozzila":         {2, "", "accept_all and mozilla"},
	} {
		got := crashctl(t, nil, "rules", "check", source)
		if got.code != want.code || !strings.Contains(got.out, want.out) || !strings.Contains(got.errors, want.errors) || (want.errors == "") != (got.errors == "") {
			t.Errorf("%s: got %+v, want %+v", source, got, want)
		}
	}
}

const someRules = `aliases:
  ProductName: [prod]
rules:
  - {name: broken, when: '[1][5] == 1', verdict: reject}
  - {name: other, when: 'text("ProductName") != "App"', verdict: reject}
  - {name: version, when: has("version"), verdict: reject}
  - {name: half, when: true, sample: {percent: 50, below: continue, above: defer}}
  - {name: tenth, when: number("Uptime") > 5, sample: {percent: 10, below: accept, above: reject}}
  - {name: never, when: true, verdict: accept}
limit: {key: ProductName, per_second: 0.5, burst: 10, verdict: defer}
`

// The explanation names each rule that the report gets to, what its condition
// saw, and where sampling leads.
func TestRulesExplain(t *testing.T) {
	rules := file(t, "rules.yaml", someRules)
	report := file(t, "report.json", `{"prod":"App","Uptime":"7","version":2,"uuid":"x","submitted_timestamp":"x","metadata":{"throttle_rule":"x"}}`)
	got := crashctl(t, nil, "rules", "explain", rules, report)
	_, body, _ := strings.Cut(got.out, "\n\n")
	want := `no  broken
        when [1][5] == 1
        cannot be evaluated: index out of range: 5 (array length is 1) (1:4)
no  other
        when text("ProductName") != "App"
        text("ProductName") is "App"
no  version
        when has("version")
        has("version") is false
yes half: 50 % continue, 50 % defer
        when true
yes tenth: 10 % accept, 90 % reject
        when number("Uptime") > 5
        number("Uptime") is 7

50 %: defer by half
5 %: accept by tenth
45 %: reject by tenth
but of those that are kept, at most 0.5 a second for each ProductName (10 at once) in each intake, otherwise defer by limit_ProductName
`
	if got.code != 0 || got.errors != "" || body != want {
		t.Errorf("exit code %d, stderr %q, printed\n%s\nwant\n%s", got.code, got.errors, body, want)
	}
	// What only looks like a raw_crash is taken as it is.
	report = file(t, "report.json", `{"ProductName":"App","version":"2","metadata":"x"}`)
	if got := crashctl(t, nil, "rules", "explain", rules, report); !strings.Contains(got.out, "\nreject by version\n") {
		t.Errorf("printed\n%s", got.out)
	}
}

func TestRulesExplainRefuses(t *testing.T) {
	report := file(t, "report.json", "{}")
	for name, c := range map[string]struct {
		rules, report string
		code          int
		errors        string
	}{
		"bad rules":      {file(t, "bad.yaml", "rules: 5"), report, 1, "bad.yaml:1:8:"},
		"no rules":       {"absent.yaml", report, 2, "no such file"},
		"no report":      {"mozilla", "absent.json", 2, "no such file"},
		"a list":         {"mozilla", file(t, "list.json", "[]"), 2, "reading the report"},
		"not JSON":       {"mozilla", file(t, "text.json", "MDMP"), 2, "reading the report"},
		"null as report": {"mozilla", file(t, "null.json", "null"), 2, "reading the report: it is null"},
	} {
		if got := crashctl(t, nil, "rules", "explain", c.rules, c.report); got.code != c.code || got.out != "" || !strings.Contains(got.errors, c.errors) {
			t.Errorf("%s: got %+v, want exit code %d and %q", name, got, c.code, c.errors)
		}
	}
}

func TestReportFromStandardInput(t *testing.T) {
	document, err := readReport("-", strings.NewReader("{}"))
	if err != nil || string(document) != "{}" {
		t.Errorf("got %q, %v", document, err)
	}
}

// asCrashctl has TestMain do what main does.
const asCrashctl = "TEST_AS_CRASHCTL"

func TestMain(m *testing.M) {
	if os.Getenv(asCrashctl) != "" {
		main()
	}
	os.Exit(m.Run())
}

// Ctrl-C ends the program while it waits for a report.
func TestInterruptWhileReading(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	command := exec.CommandContext(ctx, os.Args[0], "rules", "explain", "mozilla", "-")
	command.Env = append(os.Environ(), asCrashctl+"=yes")
	stdin, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	// More than a pipe holds: once it is written, the program reads.
	_, err = stdin.Write(make([]byte, 1<<20))
	if err := errors.Join(err, command.Process.Signal(os.Interrupt)); err != nil {
		t.Error(err)
	}
	_ = command.Wait() // that it was ended is what is asked for
	if status, ok := command.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGINT {
		t.Errorf("%s, want it ended by SIGINT", command.ProcessState)
	}
}
