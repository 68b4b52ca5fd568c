// Package deadletters looks after the reports that can never be stored: it reads
// them, puts them back into the queue, and removes them.
package deadletters

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/yagi-crash/yagi/deploy/internal/scan"
	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/queue"
)

// Letter is a dead letter, without its body.
type Letter struct {
	// Sequence is its number among the dead letters, which names it.
	Sequence uint64    `json:"sequence"`
	Stored   time.Time `json:"stored"` // on the server's clock
	// Class and Cause say why it is dead, From and FromSequence where it was.
	Class        string    `json:"class"`
	Cause        string    `json:"cause"`
	From         string    `json:"from"`
	FromSequence uint64    `json:"from_sequence"`
	Delivered    uint64    `json:"delivered"`
	At           time.Time `json:"at"`
	// ID is empty when the message does not say what it holds; then there are no
	// Parts either.
	ID    crash.ID             `json:"crash_id"`
	Size  int64                `json:"size"` // bytes, chunks and all
	Parts []queue.ManifestPart `json:"parts"`
	// Chunks are its pieces, by their sequences among the dead letters; 0 for one
	// that is lost.
	Chunks []uint64 `json:"chunks"`

	header nats.Header
	newer  bool // of a format that this release does not read
}

// ErrGone means that somebody else has requeued or dropped a dead letter since it was
// listed.
var ErrGone = errors.New("it is no dead letter any more")

// Letters are the dead letters of a server.
type Letters struct {
	js     jetstream.JetStream
	stream jetstream.Stream
	copier *queue.Copier
	reader *queue.Reader
}

// Open returns the dead letters of the server behind js. The error wraps
// jetstream.ErrStreamNotFound when the stream is missing.
func Open(ctx context.Context, js jetstream.JetStream) (*Letters, error) {
	stream, err := js.Stream(ctx, queue.DeadLetterStream)
	if err != nil {
		return nil, fmt.Errorf("looking for %s: %w", queue.DeadLetterStream, err)
	}
	return &Letters{js: js, stream: stream, copier: queue.NewCopier(js), reader: queue.NewReader(js)}, nil
}

// List returns all dead letters, oldest first.
func (l *Letters) List(ctx context.Context) ([]Letter, error) {
	all := []Letter{} // in JSON too
	err := scan.Each(ctx, l.js, queue.DeadLetterStream, scan.Window{Subject: queue.DeadReadySubjects, HeadersOnly: true}, func(m *scan.Message) error {
		all = append(all, letterOf(m))
		return nil
	})
	return all, err
}

func letterOf(m *scan.Message) Letter {
	d, _ := queue.ReadDeath(m.Header) // what cannot be read of it is zero
	letter := Letter{
		Sequence: m.Sequence, Stored: m.Time,
		Class: d.Class, Cause: d.Cause, From: d.Stream, FromSequence: d.Sequence, Delivered: d.Delivered, At: d.At,
		Size: m.Size, Parts: []queue.ManifestPart{}, Chunks: []uint64{},
		header: m.Header,
	}
	manifest, err := queue.ReadManifest(m.Header)
	letter.newer = errors.Is(err, queue.ErrVersion)
	if err == nil {
		letter.ID, letter.Parts = manifest.ID, manifest.Parts
		letter.Chunks = append(letter.Chunks, manifest.Chunks...)
		letter.Size = max(letter.Size, manifest.Size())
	}
	return letter
}

// Requeue puts a dead letter back into the queue, into the partition where it was
// or, if that is no more, the one of n that it belongs to; then it removes it. A
// second Requeue within queue.DuplicateWindow, because the first could not remove
// it, puts nothing back. The error wraps ErrGone, or queue.ErrDamaged,
// queue.ErrIncomplete or queue.ErrVersion when no uploader could read it.
func (l *Letters) Requeue(ctx context.Context, letter Letter, n int) error {
	err := l.putBack(ctx, letter, n)
	if err == nil {
		return l.Drop(ctx, letter)
	}
	if l.gone(ctx, letter.Sequence) {
		return ErrGone
	}
	return err
}

