package throttle

import (
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Names of the built-in rule sets.
const (
	AcceptAll = "accept_all" // keeps every report
	Mozilla   = "mozilla"    // Antenna's MOZILLA_RULES, for the products of Mozilla
)

//go:embed accept_all.yaml mozilla.yaml
var builtin embed.FS

// MaxFile is the largest rule file, in bytes.
const MaxFile = 1 << 20

// IsFile tells whether a source is the path of a file, and not the name of a
// built-in rule set: it has a slash, or ends in .yaml or .yml.
func IsFile(source string) bool {
	return strings.Contains(source, "/") || strings.HasSuffix(source, ".yaml") || strings.HasSuffix(source, ".yml")
}

// Read returns the bytes of a rule set: of the file, or of the built-in of that
// name. An unknown name is an error that lists the known ones, a file above
// MaxFile is a *FileError, and what is not a regular file is an error: opening a
// pipe may hang.
func Read(source string) ([]byte, error) {
	if !IsFile(source) {
		data, err := builtin.ReadFile(source + ".yaml")
		if err != nil {
			return nil, fmt.Errorf("no rule set named %q: there are %s and %s, and files, whose names have a slash or end in .yaml", source, AcceptAll, Mozilla)
		}
		return data, nil
	}
	info, err := os.Stat(source)
	if err != nil {
		return nil, fmt.Errorf("reading throttle rules: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("reading throttle rules: " + source + " is not a regular file")
	}
	f, err := os.Open(filepath.Clean(source))
	if err != nil {
		return nil, fmt.Errorf("reading throttle rules: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("reading throttle rules: %w", err)
	}
	if len(data) > MaxFile {
		return nil, &FileError{source, []Problem{{1, 1, "", "the file is larger than 1 MiB"}}}
	}
	return data, nil
}
