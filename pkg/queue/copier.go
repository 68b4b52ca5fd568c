package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// copyPatience is how long one message of a copy may take to be acknowledged.
const copyPatience = 10 * time.Second

// Copier copies whole reports, their chunks too, from one stream to another: to
// the dead letters and back. It holds one message in memory at a time. Its
// methods may be called from any number of goroutines.
type Copier struct {
	js     jetstream.JetStream
	reader *Reader
}

// NewCopier returns a copier that asks and publishes over js.
func NewCopier(js jetstream.JetStream) *Copier {
	return &Copier{js: js, reader: NewReader(js.Conn())}
}

// Bury copies a ready message, given by its headers and body, to the dead letters,
// and returns once the copy is on disk. The chunks that it lists come along; one
// that is not there, or would not fit the report's size, is a 0 in the copy's
// manifest. A message that was copied less than DuplicateWindow ago is not copied
// again. After an error there may be chunks among the dead letters that none
// lists.
func (c *Copier) Bury(ctx context.Context, header nats.Header, body []byte, d Death) error {
	p, ok := PartitionOf(d.Stream)
	if !ok {
		return fmt.Errorf("%s is no stream of reports", d.Stream)
	}
	msg := &nats.Msg{Subject: DeadReadySubject(p), Header: ownHeaders(header), Data: body}
	if m, err := ReadManifest(header); err == nil && len(m.Chunks) > 0 {
		to := place{DeadLetterStream, DeadChunkSubject(p)}
		if err := c.moveChunks(ctx, m, d.Stream, to, msg.Header); err != nil {
			return fmt.Errorf("copying the chunks of %s to %s: %w", m.ID, DeadLetterStream, err)
		}
	}
	d.write(msg.Header)
	msg.Header.Set(HeaderMsgID, d.messageID())
	if _, err := c.publish(ctx, msg, DeadLetterStream); err != nil {
		return fmt.Errorf("copying to %s: %w", DeadLetterStream, err)
	}
	return nil
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
	began := time.Now()
	if len(m.Chunks) > 0 {
		to := place{StreamName(p), ChunkSubject(p)}
		if err := c.moveChunks(ctx, m, DeadLetterStream, to, msg.Header); err != nil {
			return fmt.Errorf("copying the chunks of %s to %s: %w", m.ID, to.stream, err)
		}
		if copied, err := ReadManifest(msg.Header); err != nil {
			return err
		} else if i := slices.Index(copied.Chunks, 0); i >= 0 {
			return fmt.Errorf("%w: chunk %d of %d of %s is not there", ErrIncomplete, i+1, len(copied.Chunks), m.ID)
		}
	}
	msg.Header.Set(HeaderMsgID, name)
	if err := InTime(began); err != nil {
		return err
	}
	if _, err := c.publish(ctx, msg, StreamName(p)); err != nil {
		return fmt.Errorf("copying %s to %s: %w", m.ID, StreamName(p), err)
	}
	return InTime(began)
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

// place is where messages go.
type place struct{ stream, subject string }

// moveChunks copies the chunks that a manifest lists and rewrites the manifest in
// header, so that it lists the copies: 0 for one that is not there.
func (c *Copier) moveChunks(ctx context.Context, m *Manifest, from string, to place, header nats.Header) error {
	copies := make([]uint64, len(m.Chunks))
	room := m.Size() // a manifest may list more than it should
	for i, seq := range m.Chunks {
		data, err := c.reader.fromLeader(ctx, from, seq)
		if errors.Is(err, ErrIncomplete) {
			continue
		}
		if err != nil {
			return fmt.Errorf("reading message %d: %w", seq, err)
		}
		if room -= int64(len(data)); room < 0 {
			break
		}
		if copies[i], err = c.publish(ctx, &nats.Msg{Subject: to.subject, Data: data}, to.stream); err != nil {
			return err
		}
	}
	return relist(header, copies)
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

// publish returns the sequence of a message once it is on disk.
func (c *Copier) publish(ctx context.Context, msg *nats.Msg, stream string) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, copyPatience)
	defer cancel()
	ack, err := c.js.PublishMsg(ctx, msg, jetstream.WithExpectStream(stream))
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
