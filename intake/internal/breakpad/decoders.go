package breakpad

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"

	"github.com/yagi-crash/yagi/pkg/crash"
)

const (
	// heldZstd and heldFlate are how many compressed reports may keep a decoder
	// while they are published piece by piece.
	heldZstd  = 2
	heldFlate = 64
)

// Decoders bounds how many reports hold a decoder outside of Parse, and reuses those of
// zstd, which take up to 8.3 MiB each. It is safe for concurrent use.
type Decoders struct {
	brief       slots     // for reading a report in one go, any coding
	zstd, flate slots     // for reading a report piece by piece
	idle        sync.Pool // of *zstd.Decoder
}

// slots bounds how many reports do something at a time, in order of arrival.
type slots struct {
	used    chan struct{}
	waiting atomic.Int64
}

func (s *slots) acquire(ctx context.Context) error {
	s.waiting.Add(1)
	defer s.waiting.Add(-1)
	select {
	case s.used <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for a decoder: %w", ctx.Err())
	}
}

func (s *slots) release() { <-s.used }

// NewDecoders returns Decoders that let so many readers at a time read a report in one
// go, and 2 (zstd) and 64 (gzip, deflate) piece by piece.
func NewDecoders(readers int) *Decoders {
	return &Decoders{
		brief: slots{used: make(chan struct{}, readers)},
		zstd:  slots{used: make(chan struct{}, heldZstd)},
		flate: slots{used: make(chan struct{}, heldFlate)},
	}
}

// zstdReader is a zstd decoder that Close makes available again.
type zstdReader struct {
	*zstd.Decoder
	from *Decoders
}

// zstdOf returns a decoder of r.
func (d *Decoders) zstdOf(r io.Reader) (io.ReadCloser, error) {
	idle, ok := d.idle.Get().(*zstd.Decoder)
	if !ok {
		made, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(zstdWindow))
		if err != nil {
			return nil, fmt.Errorf("opening a zstd decoder: %w", err)
		}
		idle = made
	}
	if err := idle.Reset(r); err != nil {
		return nil, fmt.Errorf("opening a zstd body: %w", err)
	}
	return &zstdReader{Decoder: idle, from: d}, nil
}

// Close implements io.Closer, and returns nil.
func (z *zstdReader) Close() error {
	if err := z.Reset(nil); err == nil {
		z.from.idle.Put(z.Decoder)
	}
	return nil
}

// replay decompresses a body again. While it holds a slot it keeps its decoder between
// reads; otherwise every read starts from the beginning and keeps nothing.
type replay struct {
	post     *Post
	decoders *Decoders

	mu    sync.Mutex
	slot  *slots // nil: it holds none
	plain *plain // nil: not open
	at    int64  // position in plain
}

// hold acquires a slot.
func (r *replay) hold(ctx context.Context, slot *slots) error {
	if err := slot.acquire(ctx); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.slot = slot
	return nil
}

// release releases the decoder and the slot.
func (r *replay) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.close()
	if r.slot != nil {
		r.slot.release()
		r.slot = nil
	}
}

func (r *replay) close() {
	if r.plain != nil {
		_ = r.plain.Close() // in memory: cannot fail
		r.plain = nil
	}
}

// ReadAt implements io.ReaderAt. Its errors are those of Parse.
func (r *replay) ReadAt(p []byte, off int64) (n int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.slot == nil {
		_ = r.decoders.brief.acquire(context.Background()) // its holders wait for nothing
		defer r.decoders.brief.release()
		defer r.close()
	}
	if r.plain != nil && off < r.at {
		r.close()
	}
	if r.plain == nil {
		if r.plain, err = r.post.open(r.decoders); err != nil {
			return 0, err
		}
		r.at = 0
	}
	skipped, err := io.CopyN(io.Discard, r.plain, off-r.at)
	r.at += skipped
	if err != nil {
		return 0, err
	}
	n, err = io.ReadFull(r.plain, p)
	r.at += int64(n)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	return n, err
}

// inflating is a dump in a compressed body.
type inflating struct {
	*io.SectionReader
	replay *replay
}

// Hold lets the dumps of a compressed report share one decoder until release is called.
// It waits for one of a bounded number of slots until ctx ends. brief promises that the
// report is read in one go, without waiting for anything, and then released. Without Hold
// every read decompresses the report from its beginning.
func Hold(ctx context.Context, report *crash.Sealed, brief bool) (release func(), err error) {
	r := replayOf(report)
	if r == nil {
		return func() {}, nil
	}
	slot := &r.decoders.flate
	switch {
	case brief:
		slot = &r.decoders.brief
	case r.post.coding == codingZstd:
		slot = &r.decoders.zstd
	}
	return r.release, r.hold(ctx, slot)
}

// Yield lets another report have the slot of one that is held, and waits for the next
// one. It does nothing if none waits. Afterwards the report is decompressed again, so it
// should be read on for a while between two yields.
func Yield(ctx context.Context, report *crash.Sealed) error {
	r := replayOf(report)
	if r == nil {
		return nil
	}
	r.mu.Lock()
	slot := r.slot
	r.mu.Unlock()
	if slot == nil || slot.waiting.Load() == 0 {
		return nil
	}
	r.release()
	return r.hold(ctx, slot)
}

// replayOf returns what the dumps of a compressed report share, nil if there is nothing.
func replayOf(report *crash.Sealed) *replay {
	for _, d := range report.Dumps {
		if data, ok := d.Data.(*inflating); ok {
			return data.replay
		}
	}
	return nil
}
