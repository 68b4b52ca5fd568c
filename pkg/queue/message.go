package queue

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/yagi-crash/yagi/pkg/crash"
)

// Names of the message headers.
const (
	HeaderMsgID    = nats.MsgIdHdr
	HeaderFormat   = "Yagi-Format"
	HeaderManifest = "Yagi-Manifest"
)

// Format is the version that Encode writes.
const Format = 1

var (
	// ErrVersion means that the message is of a version that this release
	// does not know: hand it back, a newer uploader will read it.
	ErrVersion = errors.New("unknown message format")
	// ErrDamaged means that the message is not what its manifest says, or
	// has none: no release will ever read it.
	ErrDamaged = errors.New("damaged message")
	// ErrIncomplete means that a chunk that the message lists is not in the
	// stream.
	ErrIncomplete = errors.New("incomplete report")
)

// Manifest says what a ready message holds.
type Manifest struct {
	ID       crash.ID  `json:"id"`
	Received time.Time `json:"received"` // when intake had the whole report
	// IDGiven says that the client chose the id, so that another report may have the
	// same one.
	IDGiven bool `json:"id_given,omitempty"`
	// Parts lists the raw_crash document and then the dumps, as they lie in
	// the body.
	Parts []ManifestPart `json:"parts"`
	// Chunks are the stream sequences of the messages that hold the body, in
	// order; empty when the body is in the ready message itself.
	Chunks []uint64 `json:"chunks,omitempty"`
}

// ManifestPart is one part of the body.
type ManifestPart struct {
	Name   string       `json:"name"`
	Size   int64        `json:"size"` // bytes
	SHA256 crash.Digest `json:"sha256"`
}

// Encode returns the message that carries a whole report, without its subject.
// The body takes buf's memory, if that is enough of it. maxBody is the largest
// body that fits one message (InlineLimit), in bytes; a larger report is an
// error that wraps nats.ErrMaxPayload, and goes in chunks (EncodeChunked).
// Another error is that of whatever keeps the report's parts.
func Encode(buf []byte, s *crash.Sealed, maxBody int) (*nats.Msg, error) {
	if s.Size() > int64(maxBody) {
		return nil, fmt.Errorf("encoding %s of %d bytes into a message of at most %d: %w", s.ID, s.Size(), maxBody, nats.ErrMaxPayload)
	}
	header, err := headerOf(s, nil)
	if err != nil {
		return nil, err
	}
	body := slices.Grow(buf[:0], int(s.Size()))
	for _, p := range s.Parts() {
		if body, err = p.AppendTo(body); err != nil {
			return nil, fmt.Errorf("encoding %s: %w", s.ID, err)
		}
	}
	return &nats.Msg{Header: header, Data: body}, nil
}

// EncodeChunked returns the ready message of a report whose body lies in chunks
// (ChunkSize): the stream sequences of those, in order, all acknowledged. It has
// no body and no subject.
func EncodeChunked(s *crash.Sealed, chunks []uint64) (*nats.Msg, error) {
	header, err := headerOf(s, chunks)
	if err != nil {
		return nil, err
	}
	return &nats.Msg{Header: header}, nil
}

func headerOf(s *crash.Sealed, chunks []uint64) (nats.Header, error) {
	m := Manifest{ID: s.ID, Received: s.Received, IDGiven: s.IDGiven, Chunks: chunks}
	for _, p := range s.Parts() {
		m.Parts = append(m.Parts, ManifestPart{Name: p.Name, Size: p.Size, SHA256: p.SHA256})
	}
	text, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("writing the manifest of %s: %w", s.ID, err)
	}
	return nats.Header{
		HeaderMsgID:    {messageID(s)},
		HeaderFormat:   {strconv.Itoa(Format)},
		HeaderManifest: {string(text)},
	}, nil
}

// messageID is what the server tells repetitions by. A report's own id will
// do, unless the client chose it: then two different reports may have the
// same one, and the server must keep both, so the digests are part of it.
func messageID(s *crash.Sealed) string {
	if !s.IDGiven {
		return string(s.ID)
	}
	h := sha256.New()
	for _, p := range s.Parts() {
		h.Write(p.SHA256[:])
	}
	return fmt.Sprintf("%s-%x", s.ID, h.Sum(nil)[:16])
}

