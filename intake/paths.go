package intake

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/yagi-crash/yagi/pkg/dockerflow"
)

const (
	// maxSubmitPaths and maxSubmitPath (bytes) are more than anybody has use for;
	// each request is compared with all of them.
	maxSubmitPaths = 32
	maxSubmitPath  = 1024
	// anySegment is a pattern's segment that stands for any one.
	anySegment = "*"
)

// submitPath is a pattern of INTAKE_SUBMIT_PATHS, by segments.
type submitPath []string

// String returns the pattern in its shortest form.
func (p submitPath) String() string { return "/" + strings.Join(p, "/") }

// parseSubmitPaths reads the setting. The error lists every problem, one a line.
func parseSubmitPaths(patterns []string) ([]submitPath, error) {
	if len(patterns) == 0 || len(patterns) > maxSubmitPaths {
		return nil, fmt.Errorf("%d paths, want at least 1 and at most %d", len(patterns), maxSubmitPaths)
	}
	var paths []submitPath
	var errs []error
	for _, text := range patterns {
		path, err := parseSubmitPath(text)
		if err == nil && slices.ContainsFunc(paths, func(p submitPath) bool { return slices.Equal(p, path) }) {
			err = fmt.Errorf("%q is there twice", text)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		paths = append(paths, path)
	}
	return paths, errors.Join(errs...)
}

func parseSubmitPath(text string) (submitPath, error) {
	switch path := segments(text); {
	case len(text) > maxSubmitPath:
		return nil, fmt.Errorf("%.20q... has %d bytes, want at most %d", text, len(text), maxSubmitPath)
	case !strings.HasPrefix(text, "/"):
		return nil, fmt.Errorf("%q does not begin with /", text)
	case strings.ContainsAny(text, "?#"):
		return nil, fmt.Errorf("%q has a ? or #: queries are ignored anyway", text)
	case strings.Contains(text, "%"):
		return nil, fmt.Errorf("%q has a percent sign: write what it stands for", text)
	case strings.ContainsFunc(text, func(r rune) bool { return r == ' ' || !unicode.IsPrint(r) }):
		return nil, fmt.Errorf("%q has a space or a character that is not printable", text)
	case slices.ContainsFunc(path, func(s string) bool { return s != anySegment && strings.Contains(s, anySegment) }):
		return nil, fmt.Errorf("%q: * must be a whole segment", text)
	case slices.Contains(path, ".") || slices.Contains(path, ".."):
		return nil, fmt.Errorf("%q has . or .. as a segment", text)
	case slices.Contains(dockerflow.Paths(), submitPath(path).String()):
		return nil, fmt.Errorf("%q is a Dockerflow page", text)
	default:
		return path, nil
	}
}

// match reports whether a request's path is one of those that the pattern stands for.
func (p submitPath) match(path []string) bool {
	return slices.EqualFunc(p, path, func(want, have string) bool { return want == anySegment || want == have })
}

// segments splits a path at its slashes, however many there are in a row or at the
// end: clients build URLs by joining texts, and a lost crash is no way to say that
// a slash is one too many.
func segments(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}
