package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/yagi-crash/yagi/pkg/crash"
)

const (
	// chunksAtATime is how many chunks of a report are asked for at a time, so
	// that one is on its way while another is written.
	chunksAtATime = 2
	// chunksOnTheWay bounds the chunks that a Reader has asked for, over all
	// reports. The server closes a connection that it has more than 64 MiB for
	// (its max_pending).
	chunksOnTheWay = 8
	// replicaPatience and leaderPatience are how long a replica, and then the
	// leader, may take to answer.
	replicaPatience = 3 * time.Second
	leaderPatience  = 10 * time.Second
)

// Reader reads reports from the queue, those in chunks too. Its methods may be
// called from any number of goroutines.
type Reader struct {
	nc     *nats.Conn
	prefix string        // of the subjects of requests
	turns  chan struct{} // of chunks on their way
}

// NewReader returns a reader that asks over the connection and in the domain of js.
func NewReader(js jetstream.JetStream) *Reader {
	return &Reader{nc: js.Conn(), prefix: prefixOf(js), turns: make(chan struct{}, chunksOnTheWay)}
}

// Read returns the report of a ready message of the stream, whose manifest and
// body it is given. What lies in chunks is held in memory whole, Manifest.Size
// bytes of it, and its every digest is checked; otherwise this is
// Manifest.Decode. The error wraps ErrDamaged or ErrIncomplete when the report is
// not what intake published; any other is about reaching the queue.
func (r *Reader) Read(ctx context.Context, stream string, m *Manifest, body []byte) (*crash.Sealed, error) {
	if len(m.Chunks) == 0 {
		return m.Decode(body)
	}
	// A replica answers sooner than the leader, and may lag behind it, or be
	// damaged without knowing.
	s, err := r.gather(ctx, m, func(ctx context.Context, seq uint64) ([]byte, error) {
		data, err := r.fromReplica(ctx, stream, seq)
		if err != nil && ctx.Err() == nil {
			data, err = r.fromLeader(ctx, stream, seq)
		}
		return data, err
	})
	if errors.Is(err, ErrDamaged) {
		return r.gather(ctx, m, func(ctx context.Context, seq uint64) ([]byte, error) {
			return r.fromLeader(ctx, stream, seq)
		})
	}
	return s, err
}

