package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// copyPatience is how long one message of a copy may take to be acknowledged.
	copyPatience = 10 * time.Second
	// copyAttempts is how often it is sent while nobody leads the stream, at
	// nats.go's pace of four a second: for as long as that.
	copyAttempts = 40
)

// Copier copies whole reports, their chunks too, from one stream to another: to
// the dead letters and back. It holds one message in memory at a time. Its
// methods may be called from any number of goroutines.
type Copier struct {
	js     jetstream.JetStream
	reader *Reader
}

// NewCopier returns a copier that asks and publishes over js.
func NewCopier(js jetstream.JetStream) *Copier {
	return &Copier{js: js, reader: NewReader(js)}
}

// Bury copies a ready message, given by its headers and body, to the dead letters,
// and returns once the copy is durable. The chunks that it lists come along; one
// that is not there is a 0 in the copy's manifest, if d.Partial. A message that is
// a dead letter already is not copied again, unless chunks of that one are missing.
// After an error there may be chunks among the dead letters that none lists.
func (c *Copier) Bury(ctx context.Context, header nats.Header, body []byte, d Death) error {
	p, ok := PartitionOf(d.Stream)
	if !ok {
		return fmt.Errorf("%s is no stream of reports", d.Stream)
	}
	msg := &nats.Msg{Subject: d.subject(p), Header: ownHeaders(header), Data: body}
	earlier, whole, err := c.earlier(ctx, msg.Subject)
	if err != nil || whole || earlier != 0 && (d.Partial || d.Damaged) {
		return err
	}
	var chunks *chunks
	if m, err := ReadManifest(header); err == nil && len(m.Chunks) > 0 {
		if chunks, err = c.buryChunks(ctx, m, &d, DeadChunkSubject(p), msg.Header); err != nil {
			return fmt.Errorf("copying the chunks of %s to %s: %w", m.ID, DeadLetterStream, err)
		}
	}
	d.write(msg.Header)
	err = c.commit(ctx, msg, DeadLetterStream, chunks, jetstream.WithExpectLastSequencePerSubject(earlier))
	if api, ok := errors.AsType[*jetstream.APIError](err); ok && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence {
		return nil // another uploader has made it
	}
	if err != nil {
		return fmt.Errorf("copying to %s: %w", DeadLetterStream, err)
	}
	return nil
}

// earlier returns the sequence of the dead letter that has the subject, 0 if there is
// none, and whether it is whole: its chunks went if the server that acknowledged them
// came back without its last messages.
func (c *Copier) earlier(ctx context.Context, subject string) (seq uint64, whole bool, err error) {
	var found struct {
		Stored

		Header []byte `json:"hdrs"`
	}
	there, err := c.reader.askLeader(ctx, DeadLetterStream, get{Last: subject}, &found)
	if err != nil || !there {
		return 0, false, err
	}
	header, err := nats.DecodeHeadersMsg(found.Header)
	if err != nil {
		return 0, false, fmt.Errorf("reading the header of message %d of %s: %w", found.Sequence, DeadLetterStream, err)
	}
	m, err := ReadManifest(header)
	if err != nil || len(m.Chunks) == 0 {
		return found.Sequence, true, nil // as the message that it is a copy of
	}
	_, err = c.reader.Read(ctx, DeadLetterStream, m, nil)
	if errors.Is(err, ErrIncomplete) || errors.Is(err, ErrDamaged) {
		return found.Sequence, false, nil
	}
	return found.Sequence, true, err
}

// buryChunks copies chunks to the dead letters. Where there is no room for all of
// them, none is copied: they would take the room of smaller reports.
func (c *Copier) buryChunks(ctx context.Context, m *Manifest, d *Death, subject string, header nats.Header) (*chunks, error) {
	s, err := c.js.Stream(ctx, DeadLetterStream)
	if err != nil {
		return nil, err
	}
	info := s.CachedInfo()
	if free := info.Config.MaxBytes - int64(info.State.Bytes); info.Config.MaxBytes > 0 && free < m.Size() {
		return nil, fmt.Errorf("%d bytes are free, %d are needed", free, m.Size())
	}
	return c.moveChunks(ctx, m, d.Stream, place{DeadLetterStream, subject, d.Partial}, header)
}

