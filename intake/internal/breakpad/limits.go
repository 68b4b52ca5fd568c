package breakpad

// Limits bound what one report may cost. All are inclusive.
type Limits struct {
	Wire     int64 // body as it arrives, bytes
	Inflated int64 // body after Content-Encoding, bytes

	Parts int // parts of the multipart body
	Dumps int // parts that are files

	HeaderLines int // header lines of one part
	HeaderBytes int // header bytes of one part, below the size of the window

	Name      int // an annotation's name, bytes
	Value     int // an annotation sent as a form field, bytes
	JSON      int // the part that holds annotations as JSON, bytes
	JSONDepth int // nesting of that part

	Annotations int // in that part

	// Kept is the largest sum of all parts' bodies, in bytes: what is larger
	// cannot be stored, and need not be held in memory.
	Kept int
}

// DefaultLimits are above what any known client sends: Firefox has about 150
// annotations of which the largest holds some 10 kB, Electron caps values at
// 20,320 bytes, and dumps come one to five a report. Wire is the limit of the
// proxy that Antenna runs behind.
func DefaultLimits() Limits {
	return Limits{
		Wire:     25 << 20,
		Inflated: 100 << 20,

		Parts: 2000,
		Dumps: 16,

		HeaderLines: 32,
		HeaderBytes: 16 << 10,

		Name:      256,
		Value:     1 << 20,
		JSON:      4 << 20,
		JSONDepth: 64,

		Annotations: 2000,

		Kept: 8 << 20,
	}
}
