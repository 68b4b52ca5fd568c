package queue

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

// Names of the headers that a dead letter has besides those of the report.
const (
	HeaderDeadClass     = "Yagi-Dead-Class"
	HeaderDeadCause     = "Yagi-Dead-Cause"
	HeaderDeadStream    = "Yagi-Dead-Stream"
	HeaderDeadSequence  = "Yagi-Dead-Sequence"
	HeaderDeadDelivered = "Yagi-Dead-Delivered"
	HeaderDeadAt        = "Yagi-Dead-At"

	headerDeadPrefix = "Yagi-Dead-"
)

const (
	// DeadReadySubjects matches the ready messages of all dead letters.
	DeadReadySubjects = "crashdlq.*.ready.>"
	// DeadChunkSubjects matches the chunks of all dead letters.
	DeadChunkSubjects = "crashdlq.*.chunk"
)

// DeadChunkSubject returns the subject of the pieces of partition p's dead
// letters.
func DeadChunkSubject(p int) string { return fmt.Sprintf("crashdlq.%d.chunk", p) }

// Death says why a report is a dead letter, and where it was.
type Death struct {
	Class     string // of the error, as the uploader's metrics have it
	Cause     string // the error in words, on one line, maxCause bytes at the most
	Stream    string
	Sequence  uint64    // of the ready message in Stream
	Stored    time.Time // that message was, on the server's clock
	Delivered uint64    // times
	At        time.Time
	// Partial has a report be copied of which a chunk is nowhere to be found.
	// Otherwise that is an error: there may be trouble which passes.
	Partial bool
	// Damaged has a copy that was made before not be compared with the manifest, which
	// the report does not match.
	Damaged bool
}

// maxCause bounds a dead letter's cause, in bytes: the server takes 64 KiB of
// headers.
const maxCause = 1 << 10

// write puts it into a dead letter's headers.
func (d *Death) write(header nats.Header) {
	header.Set(HeaderDeadClass, d.Class)
	header.Set(HeaderDeadCause, oneLine(d.Cause, maxCause))
	header.Set(HeaderDeadStream, d.Stream)
	header.Set(HeaderDeadSequence, strconv.FormatUint(d.Sequence, 10))
	header.Set(HeaderDeadDelivered, strconv.FormatUint(d.Delivered, 10))
	header.Set(HeaderDeadAt, d.At.UTC().Format(time.RFC3339Nano))
}

// subject is that of the dead letter of this message alone, so that there is never a
// second one: an uploader may be killed before it can tell that it has made one. A
// stream that was made anew counts from 1 again, hence the time.
func (d *Death) subject(p int) string {
	return fmt.Sprintf("crashdlq.%d.ready.%d.%d", p, d.Sequence, d.Stored.UnixNano())
}

// ReadDeath reads a dead letter's headers. Stored, Partial and Damaged are not among them. The error
// says what of them cannot be read; the rest is there.
func ReadDeath(header nats.Header) (Death, error) {
	d := Death{
		Class:  header.Get(HeaderDeadClass),
		Cause:  header.Get(HeaderDeadCause),
		Stream: header.Get(HeaderDeadStream),
	}
	var errs [3]error
	d.Sequence, errs[0] = strconv.ParseUint(header.Get(HeaderDeadSequence), 10, 64)
	d.Delivered, errs[1] = strconv.ParseUint(header.Get(HeaderDeadDelivered), 10, 64)
	d.At, errs[2] = time.Parse(time.RFC3339Nano, header.Get(HeaderDeadAt))
	if err := errors.Join(errs[:]...); err != nil {
		return d, fmt.Errorf("reading a dead letter's headers: %w", err)
	}
	return d, nil
}
