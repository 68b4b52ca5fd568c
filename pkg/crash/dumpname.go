package crash

import "strings"

// MinidumpName is the field under which every client sends the minidump
// proper (Socorro's spec_crashreport).
const MinidumpName = "upload_file_minidump"

// MaxDumpName is the longest dump name, in characters (Antenna's
// sanitize_key_name).
const MaxDumpName = 30

// DumpName turns a field's name into a dump name, which becomes part of a
// bucket key: only ASCII letters, digits and underscores are kept, 30 at the
// most. A name of which nothing is left, or one that is a folder of the
// bucket already, is refused with ReasonInvalidDumpName. (Antenna stores the
// empty one under "v1//<id>", where nobody finds it.)
func DumpName(field string) (string, error) {
	name := strings.Map(func(r rune) rune {
		if r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
			return r
		}
		return -1
	}, field)
	name = name[:min(len(name), MaxDumpName)]
	switch name {
	case "", "dump_names", "processed_crash", "raw_crash":
		return "", Malformed(ReasonInvalidDumpName, nil)
	}
	return name, nil
}
