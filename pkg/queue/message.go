package queue

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
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
	// ErrChunked means that the message's body lies in chunks, which Decode
	// does not gather.
	ErrChunked = errors.New("report lies in chunks")
)

// Manifest says what a ready message holds.
type Manifest struct {
	ID       crash.ID  `json:"id"`
	Received time.Time `json:"received"` // when intake had the whole report
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
	Size   int          `json:"size"` // bytes
	SHA256 crash.Digest `json:"sha256"`
}

// Encode returns the message that carries a report, without its subject. The
// body takes buf's memory, if that is enough of it. maxBody is the largest body
// that fits one message (InlineLimit), in bytes; a larger report is an error
// that wraps nats.ErrMaxPayload. Another error is that of whatever keeps the
// report's parts.
func Encode(buf []byte, s *crash.Sealed, maxBody int) (*nats.Msg, error) {
	manifest, size := manifestOf(s)
	if size > maxBody {
		return nil, fmt.Errorf("encoding %s of %d bytes into a message of at most %d: %w", s.ID, size, maxBody, nats.ErrMaxPayload)
	}
	text, err := json.Marshal(manifest)
	if err != nil {
		return nil, fmt.Errorf("writing the manifest of %s: %w", s.ID, err)
	}
	body := slices.Grow(buf[:0], size)
	for _, p := range s.Parts() {
		if body, err = p.AppendTo(body); err != nil {
			return nil, fmt.Errorf("encoding %s: %w", s.ID, err)
		}
	}
	return &nats.Msg{
		Header: nats.Header{
			HeaderMsgID:    {messageID(s)},
			HeaderFormat:   {strconv.Itoa(Format)},
			HeaderManifest: {string(text)},
		},
		Data: body,
	}, nil
}

func manifestOf(s *crash.Sealed) (m Manifest, size int) {
	m = Manifest{ID: s.ID, Received: s.Received}
	for _, p := range s.Parts() {
		m.Parts = append(m.Parts, ManifestPart{Name: p.Name, Size: int(p.Size), SHA256: p.SHA256})
		size += int(p.Size)
	}
	return m, size
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

// readManifest reads a ready message's headers. The error wraps ErrVersion or
// ErrDamaged.
func readManifest(header nats.Header) (*Manifest, error) {
	version, err := strconv.Atoi(header.Get(HeaderFormat))
	if err != nil {
		return nil, fmt.Errorf("%w: reading %s: %w", ErrDamaged, HeaderFormat, err)
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

// check holds a manifest to what makes it safe to turn into bucket keys.
func (m *Manifest) check() error {
	if _, err := crash.ParseID(string(m.ID)); err != nil {
		return fmt.Errorf("reading the manifest's id: %w", err)
	}
	if len(m.Parts) == 0 || m.Parts[0].Name != crash.RawCrashName {
		return errors.New("the manifest does not begin with raw_crash")
	}
	seen := map[string]bool{}
	for i, p := range m.Parts {
		if p.Size < 0 {
			return fmt.Errorf("part %s has a negative size", p.Name)
		}
		if clean, err := crash.DumpName(p.Name); i > 0 && (err != nil || clean != p.Name) {
			return fmt.Errorf("part %d has no dump's name", i)
		}
		if seen[p.Name] {
			return fmt.Errorf("part %s is there twice", p.Name)
		}
		seen[p.Name] = true
	}
	return nil
}

// Decode reads a message that Encode made. The parts of the result lie in
// body, uncopied. Sizes are checked and so is the digest of raw_crash; the
// dumps' digests are not, since the bucket checks them as it takes them
// (crash.Sealed's Verify does so too). The error wraps ErrVersion, ErrDamaged
// or ErrChunked.
func Decode(header nats.Header, body []byte) (*crash.Sealed, error) {
	m, err := readManifest(header)
	if err != nil {
		return nil, err
	}
	if len(m.Chunks) > 0 {
		return nil, fmt.Errorf("decoding %s: %w", m.ID, ErrChunked)
	}
	s := &crash.Sealed{ID: m.ID, Received: m.Received}
	for i, p := range m.Parts {
		if p.Size > len(body) {
			return nil, fmt.Errorf("%w: %s ends within %s", ErrDamaged, m.ID, p.Name)
		}
		data := body[:p.Size:p.Size]
		body = body[p.Size:]
		part := crash.NewPart(p.Name, data, p.SHA256)
		if i == 0 {
			if crash.Sum(data) != p.SHA256 {
				return nil, fmt.Errorf("%w: checking raw_crash of %s: %w", ErrDamaged, m.ID, crash.ErrDigest)
			}
			s.RawCrash = part
			continue
		}
		s.Dumps = append(s.Dumps, part)
	}
	if len(body) > 0 {
		return nil, fmt.Errorf("%w: %s has %d bytes too many", ErrDamaged, m.ID, len(body))
	}
	return s, nil
}
