// Command docs writes the table of settings into the README, between the
// markers <!-- settings:begin --> and <!-- settings:end -->, from the config
// structs: the variable and its default from the field's tags, what it does
// from the field's doc comment. So the page cannot say anything else than the
// code does.
//
//	go run ./deploy/docs          writes the table
//	go run ./deploy/docs -check   exits 1 when the table is not up to date
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// configs lists what the table shows, in its order, by paths from the root of
// the repository. A config within another is listed by itself.
func configs() []config {
	return []config{
		{"Intake", "intake/config.go", "Config"},
		{"Intake: what one report may cost", "intake/internal/breakpad/limits.go", "Limits"},
		{"Uploader", "uploader/config.go", "Config"},
		{"Bucket (uploader, crashctl)", "uploader/bucket.go", "S3"},
		{"Queue (intake, uploader, crashctl)", "pkg/queue/connect.go", "Config"},
		{"Logging (all programs)", "pkg/telemetry/log.go", "Config"},
		{"crashctl", "deploy/cmd/crashctl/config.go", "Config"},
		{"Local", "deploy/cmd/local/config.go", "Config"},
	}
}

func main() {
	check := flag.Bool("check", false, "write nothing; exit 1 when README.md is not up to date")
	flag.Parse()
	work := update
	if *check {
		work = compare
	}
	if err := run(work); err != nil {
		fmt.Fprintln(os.Stderr, "docs: "+err.Error())
		os.Exit(1)
	}
}

func run(work func(readme string, tables string) error) error {
	root, err := findRoot()
	if err != nil {
		return err
	}
	tables, err := render(root, configs())
	if err != nil {
		return err
	}
	return work(filepath.Join(root, "README.md"), tables)
}

// findRoot goes up from the working directory to the folder with go.work.
func findRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("finding the repository: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("finding the repository: no go.work here or above")
		}
		dir = filepath.Dir(dir)
	}
}

// update writes the tables into the readme. It returns an error when the file
// cannot be read or written, or lacks the markers.
func update(readme, tables string) error {
	old, err := os.ReadFile(readme)
	if err != nil {
		return fmt.Errorf("reading the readme: %w", err)
	}
	text, err := insert(string(old), tables)
	if err != nil {
		return err
	}
	if err := os.WriteFile(readme, []byte(text), 0o644); err != nil {
		return fmt.Errorf("writing the readme: %w", err)
	}
	return nil
}

// compare returns an error unless update would change nothing.
func compare(readme, tables string) error {
	old, err := os.ReadFile(readme)
	if err != nil {
		return fmt.Errorf("reading the readme: %w", err)
	}
	text, err := insert(string(old), tables)
	if err != nil {
		return err
	}
	if text != string(old) {
		return fmt.Errorf("the settings in %s are not those of the code; run make docs", filepath.Base(readme))
	}
	return nil
}

// insert puts the tables between the markers of a text.
func insert(text, tables string) (string, error) {
	const begin, end = "<!-- settings:begin -->\n", "<!-- settings:end -->"
	before, rest, found := strings.Cut(text, begin)
	_, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		return "", fmt.Errorf("the readme lacks the line %q or, below it, %q", strings.TrimSpace(begin), end)
	}
	return before + begin + "\n" + tables + "\n" + end + after, nil
}
