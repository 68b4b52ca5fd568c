package spool

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"slices"
	"time"
)

// Space is one report's share of the store: its bodies, which are given back
// together. It is for one goroutine at a time.
type Space struct {
	store     *Store
	wait      func(room int64) bool // for so many bytes more; false: it took too long
	announced int64                 // bytes,
	room      int64                 // and how many are set aside

	filled  int64   // bytes of pieces and blocks that bodies have
	windows int64   // bytes of memory that are windows,
	extra   int64   // and that are not
	blocks  []int64 // of the file
	spare   []byte  // the first body's window, until it asks for it
	memory  [][]byte
}

// Release gives back everything. The space and its bodies must not be used any
// more.
func (p *Space) Release() {
	if p.spare != nil {
		p.memory, p.windows = append(p.memory, p.spare), p.windows+Window
	}
	for _, b := range p.memory {
		p.store.recycle(b)
	}
	p.store.giveBack(p)
	*p = Space{}
}

// Body is a sequence of bytes in the store. It is written to its end and then
// read, from any place and by any number of goroutines.
type Body struct {
	space  *Space
	began  time.Time // when its first byte was waited for
	pieces []piece
	last   int    // bytes in the last piece
	window []byte // the piece that is reused when memory has run out,
	inside int    // and its place in pieces
	size   int64
}

// piece is some bytes of a body, in memory or in a block of the file.
type piece struct {
	start  int64
	memory []byte // nil: in the file
	block  int64
}

// NewBody returns an empty body. It takes no room before the first byte.
func (p *Space) NewBody() *Body { return &Body{space: p} }

// Size returns the number of bytes that were written.
func (b *Body) Size() int64 { return b.size }

// ReadFrom reads r to its end and tells how many bytes that were. The error is
// r's; or ErrFull, when it took too long to find room beyond what was announced;
// or the file's.
func (b *Body) ReadFrom(r io.Reader) (int64, error) {
	before := b.size
	for {
		free, err := b.tail()
		if err != nil {
			return b.size - before, err
		}
		n, err := r.Read(free)
		b.last += n
		b.size += int64(n)
		if errors.Is(err, io.EOF) {
			return b.size - before, nil
		}
		if err != nil {
			return b.size - before, err
		}
	}
}

// Write appends p. Its errors are ErrFull and the file's.
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
		b.last += n
		b.size += int64(n)
	}
}

// tail returns memory for the next bytes, at least one.
func (b *Body) tail() ([]byte, error) {
	if n := len(b.pieces); n > 0 {
		if m := b.pieces[n-1].memory; b.last < len(m) {
			return m[b.last:], nil
		}
	}
	memory, err := b.more()
	if err != nil {
		return nil, err
	}
	b.pieces = append(b.pieces, piece{start: b.size, memory: memory})
	b.last = 0
	return memory, nil
}

// more finds memory for another piece: that of the window, whose bytes go to the
// file, when there is no other or the body is slow. There is room somewhere,
// because it was set aside.
func (b *Body) more() ([]byte, error) {
	p := b.space
	if b.window == nil {
		return b.firstWindow()
	}
	left, err := p.ensure(min(powerOf2(b.size), largestPiece))
	if err != nil {
		return nil, err
	}
	if time.Since(b.began) < slowAfter {
		size := powerOf2(min(b.size, largestPiece, left))
		for ; size >= Window; size /= 2 {
			if p.store.take(size, luxury) {
				return p.extraPiece(size), nil
			}
		}
	}
	block, ok := p.store.takeBlock()
	if !ok {
		if !p.store.take(Window, need) {
			return nil, fmt.Errorf("finding room that was set aside: %w", ErrFull)
		}
		return p.extraPiece(Window), nil
	}
	p.blocks = append(p.blocks, block)
	p.filled += Window
	if err := p.store.file.write(b.window, block); err != nil {
		return nil, err
	}
	b.pieces[b.inside].memory, b.pieces[b.inside].block = nil, block
	b.inside = len(b.pieces)
	return b.window, nil
}

// firstWindow is the body's own memory. A body that is not the space's first is
// one that is made from it, of which there are few at a time: its window may be
// one more than the memory has.
func (b *Body) firstWindow() ([]byte, error) {
	p := b.space
	if p.spare == nil {
		if _, err := p.ensure(Window); err != nil {
			return nil, err
		}
		if !p.store.take(Window, window) {
			p.store.take(Window, debt)
		}
		p.spare = p.store.piece(Window)
	}
	b.began = time.Now()
	b.window, p.spare = p.spare, nil
	p.memory = append(p.memory, b.window)
	p.windows += Window
	p.filled += Window
	return b.window, nil
}

func (p *Space) extraPiece(size int64) []byte {
	memory := p.store.piece(int(size))
	p.memory = append(p.memory, memory)
	p.extra += size
	p.filled += size
	return memory
}

// ensure sets so much more room aside when all of it is filled, and returns how
// much is left.
func (p *Space) ensure(step int64) (left int64, err error) {
	if p.filled < p.room {
		return p.room - p.filled, nil
	}
	if !p.wait(step) {
		return 0, ErrFull
	}
	p.room += step
	return step, nil
}

// powerOf2 is the largest power of two that is not above n.
func powerOf2(n int64) int64 { return 1 << (bits.Len64(uint64(n)) - 1) }

// ReadAt implements io.ReaderAt.
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
		} else if err := b.space.store.file.read(want, p.block, from); err != nil {
			return n, err
		}
		n += len(want)
	}
	if n < len(dst) {
		return n, io.EOF
	}
	return n, nil
}
