// Package spool is the bounded store that reports lie in from their first byte
// until they are promised: in memory while there is room, beyond that in one
// file that has no name.
//
// Who is admitted has room for all that was announced, so that a body in
// progress goes on whatever comes after it; one of unknown size has room for a
// usual one. Each body has a window in memory, and more memory as long as there
// is enough of it and the body comes quickly; else the window's bytes go to the
// file each time it is full. Thousands of slow clients cost a window each.
package spool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// Window is the memory that every body has for itself, the unit in which room is
// given out, and the size of a block of the file, in bytes.
const Window = 8 << 10

// largestPiece is how much memory a body takes at a time once it has proved to be
// long, in bytes: as much as one read of a fast connection brings.
const largestPiece = 64 << 10

// patience is how long a body waits for room that it had not announced.
const patience = 10 * time.Second

// slowRate is the rate below which a body takes no more memory, in bytes a second.
// Those below may be very many at a time, which those above cannot.
const slowRate = 128 << 10

// documents is the part of all room, one in so many, that is for what is made of
// the reports, so that a body that has arrived need not wait for those that have
// not.
const documents = 16

// expected is the room that is set aside for a body whose size is not announced,
// in bytes: most are smaller, and what they do not need is given back at their
// end. So those that are let in can also come in.
const expected = 256 << 10

// ErrFull means that the store has no room, for now.
var ErrFull = errors.New("no room left in memory and spool")

// ErrFile means that the file failed. The cause is wrapped with it.
var ErrFile = errors.New("spool file")

// Config says how much room there is.
type Config struct {
	Memory int64 // bytes, at least one Window
	File   int64 // bytes; 0: there is no file
	Dir    string
}

// Store has room for reports. Its methods may be called from any number of
// goroutines.
type Store struct {
	room   *semaphore.Weighted // bytes for bodies, of memory and file together,
	made   *semaphore.Weighted // and for what is made of them
	memory int64               // bytes
	file   blocks

	mu       sync.Mutex
	used     int64 // bytes of memory that are given out,
	extra    int64 // and how many of them are not windows
	inFile   int64 // bytes of blocks that are given out
	arriving int   // bodies that have not ended,
	waiting  int   // and how many of them wait for room
	failure  error // of the last write to the file that failed,
	failedAt time.Time

	pieces [4]sync.Pool // of *[]byte: Window, twice that, and so on to largestPiece
}

// Open makes the store and its file. The file is deleted at once, so that
// nothing of it outlives the process.
func Open(cfg Config) (*Store, error) {
	s := &Store{memory: whole(cfg.Memory)}
	if s.memory < Window {
		return nil, fmt.Errorf("opening the spool: %d bytes of memory, want %d or more", cfg.Memory, Window)
	}
	s.file.limit = whole(cfg.File) / Window
	room := s.memory + s.file.limit*Window
	s.room, s.made = semaphore.NewWeighted(room-whole(room/documents)), semaphore.NewWeighted(whole(room/documents))
	if s.file.limit == 0 {
		return s, nil
	}
	f, err := os.CreateTemp(cfg.Dir, "yagi-spool-*")
	if err != nil {
		return nil, fmt.Errorf("opening the spool file: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("unlinking the spool file: %w", err), f.Close())
	}
	s.file.f = f
	return s, nil
}

// Close gives the file back. Nothing of the store may be in use any more.
func (s *Store) Close() error {
	if s.file.f == nil {
		return nil
	}
	return s.file.f.Close()
}

// Size is how much room there is, in bytes.
func (s *Store) Size() (memory, file int64) { return s.memory, s.file.limit * Window }

// Usage is how much room is given out at this moment, in bytes.
func (s *Store) Usage() (memory, file int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used, s.inFile
}

// troubleFor is how long a failure of the file is remembered: it serves those bodies
// alone that find no memory, of which there may be few.
const troubleFor = time.Minute

// failed remembers that the file failed, and takes the block back that it failed at.
func (s *Store) failed(err error, block int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failure, s.failedAt = err, time.Now()
	s.inFile -= Window
	s.file.giveBack([]int64{block})
}

// Check says why the file could not be written to lately, wrapping ErrFile. While
// that is so, bodies have memory alone.
func (s *Store) Check() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure == nil || time.Since(s.failedAt) > troubleFor {
		return nil
	}
	return s.failure
}

// Admit sets room aside for a body of the announced size in bytes, or a usual one
// when that is not known (below 0), and returns it empty. ErrFull is the answer
// while there is no room, and while others wait for some. The body may wait for
// more room than that as long as the context lasts.
func (s *Store) Admit(ctx context.Context, size int64) (*Body, error) {
	room := max(roundUp(size), Window)
	if size < 0 {
		room = expected
	}
	if !s.room.TryAcquire(room) {
		return nil, ErrFull
	}
	if !s.take(Window, window) {
		s.room.Release(room)
		return nil, ErrFull
	}
	s.mu.Lock()
	s.arriving++
	s.mu.Unlock()
	b := &Body{store: s, room: room, filled: Window, began: time.Now()}
	b.window = s.piece(Window)
	b.pieces = append(make([]piece, 0, min(room/Window, largestPiece/Window)+1), piece{memory: b.window})
	b.wait = func() bool { return s.waitForRoom(ctx) }
	return b, nil
}

// waitForRoom waits for one Window more, and tells whether it came. When the half
// of all who are arriving wait already, there is no waiting: they would wait for
// each other.
func (s *Store) waitForRoom(ctx context.Context) bool {
	s.mu.Lock()
	if s.waiting*2 >= s.arriving {
		s.mu.Unlock()
		return false
	}
	s.waiting++
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.waiting--
		s.mu.Unlock()
	}()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return s.room.Acquire(ctx, Window) == nil
}

// arrived is the end of a body's growth; what of its room is over is given back.
func (s *Store) arrived(surplus int64) {
	s.mu.Lock()
	s.arriving--
	s.mu.Unlock()
	s.room.Release(surplus)
}

// use is what memory is taken for.
type use int

const (
	window use = iota // has all of the memory
	luxury            // leaves half of it to the windows of others
	need              // has all of it, too: the file is full, or fails
)

// take takes memory, if there is enough.
func (s *Store) take(n int64, u use) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.used+n > s.memory || u == luxury && s.extra+n > s.memory/2 {
		return false
	}
	s.used += n
	if u != window {
		s.extra += n
	}
	return true
}

// takeBlock takes a block of the file, if there is one.
func (s *Store) takeBlock() (block int64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	block, ok = s.file.take()
	if ok {
		s.inFile += Window
	}
	return block, ok
}

// giveBack is the end of everything that a body has.
func (s *Store) giveBack(b *Body) {
	s.mu.Lock()
	s.used -= Window + b.extra
	s.extra -= b.extra
	s.inFile -= int64(len(b.blocks)) * Window
	s.file.giveBack(b.blocks)
	s.mu.Unlock()
	s.room.Release(b.room)
	s.made.Release(b.made)
}

// piece returns memory of a size, which is Window times a power of two.
func (s *Store) piece(size int) []byte {
	if b, ok := s.pieces[class(size)].Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, size)
}

func (s *Store) recycle(b []byte) { s.pieces[class(len(b))].Put(&b) }

func class(size int) (c int) {
	for size > Window {
		size /= 2
		c++
	}
	return c
}

func whole(n int64) int64   { return n / Window * Window }
func roundUp(n int64) int64 { return (n + Window - 1) / Window * Window }