// Size returns the size of the body, in bytes.
func (m *Manifest) Size() int64 {
	var size int64
	for _, p := range m.Parts {
		size += p.Size
	}
	return size
}

// ReadManifest reads a ready message's headers. The error wraps ErrVersion or
// ErrDamaged.
func ReadManifest(header nats.Header) (*Manifest, error) {
	version, err := strconv.Atoi(header.Get(HeaderFormat))
	if err != nil {
		return nil, fmt.Errorf("%w: its %s is %q, not a number", ErrDamaged, HeaderFormat, header.Get(HeaderFormat))
	}
	if version != Format {
		return nil, fmt.Errorf("%w: %d, this release reads %d", ErrVersion, version, Format)
	}
	var m Manifest
	if err := json.Unmarshal([]byte(header.Get(HeaderManifest)), &m); err != nil {
		return nil, fmt.Errorf("%w: reading %s: %w", ErrDamaged, HeaderManifest, err)
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return &m, nil
}

// MaxReport is the largest report that the queue carries, in bytes: an uploader
// holds one whole in memory.
const MaxReport = 1 << 30

// check holds a manifest to what makes it safe to turn into bucket keys, and to
// set memory aside for.
func (m *Manifest) check() error {
	if _, err := crash.ParseID(string(m.ID)); err != nil {
		return fmt.Errorf("reading the manifest's id: %w", err)
	}
	if len(m.Parts) == 0 || m.Parts[0].Name != crash.RawCrashName {
		return errors.New("the manifest does not begin with raw_crash")
	}
	seen := map[string]bool{}
	for i, p := range m.Parts {
		if p.Size < 0 || p.Size > MaxReport { // no sum of them overflows
			return fmt.Errorf("part %s cannot have %d bytes", p.Name, p.Size)
		}
		if clean, err := crash.DumpName(p.Name); i > 0 && (err != nil || clean != p.Name) {
			return fmt.Errorf("part %d has no dump's name", i)
		}
		if seen[p.Name] {
			return fmt.Errorf("part %s is there twice", p.Name)
		}
		seen[p.Name] = true
	}
	if n := int64(len(m.Chunks)); n > 0 && m.Size() > min(n*MaxPayload, MaxReport) {
		return fmt.Errorf("%d chunks cannot hold %d bytes", n, m.Size())
	}
	return nil
}

// Decode returns the report that lies in a ready message of its own. The parts
// lie in body, uncopied. Sizes are checked and so is the digest of raw_crash; the
// dumps' digests are not, since the bucket checks them as it takes them
// (crash.Sealed's Verify does so too). The error wraps ErrDamaged, or
// ErrIncomplete when the report lies in chunks, which a Reader gathers.
func (m *Manifest) Decode(body []byte) (*crash.Sealed, error) {
	if n := len(m.Chunks); n > 0 {
		return nil, fmt.Errorf("%w: %s lies in %d chunks", ErrIncomplete, m.ID, n)
	}
	s, err := m.cut(int64(len(body)), func(at, size int64) io.ReaderAt {
		return bytes.NewReader(body[at : at+size])
	})
	if err != nil {
		return nil, err
	}
	if crash.Sum(body[:s.RawCrash.Size]) != s.RawCrash.SHA256 {
		return nil, fmt.Errorf("%w: checking raw_crash of %s: %w", ErrDamaged, m.ID, crash.ErrDigest)
	}
	return s, nil
}

// cut makes a report of a body of that size, of which data gives a piece. Digests
// are not checked.
func (m *Manifest) cut(size int64, data func(at, size int64) io.ReaderAt) (*crash.Sealed, error) {
	if want := m.Size(); size != want {
		return nil, fmt.Errorf("%w: %s has %d bytes, should have %d", ErrDamaged, m.ID, size, want)
	}
	s := &crash.Sealed{ID: m.ID, Received: m.Received, IDGiven: m.IDGiven}
	var at int64
	for i, p := range m.Parts {
		part := crash.Part{Name: p.Name, Size: p.Size, SHA256: p.SHA256, Data: data(at, p.Size)}
		at += p.Size
		if i == 0 {
			s.RawCrash = part
		} else {
			s.Dumps = append(s.Dumps, part)
		}
	}
	return s, nil
}
