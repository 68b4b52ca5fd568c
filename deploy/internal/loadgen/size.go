package loadgen

import (
	"fmt"
	"strings"

	"github.com/yagi-crash/yagi/pkg/settings"
)

// Size is how large dumps are: all sizes from Min to Max are equally frequent.
type Size struct{ Min, Max settings.Bytes }

const (
	// A dump has to be large enough to be unlike all others.
	leastSize = 16
	// Each connection has a dump and its body in memory.
	mostSize = 256 << 20
)

// UnmarshalText reads a size such as 400kB, or a range such as 100kB-2MB.
func (s *Size) UnmarshalText(text []byte) error {
	low, high, isRange := strings.Cut(string(text), "-")
	if !isRange {
		high = low
	}
	if err := s.Min.UnmarshalText([]byte(low)); err != nil {
		return err
	}
	if err := s.Max.UnmarshalText([]byte(high)); err != nil {
		return err
	}
	if s.Min < leastSize || s.Max > mostSize || s.Min > s.Max {
		return fmt.Errorf("%q is not a size, or a range of sizes, from 16B to 256MiB", text)
	}
	return nil
}

// String is the size as UnmarshalText reads it.
func (s *Size) String() string {
	if s.Min == s.Max {
		return s.Min.String()
	}
	return s.Min.String() + "-" + s.Max.String()
}
