package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each line of ANTENNA.md names rows of the matrix of bad input, and each of
// those is a test of intake.
func TestAntennaDifferencesAreTested(t *testing.T) {
	page, err := os.ReadFile("../ANTENNA.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("../../intake/matrix_*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var tests strings.Builder
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		tests.Write(source)
	}
	lines := regexp.MustCompile(`(?m)^\| (\d+[0-9a-c, ]*) \|`).FindAllStringSubmatch(string(page), -1)
	if len(lines) < 40 {
		t.Fatalf("%d lines with rows, want them all", len(lines))
	}
	for _, line := range lines {
		for row := range strings.SplitSeq(line[1], ", ") {
			if !strings.Contains(tests.String(), `"row `+row+" ") {
				t.Errorf("row %s has no test", row)
			}
		}
	}
}
