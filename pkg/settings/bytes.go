package settings

import (
	"fmt"
	"math"

	"github.com/dustin/go-humanize"
)

// Bytes is a number of bytes. As text it is a number with an optional unit of
// 1024 (KiB, MiB, GiB, ...) or of 1000 (kB, MB, GB, ...), in any case, with or
// without a space: "25MiB", "1 GB", "1048576".
type Bytes int64

// UnmarshalText reads a size. It returns an error when the text is not one, is
// negative, or exceeds 8 EiB less one byte.
func (b *Bytes) UnmarshalText(text []byte) error {
	n, err := humanize.ParseBytes(string(text))
	if err != nil {
		return fmt.Errorf("%q is not a size such as 25MiB, 1GB or 1048576", text)
	}
	if n > math.MaxInt64 {
		return fmt.Errorf("%q is too large a size", text)
	}
	*b = Bytes(n)
	return nil
}

// MarshalText is String, for JSON and logs. Its error is always nil.
func (b Bytes) MarshalText() ([]byte, error) {
	return []byte(b.String()), nil
}

// String names the size in the largest unit that divides it, so that nothing
// is rounded away: "25 MiB", "32 MB", "1025 B".
func (b Bytes) String() string {
	units := []struct {
		size int64
		name string
	}{
		{humanize.EiByte, "EiB"},
		{humanize.EByte, "EB"},
		{humanize.PiByte, "PiB"},
		{humanize.PByte, "PB"},
		{humanize.TiByte, "TiB"},
		{humanize.TByte, "TB"},
		{humanize.GiByte, "GiB"},
		{humanize.GByte, "GB"},
		{humanize.MiByte, "MiB"},
		{humanize.MByte, "MB"},
		{humanize.KiByte, "KiB"},
		{humanize.KByte, "kB"},
	}
	for _, u := range units {
		if b != 0 && int64(b)%u.size == 0 {
			return fmt.Sprintf("%d %s", int64(b)/u.size, u.name)
		}
	}
	return fmt.Sprintf("%d B", int64(b))
}
