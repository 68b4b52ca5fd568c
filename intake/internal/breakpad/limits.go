package breakpad

import (
	"errors"
	"fmt"

	"github.com/yagi-crash/yagi/pkg/settings"
)

// Limits bound what one report may cost. All are inclusive, and above what any
// known client sends: Firefox has about 150 annotations of which the largest
// holds some 10 kB, Electron caps values at 20,320 bytes, and dumps come one to
// five a report. The body's is that of the proxy that Antenna runs behind.
type Limits struct {
	// Wire is the largest body on the wire; a larger one is answered 413. It is
	// also what a proxy in front must allow.
	Wire settings.Bytes `env:"INTAKE_MAX_BODY" envDefault:"25MiB"`
	// Inflated is the largest body after decompression; a larger one is answered
	// 413.
	Inflated settings.Bytes `env:"INTAKE_MAX_INFLATED" envDefault:"100MiB"`
	// Ratio bounds how large a body may be after decompression: 64 KiB plus this many times
	// its size on the wire; a larger one is answered 413. Minidumps grow 3 to 15 times.
	Ratio int `env:"INTAKE_MAX_INFLATE_RATIO" envDefault:"40"`
	// Parts is how many parts a report may have, fields and files together.
	Parts int `env:"INTAKE_MAX_PARTS" envDefault:"2000"`
	// Dumps is how many of them may be files, each of which becomes an object in
	// the bucket.
	Dumps int `env:"INTAKE_MAX_DUMPS" envDefault:"16"`
	// HeaderLines is how many header lines a part may have.
	HeaderLines int `env:"INTAKE_MAX_PART_HEADER_LINES" envDefault:"32"`
	// HeaderBytes is the size of a part's header lines together, 32KiB at most.
	HeaderBytes settings.Bytes `env:"INTAKE_MAX_PART_HEADER_BYTES" envDefault:"16KiB"`
	// Annotations is how many annotations a report may have.
	Annotations int `env:"INTAKE_MAX_ANNOTATIONS" envDefault:"2000"`
	// Name is the longest name of an annotation; one with a longer name is dropped
	// with a note.
	Name settings.Bytes `env:"INTAKE_MAX_ANNOTATION_NAME" envDefault:"256B"`
	// Value is the longest value of an annotation that is a form field; a longer
	// one is dropped with a note.
	Value settings.Bytes `env:"INTAKE_MAX_ANNOTATION_VALUE" envDefault:"1MiB"`
	// JSON is the largest size of all annotations together, written as JSON; a
	// report with more is answered 413.
	JSON settings.Bytes `env:"INTAKE_MAX_JSON" envDefault:"4MiB"`
	// JSONDepth is how deeply that may nest.
	JSONDepth int `env:"INTAKE_MAX_JSON_DEPTH" envDefault:"64"`

	// Kept is the largest sum of all parts' bodies, in bytes: what is larger
	// cannot be stored.
	Kept int
}

// freeInflation is the inflated size that any body may have, in bytes: annotations alone
// compress well. Ten thousand posts of 250 bytes that came to a MiB each would fill a
// stream of 10 GiB.
const freeInflation = 64 << 10

// inflated returns the largest inflated size of a body of that wire size, in bytes.
func (l *Limits) inflated(wire int64) int64 {
	return min(int64(l.Inflated), freeInflation+int64(l.Ratio)*wire)
}

// headerBytes returns the largest size of the header lines of all parts together, in
// bytes. They cost many times more to read than other bytes, and no client comes near.
func (l *Limits) headerBytes() int { return int(l.HeaderBytes) + l.Parts*usualHeader }

// usualHeader is more than the header lines of a usual part take, in bytes.
const usualHeader = 512

// maxRatio is far above what deflate reaches (1032), and where no sum overflows.
const maxRatio = 1 << 20

// maxLimit is more than anybody has use for, and far from where sums overflow.
const maxLimit = 1 << 40

// maxPartHeader is the most that a part's headers may be let have: they must fit
// the window, in bytes.
const maxPartHeader = WindowSize / 2

// Validate names the limits that cannot be.
func (l *Limits) Validate() error {
	var problems []error
	for name, n := range map[string]int64{
		"INTAKE_MAX_BODY": int64(l.Wire), "INTAKE_MAX_INFLATED": int64(l.Inflated), "INTAKE_MAX_PARTS": int64(l.Parts),
		"INTAKE_MAX_DUMPS": int64(l.Dumps), "INTAKE_MAX_PART_HEADER_LINES": int64(l.HeaderLines),
		"INTAKE_MAX_PART_HEADER_BYTES": int64(l.HeaderBytes), "INTAKE_MAX_ANNOTATIONS": int64(l.Annotations),
		"INTAKE_MAX_ANNOTATION_NAME": int64(l.Name), "INTAKE_MAX_ANNOTATION_VALUE": int64(l.Value),
		"INTAKE_MAX_JSON": int64(l.JSON), "INTAKE_MAX_JSON_DEPTH": int64(l.JSONDepth),
	} {
		if n <= 0 || n > maxLimit {
			problems = append(problems, fmt.Errorf("%s: must be above 0 and at most %d", name, int64(maxLimit)))
		}
	}
	if l.Ratio <= 0 || l.Ratio > maxRatio {
		problems = append(problems, fmt.Errorf("INTAKE_MAX_INFLATE_RATIO: must be above 0 and at most %d", maxRatio))
	}
	if l.HeaderBytes > maxPartHeader {
		problems = append(problems, fmt.Errorf("INTAKE_MAX_PART_HEADER_BYTES: %d is above %d", l.HeaderBytes, maxPartHeader))
	}
	return errors.Join(problems...)
}
