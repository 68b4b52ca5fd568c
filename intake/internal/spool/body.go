package spool

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"slices"
	"sync/atomic"
	"time"
)

// Body is a sequence of bytes in the store: what was received, and behind it what
// was made of it. It is written by one goroutine, which may read at the same
// time what is written already; once that is over, any number may.
type Body struct {
	store     *Store
	announced int64 // bytes; below 0: unknown
	began     time.Time
	room      int64           // bytes that it holds,
	made      int64           // and those for what is made of it
	ended     <-chan struct{} // closed when the body is no longer wanted
	whole     bool            // it has arrived

	// What follows is read by others, which hold store.mu.
	arrived   atomic.Int64 // bytes
	lastAt    atomic.Int64 // when the last of them arrived, Unix nanoseconds
	marks     [2]mark      // recent progress, older first
	waits     *waiter      // nil: it does not wait for room
	pledge    int64        // bytes that it is expected to need
	place     int          // in store.arriving
	evicted   bool
	leaving   int64 // bytes that it held when it was evicted
	interrupt func()

	size   int64
	pieces []piece
	last   int    // bytes in the last piece
	window []byte // the memory that is reused when there is no more,
	inside int    // and its place in pieces

	filled int64   // bytes of pieces, full or not
	extra  int64   // bytes of memory beside the window
	blocks []int64 // of the file
}

// piece is some bytes of a body, in memory or in a block of the file.
type piece struct {
	start  int64
	memory []byte // nil: in the file
	block  int64
}

// Release gives back everything. The body must not be used any more.
func (b *Body) Release() {
	b.end()
	for _, p := range b.pieces {
		if p.memory != nil {
			b.store.recycle(p.memory)
		}
	}
	b.store.giveBack(b)
	*b = Body{}
}

// Size returns the number of bytes that were written.
func (b *Body) Size() int64 { return b.size }

// ReadFrom reads r to its end and tells how many bytes that were; then the body
// has arrived, and what is read or written later is made of it. The error is r's;
// or wraps ErrFull, when there was no room or it was reclaimed; or the file's.
func (b *Body) ReadFrom(r io.Reader) (n int64, err error) {
	before := b.size
	for err == nil {
		err = b.readSome(r)
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if evicted := b.end(); evicted && err != nil {
		err = errReclaimed // not that of the interrupted read
	}
	return b.size - before, err
}

// readSome reads once. When all room is filled it reads a single byte before it takes
// more, so that a client that sends nothing gets none.
func (b *Body) readSome(r io.Reader) error {
	if b.free() == nil && b.filled == b.room+b.made {
		var one [1]byte
		n, err := r.Read(one[:])
		if _, full := b.Write(one[:n]); full != nil {
			return full
		}
		return err
	}
	memory, err := b.tail()
	if err != nil {
		return err
	}
	n, err := r.Read(memory)
	b.advance(n)
	return err
}

// end ends the body's growth and reports whether it had been evicted.
func (b *Body) end() (evicted bool) {
	if b.whole {
		return false
	}
	b.whole = true
	return b.store.arrivedAt(b)
}

// Write appends p. Its errors are ErrFull and the file's; behind a body that has
// arrived it never waits for room.
func (b *Body) Write(p []byte) (int, error) {
	for written := 0; ; {
		if written == len(p) {
			return written, nil
		}
		free, err := b.tail()
		if err != nil {
			return written, err
		}
		n := copy(free, p[written:])
		written += n
		b.advance(n)
	}
}

func (b *Body) advance(n int) {
	b.last += n
	b.size += int64(n)
	if n > 0 && !b.whole {
		b.progress(time.Now())
	}
}

// free returns what is left of the last piece, nil if nothing is.
func (b *Body) free() []byte {
	if memory := b.pieces[len(b.pieces)-1].memory; b.last < len(memory) {
		return memory[b.last:]
	}
	return nil
}

// tail returns memory for the next bytes, at least one.
func (b *Body) tail() ([]byte, error) {
	if memory := b.free(); memory != nil {
		return memory, nil
	}
	memory, err := b.more()
	if err != nil {
		return nil, err
	}
	b.pieces = append(b.pieces, piece{start: b.size, memory: memory})
	b.filled += int64(len(memory))
	b.last = 0
	return memory, nil
}

// more finds memory for another piece: that of the window, whose bytes go to the
// file, when there is no other or the body is slow. There is room somewhere,
// because the body holds it.
func (b *Body) more() ([]byte, error) {
	fast, step := int64(time.Since(b.began)) < b.size*int64(time.Second)/slowRate, int64(Window)
	if fast {
		step = min(powerOf2(b.size), largestPiece)
	}
	left, err := b.ensure(step)
	if err != nil {
		return nil, err
	}
	if fast {
		size := powerOf2(min(b.size, largestPiece, left))
		for ; size >= Window; size /= 2 {
			if b.store.take(size, luxury) {
				return b.extraPiece(size), nil
			}
		}
	}
	block, ok := b.store.takeBlock()
	if !ok {
		if !b.store.take(Window, need) {
			return nil, fmt.Errorf("finding room that is held: %w", ErrFull)
		}
		return b.extraPiece(Window), nil
	}
	if err := b.store.file.write(b.window, block); err != nil {
		b.store.failed(err, block)
		if !b.store.take(Window, need) {
			return nil, err
		}
		return b.extraPiece(Window), nil
	}
	b.blocks = append(b.blocks, block)
	b.pieces[b.inside].memory, b.pieces[b.inside].block = nil, block
	b.inside = len(b.pieces)
	return b.window, nil
}

func (b *Body) extraPiece(size int64) []byte {
	b.extra += size
	return b.store.piece(int(size))
}

// ensure takes more room when all of it is filled, and returns how much is free: step
// bytes, but no more than is announced.
func (b *Body) ensure(step int64) (left int64, err error) {
	if left = b.room + b.made - b.filled; left > 0 {
		return left, nil
	}
	if b.whole {
		return Window, b.store.makeRoom(b)
	}
	if more := roundUp(b.announced - b.size); more > 0 {
		step = min(step, more)
	}
	before := b.room
	if !b.store.grow(b, step) {
		err = b.store.await(&waiter{body: b, size: step}, bodyPatience)
	}
	return b.room - before, err
}

// powerOf2 is the largest power of two that is not above n.
func powerOf2(n int64) int64 { return 1 << (bits.Len64(uint64(n)) - 1) }

// ReadAt implements io.ReaderAt. Its errors are io.EOF and the file's.
func (b *Body) ReadAt(dst []byte, off int64) (int, error) {
	if off >= b.size {
		return 0, io.EOF
	}
	i, found := slices.BinarySearchFunc(b.pieces, off, func(p piece, off int64) int { return cmp.Compare(p.start, off) })
	if !found {
		i--
	}
	n := 0
	for ; n < len(dst) && i < len(b.pieces); i++ {
		p, end := b.pieces[i], b.size
		if i+1 < len(b.pieces) {
			end = b.pieces[i+1].start
		}
		from := off + int64(n) - p.start
		want := dst[n:min(int64(len(dst)), int64(n)+end-p.start-from)]
		if p.memory != nil {
			copy(want, p.memory[from:])
		} else if err := b.store.file.read(want, p.block, from); err != nil {
			return n, err
		}
		n += len(want)
	}
	if n < len(dst) {
		return n, io.EOF
	}
	return n, nil
}