// gather reads all chunks and checks what they amount to.
func (r *Reader) gather(ctx context.Context, m *Manifest, chunk func(context.Context, uint64) ([]byte, error)) (*crash.Sealed, error) {
	body := make(pieces, len(m.Chunks))
	var room atomic.Int64
	room.Store(m.Size())
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(chunksAtATime)
	for i, seq := range m.Chunks {
		group.Go(func() (err error) {
			select {
			case r.turns <- struct{}{}:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			defer func() { <-r.turns }()
			if body[i], err = chunk(ctx, seq); err != nil {
				return fmt.Errorf("reading chunk %d of %d of %s, message %d: %w", i+1, len(m.Chunks), m.ID, seq, err)
			}
			if room.Add(-int64(len(body[i]))) < 0 {
				return fmt.Errorf("%w: the chunks of %s hold more than %d bytes", ErrDamaged, m.ID, m.Size())
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	s, err := m.cut(body.size(), func(at, size int64) io.ReaderAt { return io.NewSectionReader(body, at, size) })
	if err != nil {
		return nil, err
	}
	if err := s.Verify(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return s, nil
}

// get asks for a message: by its sequence, or for the first of a subject from
// there on, or from a time on, or for the last of a subject (ADR-31 and the server's JSApiMsgGetRequest).
type get struct {
	Seq       uint64     `json:"seq,omitempty"`
	Next      string     `json:"next_by_subj,omitempty"`
	Last      string     `json:"last_by_subj,omitempty"`
	StartTime *time.Time `json:"start_time,omitempty"`
}

// fromReplica asks whichever server has the stream (Direct Get, ADR-31).
func (r *Reader) fromReplica(ctx context.Context, stream string, seq uint64) ([]byte, error) {
	reply, err := r.ask(ctx, r.prefix+"DIRECT.GET."+stream, get{Seq: seq}, replicaPatience)
	if err != nil {
		return nil, err
	}
	if status := reply.Header.Get("Status"); status != "" {
		return nil, fmt.Errorf("the server answers %s %s", status, reply.Header.Get("Description"))
	}
	return reply.Data, nil
}

// fromLeader asks the stream's leader, whose word counts.
func (r *Reader) fromLeader(ctx context.Context, stream string, seq uint64) ([]byte, error) {
	if seq == 0 { // a chunk that a dead letter lost
		return nil, ErrIncomplete
	}
	var found struct {
		Data []byte `json:"data"`
	}
	there, err := r.askLeader(ctx, stream, get{Seq: seq}, &found)
	if err == nil && !there {
		err = ErrIncomplete
	}
	return found.Data, err
}

// Message returns the body of a message, as the stream's leader has it or, when that
// has lost it, somebody else. The error wraps ErrIncomplete when it is nowhere.
func (r *Reader) Message(ctx context.Context, stream string, seq uint64) ([]byte, error) {
	data, err := r.fromLeader(ctx, stream, seq)
	if !errors.Is(err, ErrIncomplete) || seq == 0 {
		return data, err
	}
	if data, otherErr := r.fromReplica(ctx, stream, seq); otherErr == nil {
		return data, nil
	}
	return nil, err
}

// Ready returns the header and the body of a ready message that was stored at that
// time. The error wraps ErrIncomplete when the stream has no such message, or
// another one in its place.
func (r *Reader) Ready(ctx context.Context, stream string, seq uint64, stored time.Time) (nats.Header, []byte, error) {
	var found struct {
		Header []byte    `json:"hdrs"`
		Data   []byte    `json:"data"`
		Time   time.Time `json:"time"`
	}
	there, err := r.askLeader(ctx, stream, get{Seq: seq}, &found)
	switch {
	case err != nil:
		return nil, nil, err
	case !there || !found.Time.Equal(stored):
		return nil, nil, fmt.Errorf("%w: %s has no such message %d", ErrIncomplete, stream, seq)
	case len(found.Header) == 0:
		return nil, found.Data, nil
	}
	header, err := nats.DecodeHeadersMsg(found.Header)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the header of message %d of %s: %w", seq, stream, err)
	}
	return header, found.Data, nil
}

// Stored tells where a message lies in its stream.
type Stored struct {
	Sequence uint64    `json:"seq"`
	Time     time.Time `json:"time"` // when it was stored, on the server's clock
}

// NextReady returns the first ready message of partition p from a sequence on, as
// the stream's leader has it; nil means that there is none. The message itself
// comes over the wire too.
func (r *Reader) NextReady(ctx context.Context, p int, from uint64) (*Stored, error) {
	return r.locate(ctx, StreamName(p), get{Seq: from, Next: ReadySubject(p)})
}

// Since returns the first message of the stream that was stored at t or later, as
// the leader has it; nil means that there is none. The message itself comes over
// the wire too.
func (r *Reader) Since(ctx context.Context, stream string, t time.Time) (*Stored, error) {
	return r.locate(ctx, stream, get{StartTime: &t, Next: ">"}) // with a subject, gaps do not matter
}

func (r *Reader) locate(ctx context.Context, stream string, question get) (*Stored, error) {
	var found Stored
	there, err := r.askLeader(ctx, stream, question, &found)
	if err != nil || !there {
		return nil, err
	}
	return &found, nil
}

// askLeader reads the message that the leader answers with into found; there is
// false when the leader has none.
func (r *Reader) askLeader(ctx context.Context, stream string, question get, found any) (there bool, err error) {
	reply, err := r.ask(ctx, r.prefix+"STREAM.MSG.GET."+stream, question, leaderPatience)
	if err != nil {
		return false, err
	}
	answer := struct {
		Error   *jetstream.APIError `json:"error"`
		Message any                 `json:"message"`
	}{Message: found}
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return false, fmt.Errorf("reading the server's answer: %w", err)
	}
	switch e := answer.Error; {
	case e == nil:
		return true, nil
	case e.Code == http.StatusNotFound && e.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return false, nil
	default:
		return false, e
	}
}

func (r *Reader) ask(ctx context.Context, subject string, question get, patience time.Duration) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	text, err := json.Marshal(question)
	if err != nil {
		return nil, fmt.Errorf("writing the question: %w", err)
	}
	return r.nc.RequestWithContext(ctx, subject, text)
}

// pieces are a body in order, as the messages brought it.
type pieces [][]byte

func (p pieces) size() (n int64) {
	for _, piece := range p {
		n += int64(len(piece))
	}
	return n
}

// ReadAt implements io.ReaderAt.
func (p pieces) ReadAt(b []byte, off int64) (n int, err error) {
	for _, piece := range p {
		if off >= int64(len(piece)) {
			off -= int64(len(piece))
			continue
		}
		n += copy(b[n:], piece[off:])
		if off = 0; n == len(b) {
			return n, nil
		}
	}
	return n, io.EOF
}
