// Package spool is the bounded store that reports lie in from their first byte
// until they are promised: in memory while there is room, beyond that in one
// file that has no name.
//
// A body holds room for what has arrived of it, never for what it announces. When room
// runs out, newcomers are refused, and bodies are evicted that hold much of it for long
// because they send little or nothing. Each body has a window
// in memory, and more memory as long as there is enough of it and the body comes
// quickly; else the window's bytes go to the file each time it is full. Thousands of
// slow clients cost a window each.
package spool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// Window is the memory that every body has for itself, the unit in which room is
// given out, and the size of a block of the file, in bytes.
const Window = 8 << 10

// largestPiece is how much memory a body takes at a time once it has proved to be
// long, in bytes: as much as one read of a fast connection brings.
const largestPiece = 64 << 10

// slowRate is the rate below which a body takes no more memory, in bytes a second.
// Those below may be very many at a time, which those above cannot.
const slowRate = 128 << 10

// documents is the part of all room, one in so many, that is for what is made of
// the reports, so that a body that has arrived need not wait for those that have
// not.
const documents = 16

// expected is the assumed size of a body that does not announce one, in bytes. Most are
// smaller.
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
	memory int64 // bytes
	file   blocks
	room   int64 // bytes for bodies, in memory and file together
	rest   int64 // bytes for what is made of them

	mu        sync.Mutex
	used      int64     // bytes of memory that are given out,
	extra     int64     // and how many of them are not windows
	inFile    int64     // bytes of blocks that are given out
	held      int64     // bytes of room that bodies hold
	pledged   int64     // bytes that arriving bodies are expected to need
	leaving   int64     // bytes that evicted bodies still hold
	made      int64     // bytes of rest in use
	arriving  []*Body   // bodies that still grow
	waiting   []*waiter // in order of arrival
	waitingIn int       // how many of waiting are admitted
	looked    time.Time // when victims were last searched
	reclaimed int64     // evicted bodies, in total
	failure   error     // of the last write to the file that failed,
	failedAt  time.Time

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
	s.rest = whole(room / documents)
	s.room = room - s.rest
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

// Reclaimed returns how many bodies were evicted before they had arrived.
func (s *Store) Reclaimed() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reclaimed
}

// Admit returns an empty body if one of the announced size (bytes; below 0: unknown) fits
// beside those that are arriving. It reserves one Window, nothing more. Admit waits up to
// 4 s for room, and a growing body up to 10 s, both until ctx ends. The error wraps
// ErrFull.
//
// A body that holds much room for long may be evicted. Then interrupt is called once,
// from any goroutine: it must return soon and end the read that ReadFrom is blocked in.
func (s *Store) Admit(ctx context.Context, size int64, interrupt func()) (*Body, error) {
	now := time.Now()
	b := &Body{store: s, announced: size, began: now, marks: [2]mark{{at: now}, {at: now}}, interrupt: interrupt, ended: ctx.Done()}
	b.lastAt.Store(now.UnixNano())
	w := newcomer(b, size)
	if err := s.await(w, newcomerPatience); err != nil {
		return nil, err
	}
	b.filled = Window
	b.window = s.piece(Window)
	b.pieces = append(make([]piece, 0, min(w.size, largestPiece)/Window+1), piece{memory: b.window})
	return b, nil
}

// HasRoom reports whether a body of so many announced bytes, unknown below 0, would be
// admitted now.
func (s *Store) HasRoom(size int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.full(newcomer(&Body{}, size)) == nil
}

// newcomer is a body that asks for admission.
func newcomer(b *Body, size int64) *waiter {
	w := &waiter{body: b, newcomer: true, size: max(roundUp(size), Window)}
	if size < 0 {
		w.size = expected
	}
	return w
}

// use is what memory is taken for.
type use int

const (
	luxury use = iota // leaves half of the memory to the windows of others
	need              // has all of it: the file is full, or fails
)

// take takes memory beside a body's window, if there is enough.
func (s *Store) take(n int64, u use) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.used+n > s.memory || u == luxury && s.extra+n > s.memory/2 {
		return false
	}
	s.used += n
	s.extra += n
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
	defer s.mu.Unlock()
	s.used -= Window + b.extra
	s.extra -= b.extra
	s.inFile -= int64(len(b.blocks)) * Window
	s.file.giveBack(b.blocks)
	s.held -= b.room
	s.made -= b.made
	s.wake()
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
