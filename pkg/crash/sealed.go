package crash

import (
	"errors"
	"fmt"
	"io"
	"time"
)

// RawCrashName is the name of a sealed report's raw_crash part. No dump can
// have it (DumpName).
const RawCrashName = "raw_crash"

// ErrDigest means that a part is not what its digest says.
var ErrDigest = errors.New("SHA-256 differs")

// Sealed is a report that will not change any more: its raw_crash document is
// written and every part has its digest. It is what the queue carries and the
// bucket gets.
type Sealed struct {
	ID ID
	// IDGiven tells that the client chose the id (a resubmission): two
	// different reports may have the same one.
	IDGiven bool
	// Received is when the whole report had arrived at intake (UTC).
	Received time.Time
	RawCrash Part
	// Dumps are in the order in which they arrived, each name once.
	Dumps []Part
}

// Seal writes the report's raw_crash document and returns what is to be
// stored. An error is a fault of ours.
func (r *Report) Seal() (*Sealed, error) {
	doc, err := r.rawCrash()
	if err != nil {
		return nil, err
	}
	return &Sealed{
		ID:       r.ID,
		IDGiven:  r.IDGiven,
		Received: r.Received,
		RawCrash: NewPart(RawCrashName, doc, Sum(doc)),
		Dumps:    r.Dumps,
	}, nil
}

// Parts returns the raw_crash document and then the dumps.
func (s *Sealed) Parts() []Part {
	return append([]Part{s.RawCrash}, s.Dumps...)
}

// Size returns the size of all parts together, in bytes.
func (s *Sealed) Size() int64 {
	size := s.RawCrash.Size
	for _, d := range s.Dumps {
		size += d.Size
	}
	return size
}

// ReadAt reads from the parts as they lie back to back, raw_crash first. It
// implements io.ReaderAt.
func (s *Sealed) ReadAt(b []byte, off int64) (n int, err error) {
	for _, p := range s.Parts() {
		if off >= p.Size {
			off -= p.Size
			continue
		}
		want := min(int64(len(b)-n), p.Size-off)
		got, err := p.Data.ReadAt(b[n:n+int(want)], off)
		if n += got; int64(got) < want {
			return n, fmt.Errorf("reading a part of %s: %w", s.ID, err) // clients name dumps
		}
		if off = 0; n == len(b) {
			return n, nil
		}
	}
	return n, io.EOF
}

// Verify hashes every part and compares: the error wraps ErrDigest and names
// the first part that is damaged. A store that checks digests itself makes it
// unnecessary.
func (s *Sealed) Verify() error {
	for _, p := range s.Parts() {
		if err := p.Verify(); err != nil {
			return fmt.Errorf("verifying %s: %w", s.ID, err)
		}
	}
	return nil
}
