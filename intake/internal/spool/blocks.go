package spool

import (
	"fmt"
	"os"
)

// blocks is a file as blocks of one Window each. Blocks that were given back are
// taken first, and a file of which no block is in use is emptied.
type blocks struct {
	f     *os.File
	limit int64
	made  int64
	free  []int64
}

func (b *blocks) take() (block int64, ok bool) {
	if n := len(b.free); n > 0 {
		block, b.free = b.free[n-1], b.free[:n-1]
		return block, true
	}
	if b.made == b.limit {
		return 0, false
	}
	b.made++
	return b.made - 1, true
}

func (b *blocks) giveBack(these []int64) {
	if b.free = append(b.free, these...); len(these) == 0 || int64(len(b.free)) < b.made {
		return
	}
	// Should it fail, the disk has less room than it might, and the next write
	// tells whether that matters.
	_ = b.f.Truncate(0)
	b.made, b.free = 0, b.free[:0]
}

func (b *blocks) write(p []byte, block int64) error {
	if _, err := b.f.WriteAt(p, block*Window); err != nil {
		return fmt.Errorf("writing to the %w: %w", ErrFile, err)
	}
	return nil
}

func (b *blocks) read(p []byte, block, from int64) error {
	if _, err := b.f.ReadAt(p, block*Window+from); err != nil {
		return fmt.Errorf("reading from the %w: %w", ErrFile, err)
	}
	return nil
}