// Requeue copies a dead letter, given by its headers and body, to partition p, and
// returns once the copy is on disk. name makes it a message of its own: the server
// drops a second one of the same name within DuplicateWindow. The error wraps
// ErrVersion, ErrDamaged or ErrIncomplete when no uploader could read the report;
// then nothing was copied that anybody would see.
func (c *Copier) Requeue(ctx context.Context, header nats.Header, body []byte, p int, name string) error {
	m, err := ReadManifest(header)
	if err != nil {
		return err
	}
	msg := &nats.Msg{Subject: ReadySubject(p), Header: ownHeaders(header), Data: body}
	var chunks *chunks
	if len(m.Chunks) > 0 {
		to := place{StreamName(p), ChunkSubject(p), false}
		if chunks, err = c.moveChunks(ctx, m, DeadLetterStream, to, msg.Header); err != nil {
			return fmt.Errorf("copying the chunks of %s to %s: %w", m.ID, to.stream, err)
		}
	}
	msg.Header.Set(HeaderMsgID, name)
	if err := c.commit(ctx, msg, StreamName(p), chunks); err != nil {
		return fmt.Errorf("copying %s to %s: %w", m.ID, StreamName(p), err)
	}
	return nil
}

// InTime returns an error when a report's first chunk, sent no earlier than began,
// is older than half of ReadyDeadline: then its ready message must not follow any
// more, and one that was acknowledged at such an age does not count. Time that the
// process or its machine stood still counts, in which no timer runs.
func InTime(began time.Time) error {
	now := time.Now()
	monotonic, wall := now.Sub(began), now.Round(0).Sub(began.Round(0)) // the former stands still with the machine
	if age := max(monotonic, wall); age > ReadyDeadline/2 {
		return fmt.Errorf("the first chunk is %s old", age)
	}
	return nil
}

// place is where chunks go.
type place struct {
	stream, subject string
	partial         bool // some may be missing
}

// moveChunks copies the chunks that a manifest lists and rewrites the manifest in
// header, so that it lists the copies. One that is not there is an error that wraps
// ErrIncomplete, or a 0 in the manifest if it may be missing, as are those that the
// report's size has no room for.
func (c *Copier) moveChunks(ctx context.Context, m *Manifest, from string, to place, header nats.Header) (*chunks, error) {
	into, err := c.begin(ctx, to.stream)
	if err != nil {
		return nil, err
	}
	copies := make([]uint64, len(m.Chunks))
	room := m.Size() // a manifest may list more than it should
	for i, seq := range m.Chunks {
		data, err := c.reader.Message(ctx, from, seq)
		switch {
		case errors.Is(err, ErrIncomplete) && to.partial:
			continue
		case err != nil:
			return nil, fmt.Errorf("reading message %d: %w", seq, err)
		}
		if room -= int64(len(data)); room < 0 {
			break // what it would hold too much is damage, and was found to be
		}
		if copies[i], err = c.publish(ctx, &nats.Msg{Subject: to.subject, Data: data}, to.stream); err != nil {
			return nil, err
		}
		into.see(copies[i])
	}
	return into, relist(header, copies)
}

// relist has the manifest in header list other chunks, and leaves the rest of it
// as it is, what this release does not know too.
func relist(header nats.Header, chunks []uint64) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal([]byte(header.Get(HeaderManifest)), &fields); err != nil {
		return fmt.Errorf("reading %s: %w", HeaderManifest, err)
	}
	var err error
	if fields["chunks"], err = json.Marshal(chunks); err != nil {
		return fmt.Errorf("writing the chunks: %w", err)
	}
	text, err := json.Marshal(fields)
	if err != nil {
		return fmt.Errorf("writing %s: %w", HeaderManifest, err)
	}
	header.Set(HeaderManifest, string(text))
	return nil
}

// publish returns the sequence of a message once it is on disk. While nobody leads
// the stream it tries again.
func (c *Copier) publish(ctx context.Context, msg *nats.Msg, stream string, opts ...jetstream.PublishOpt) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, copyPatience)
	defer cancel()
	opts = append(opts, jetstream.WithExpectStream(stream), jetstream.WithRetryAttempts(copyAttempts))
	ack, err := c.js.PublishMsg(ctx, msg, opts...)
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

// ownHeaders returns a message's headers without those for the server, which were
// for another stream, and without those of a dead letter.
func ownHeaders(header nats.Header) nats.Header {
	own := nats.Header{}
	for key, values := range header {
		if !strings.HasPrefix(key, "Nats-") && !strings.HasPrefix(key, headerDeadPrefix) {
			own[key] = values
		}
	}
	return own
}