func (l *Letters) putBack(ctx context.Context, letter Letter, n int) error {
	body, err := l.message(ctx, letter.Sequence)
	if err != nil {
		return err
	}
	p, ok := queue.PartitionOf(letter.From)
	if ok {
		_, err = l.js.Stream(ctx, letter.From)
	}
	switch {
	case !ok || errors.Is(err, jetstream.ErrStreamNotFound):
		p = queue.Partition(letter.ID, n)
	case err != nil:
		return fmt.Errorf("looking for %s: %w", letter.From, err)
	}
	name := fmt.Sprintf("requeued-%d-%d", letter.Sequence, letter.Stored.UnixNano())
	return l.copier.Requeue(ctx, letter.header, body, p, name)
}

// Readable returns the error with which Requeue would refuse the letter: no uploader
// could read it.
func (l Letter) Readable() error {
	if _, err := queue.ReadManifest(l.header); err != nil {
		return err
	}
	if slices.Contains(l.Chunks, 0) {
		return fmt.Errorf("%w: a chunk is lost", queue.ErrIncomplete)
	}
	return nil
}

// Drop removes a dead letter for good: first what makes it one, then its pieces.
func (l *Letters) Drop(ctx context.Context, letter Letter) error {
	var errs []error
	for _, seq := range append([]uint64{letter.Sequence}, letter.Chunks...) {
		if seq == 0 {
			continue
		}
		if err := l.stream.DeleteMsg(ctx, seq); err != nil && !l.gone(ctx, seq) {
			errs = append(errs, fmt.Errorf("removing message %d of %s: %w", seq, queue.DeadLetterStream, err))
		}
	}
	return errors.Join(errs...)
}

// Strays returns the chunks of at least that age that no dead letter lists: those
// of copies that were interrupted. One that is younger than queue.ReadyDeadline may
// be of a copy that is being made. While there is a dead letter that a newer release
// made, nobody here knows which chunks it lists: that is an error.
func (l *Letters) Strays(ctx context.Context, letters []Letter, age time.Duration) ([]uint64, error) {
	listed := map[uint64]bool{}
	for _, letter := range letters {
		if letter.newer {
			return nil, fmt.Errorf("dead letter %d is of a newer format, and may list any chunk: use a newer crashctl", letter.Sequence)
		}
		for _, seq := range letter.Chunks {
			listed[seq] = true
		}
	}
	info, err := l.stream.Info(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking for %s: %w", queue.DeadLetterStream, err)
	}
	var strays []uint64
	old := scan.Window{Subject: queue.DeadChunkSubjects, Until: info.TimeStamp.Add(-age), HeadersOnly: true}
	err = scan.Each(ctx, l.js, queue.DeadLetterStream, old, func(m *scan.Message) error {
		if !listed[m.Sequence] {
			strays = append(strays, m.Sequence)
		}
		return nil
	})
	return strays, err
}

// DropStrays removes such chunks.
func (l *Letters) DropStrays(ctx context.Context, strays []uint64) error {
	return l.Drop(ctx, Letter{Chunks: strays})
}

// message returns the body of a message.
func (l *Letters) message(ctx context.Context, seq uint64) ([]byte, error) {
	data, err := l.reader.Message(ctx, queue.DeadLetterStream, seq)
	if err != nil {
		return nil, fmt.Errorf("reading message %d of %s: %w", seq, queue.DeadLetterStream, err)
	}
	return data, nil
}

// gone asks whether a message is not there. (Why one cannot be removed the client
// library says in words alone.)
func (l *Letters) gone(ctx context.Context, seq uint64) bool {
	_, err := l.message(ctx, seq)
	return errors.Is(err, queue.ErrIncomplete)
}
