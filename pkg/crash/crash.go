// Package crash holds the words that both tiers share: a crash report, its
// annotations and dumps, its id, and the reasons for which a report is turned
// away. It knows nothing of the queue or of the bucket, and of HTTP no more than
// the statuses of refusals; it needs only the standard library.
//
// The vocabulary and its rules are those of Mozilla's Antenna (the Socorro
// collector), so that a Socorro processor can read what Yagi stores.
package crash

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"
	"unicode/utf8"
)

// Report is one crash report on its way from a client to the bucket.
type Report struct {
	// ID is the report's name everywhere; empty until the throttler has ruled.
	ID ID
	// IDGiven tells that the client chose the id (see Sealed).
	IDGiven bool
	// Received is when the whole report had arrived at intake (UTC).
	Received time.Time
	// Annotations is what the client says about the crash.
	Annotations Annotations
	// Dumps are the files of the report in the order in which they arrived,
	// each name once.
	Dumps []Part
	// Metadata is what the collector says about the report.
	Metadata Metadata
}

// Annotations maps each annotation's name to its value as JSON text: a form
// field is a JSON string, a value of a JSON part is kept as it was sent. Whoever
// fills it sees to it that values are JSON and names are UTF-8.
type Annotations map[string]json.RawMessage

// Part is one named piece of a report: a dump, or its raw_crash document.
type Part struct {
	// Name is a dump's name, which DumpName has let through, or RawCrashName.
	Name string
	// Size is the piece's size in bytes.
	Size int64
	// SHA256 is the piece's digest, taken once as the bytes arrive; every
	// later station hands it on, and the bucket compares.
	SHA256 Digest
	// Data gives the piece, byte for byte: from memory, or from wherever the
	// tier that has it keeps such things.
	Data io.ReaderAt
}

// NewPart returns a part that lies in memory, whose digest is known.
func NewPart(name string, data []byte, sum Digest) Part {
	return Part{Name: name, Size: int64(len(data)), SHA256: sum, Data: bytes.NewReader(data)}
}

// Reader returns a reader of the part from its beginning.
func (p Part) Reader() *io.SectionReader { return io.NewSectionReader(p.Data, 0, p.Size) }

// AppendTo appends the part to b. The error is that of whatever keeps the part.
func (p Part) AppendTo(b []byte) ([]byte, error) {
	start := len(b)
	b = slices.Grow(b, int(p.Size))[:start+int(p.Size)]
	if _, err := io.ReadFull(p.Reader(), b[start:]); err != nil {
		return nil, fmt.Errorf("reading a part: %w", err) // clients name dumps
	}
	return b, nil
}

// Verify reads the part and compares. The error wraps ErrDigest when it is
// damaged.
func (p Part) Verify() error {
	h := sha256.New()
	if _, err := io.Copy(h, p.Reader()); err != nil {
		return fmt.Errorf("reading %s: %w", p.Name, err)
	}
	if Digest(h.Sum(nil)) != p.SHA256 {
		return fmt.Errorf("checking %s: %w", p.Name, ErrDigest)
	}
	return nil
}

// Digest is a SHA-256 sum; as text it is lower-case hexadecimal.
type Digest [sha256.Size]byte

// Sum returns the digest of data.
func Sum(data []byte) Digest { return sha256.Sum256(data) }

// String returns the digest in lower-case hexadecimal.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText returns the digest in lower-case hexadecimal.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads 64 hexadecimal digits.
func (d *Digest) UnmarshalText(text []byte) error {
	if len(text) != hex.EncodedLen(len(d)) {
		return fmt.Errorf("reading a SHA-256: %d characters, want %d", len(text), hex.EncodedLen(len(d)))
	}
	if _, err := hex.Decode(d[:], text); err != nil {
		return fmt.Errorf("reading a SHA-256: %w", err)
	}
	return nil
}

// Text returns s as an annotation's value: a JSON string. Bytes that are not
// UTF-8 become U+FFFD.
func Text(s string) json.RawMessage {
	if isPlain(s) {
		return append(append(append(make([]byte, 0, len(s)+len(`""`)), '"'), s...), '"')
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false) // six bytes for one
	if err := enc.Encode(s); err != nil {
		panic("crash: a string always marshals: " + err.Error())
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}

// isPlain tells whether s is itself between quotes, as most annotations are.
func isPlain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}
