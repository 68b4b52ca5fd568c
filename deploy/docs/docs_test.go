package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const wantTable = `### Test

| variable | default | what it does |
|---|---|---|
| ` + "`T_ADDR` | `:8000`" + ` | Where it listens, as host:port. A port alone means every address. It may be &lt;none> \| "off" (/\_\_x\_\_). |
| ` + "`T_WAIT`" + ` | none | Bounds the wait. |
| ` + "`T_URL`" + ` | required | Has no default. |
`

func TestRender(t *testing.T) {
	one := config{"Test", "testdata/config.go", "Config"}
	got, err := render(".", []config{one, one})
	if err != nil || got != wantTable+"\n"+wantTable {
		t.Errorf("got %v\n%s", err, got)
	}
}

func TestRenderRefuses(t *testing.T) {
	for _, tt := range []struct{ file, name, want string }{
		{"testdata/none.go", "Config", "no such file"},
		{"testdata/config.go", "Missing", "no such struct"},
		{"testdata/config.go", "unrelated", "no such struct"},
		{"testdata/config.go", "Empty", "none of its fields has an env tag"},
		{"testdata/config.go", "Inner", "T_MUTE has no doc comment"},
	} {
		_, err := render(".", []config{{"Test", tt.file, tt.name}})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s of %s: %v, want %q", tt.name, tt.file, err, tt.want)
		}
	}
}

// The structs of the telemetry package are read as they are.
func TestRenderTelemetry(t *testing.T) {
	root, err := findRoot()
	if err != nil {
		t.Fatal(err)
	}
	got, err := render(root, []config{{"Logging", "pkg/telemetry/log.go", "Config"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| `LOG_LEVEL` | `info` | The least level", "| `LOG_FORMAT` | `json` | How an event"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestUpdateAndCompare(t *testing.T) {
	readme := filepath.Join(t.TempDir(), "README.md")
	write := func(text string) {
		if err := os.WriteFile(readme, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, broken := range []string{"", "<!-- settings:begin -->\n", "<!-- settings:end -->\n<!-- settings:begin -->\n"} {
		write(broken)
		if err := update(readme, "new\n"); err == nil {
			t.Errorf("no error from update of %q", broken)
		}
		if err := compare(readme, "new\n"); err == nil {
			t.Errorf("no error from compare with %q", broken)
		}
	}

	write("# A\n<!-- settings:begin -->\nold\n<!-- settings:end -->\nrest\n")
	if err := compare(readme, "new\n"); err == nil || !strings.Contains(err.Error(), "run make docs") {
		t.Errorf("comparing an old table: %v", err)
	}
	if err := update(readme, "new\n"); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(readme)
	if want := "# A\n<!-- settings:begin -->\n\nnew\n\n<!-- settings:end -->\nrest\n"; err != nil || string(got) != want {
		t.Errorf("the readme is %q, %v; want %q", got, err, want)
	}
	if err := compare(readme, "new\n"); err != nil {
		t.Errorf("comparing a new table: %v", err)
	}
}
