package spool

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func open(t testing.TB, cfg Config) *Store {
	t.Helper()
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func bytesOf(n int) []byte {
	b := make([]byte, n)
	random := rand.NewChaCha8([32]byte{byte(n)})
	_, _ = random.Read(b) // never fails
	return b
}

// Whatever bodies come, at whatever pace, with or without a file: each holds its
// bytes, those that find no room go without a trace, and neither budget is exceeded.
func TestBodiesHoldTheirBytes(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // nobody waits
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		s, err := Open(Config{
			Memory: Window * rapid.Int64Range(1, 40).Draw(t, "memory"),
			File:   Window * rapid.Int64Range(0, 40).Draw(t, "file"),
			Dir:    dir,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Close() }()
		type report struct {
			body *Body
			want []byte
			sent int
		}
		var reports []*report
		t.Repeat(map[string]func(*rapid.T){
			"admit": func(t *rapid.T) {
				size := rapid.IntRange(0, 20*Window).Draw(t, "size")
				body, err := s.Admit(ctx, int64(size), func() {})
				if errors.Is(err, ErrFull) {
					return
				}
				if rapid.Bool().Draw(t, "slow") {
					body.began = time.Now().Add(-time.Hour)
				}
				reports = append(reports, &report{body, bytesOf(size), 0})
			},
			"receive": func(t *rapid.T) {
				if len(reports) == 0 {
					return
				}
				i := rapid.IntRange(0, len(reports)-1).Draw(t, "i")
				r := reports[i]
				n := rapid.IntRange(0, len(r.want)-r.sent).Draw(t, "n")
				written, err := r.body.Write(r.want[r.sent : r.sent+n])
				if r.sent += written; err == nil {
					return
				}
				if held := s.held; !errors.Is(err, ErrFull) || held+Window <= s.room-s.room/reserve && !r.body.evicted {
					t.Fatalf("%v with %d of %d bytes held", err, held, s.room)
				}
				r.body.Release()
				reports = append(reports[:i], reports[i+1:]...)
			},
			"release": func(t *rapid.T) {
				if len(reports) == 0 {
					return
				}
				i := rapid.IntRange(0, len(reports)-1).Draw(t, "i")
				reports[i].body.Release()
				reports = append(reports[:i], reports[i+1:]...)
			},
			"": func(t *rapid.T) {
				memory, file := s.Usage()
				if memoryLimit, fileLimit := s.Size(); memory > memoryLimit || file > fileLimit || memory < 0 || file < 0 {
					t.Fatalf("%d of %d in memory, %d of %d in the file", memory, memoryLimit, file, fileLimit)
				}
				for _, r := range reports {
					from := int64(rapid.IntRange(0, r.sent).Draw(t, "from"))
					got, err := io.ReadAll(io.NewSectionReader(r.body, from, r.body.Size()-from))
					if err != nil || !bytes.Equal(got, r.want[from:r.sent]) {
						t.Fatalf("a body of %d bytes differs from %d on: %v", r.sent, from, err)
					}
				}
			},
		})
		for _, r := range reports {
			r.body.Release()
		}
		checkEmpty(t, s)
	})
}

// checkEmpty fails the test unless everything was given back.
func checkEmpty(t rapid.TB, s *Store) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.used != 0 || s.extra != 0 || s.inFile != 0 || s.held != 0 || s.pledged != 0 || s.leaving != 0 || s.made != 0 ||
		len(s.arriving) != 0 || len(s.waiting) != 0 || s.waitingIn != 0 {
		t.Fatalf("memory %d, %d beside windows, file %d, room %d, pledged %d, leaving %d, made %d, %d arrive, %d and %d wait: want 0 each",
			s.used, s.extra, s.inFile, s.held, s.pledged, s.leaving, s.made, len(s.arriving), len(s.waiting), s.waitingIn)
	}
}

// A body is an io.ReaderAt as the standard library wants it.
func TestReadAt(t *testing.T) {
	ctx := t.Context()
	for _, file := range []int64{0, 1 << 20} {
		s := open(t, Config{Memory: 1<<20 - file/2, File: file, Dir: t.TempDir()})
		body, err := s.Admit(ctx, -1, func() {})
		if err != nil {
			t.Fatal(err)
		}
		want := bytesOf(5*Window + 77)
		body.began = time.Now().Add(-time.Duration(file) * time.Hour)
		if _, err := body.Write(want); err != nil {
			t.Fatal(err)
		}
		if err := iotest.TestReader(io.NewSectionReader(body, 0, body.Size()), want); err != nil {
			t.Error(err)
		}
		body.Release()
	}
}

// Newcomers are refused while bodies in progress go on, and let in again when
// those are done.
func TestNewcomersAreRefusedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, Config{Memory: 32 * Window, File: 32 * Window, Dir: t.TempDir()}) // 60 for bodies
		first, second := admit(t, s, 30*Window), admit(t, s, 30*Window)
		for _, body := range []*Body{first, second} {
			if _, err := body.Write(bytesOf(15 * Window)); err != nil { // and there is no doubt that more comes
				t.Fatal(err)
			}
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Admit(gone, 15*Window, func() {}); !errors.Is(err, ErrFull) {
			t.Errorf("a newcomer got %v, want ErrFull", err)
		}
		for _, body := range []*Body{first, second} {
			if _, err := body.ReadFrom(bytes.NewReader(bytesOf(15 * Window))); err != nil {
				t.Errorf("a body in progress got %v", err)
			}
		}
		// What is made of a report has room of its own, and does not wait for more.
		if _, err := first.Write(bytesOf(2 * Window)); err != nil {
			t.Errorf("what is made of a report got %v", err)
		}
		start := time.Now()
		if _, err := second.Write(bytesOf(5 * Window)); !errors.Is(err, ErrFull) || time.Since(start) > 0 {
			t.Errorf("too much that is made of a report got %v after %s", err, time.Since(start))
		}
		first.Release()
		admit(t, s, Window).Release()
		second.Release()
		checkEmpty(t, s)
	})
}

func admit(t *testing.T, s *Store, size int64) *Body {
	t.Helper()
	b, err := s.Admit(t.Context(), size, func() {})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Whatever a body had is there again after its release, and so is what it was
// counted for.
func TestReleaseGivesEverythingBack(t *testing.T) {
	ctx := t.Context()
	s := open(t, Config{Memory: 64 * Window, File: 64 * Window, Dir: t.TempDir()})
	for range 50 {
		b, err := s.Admit(ctx, 40*Window, func() {})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.ReadFrom(bytes.NewReader(bytesOf(40 * Window))); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Write(bytesOf(7 * Window)); err != nil {
			t.Fatal(err)
		}
		b.Release()
		left, err := s.Admit(ctx, 10*Window, func() {}) // and goes before it has arrived
		if err != nil {
			t.Fatal(err)
		}
		left.Release()
	}
	checkEmpty(t, s)
}

// A body gives back what it did not need when it ends, not when it is released.
func TestSurplusIsGivenBack(t *testing.T) {
	ctx := t.Context()
	s := open(t, Config{Memory: 128 * Window})
	for range 20 { // 32 windows each at first
		b, err := s.Admit(ctx, -1, func() {})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Release()
		if _, err := b.ReadFrom(bytes.NewReader(bytesOf(100))); err != nil {
			t.Fatal(err)
		}
	}
}

// Many slow bodies cost a window each, and the fast ones leave room for windows.
func TestSlowBodiesCostAWindow(t *testing.T) {
	ctx := t.Context()
	s := open(t, Config{Memory: 100 * Window, File: 1000 * Window, Dir: t.TempDir()})
	fast, err := s.Admit(ctx, 200*Window, func() {})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fast.Write(bytesOf(200 * Window)); err != nil {
		t.Fatal(err)
	}
	if memory, _ := s.Usage(); memory > 51*Window {
		t.Errorf("one fast body has %d of 100 windows", memory/Window)
	}
	for i := range 49 {
		body, err := s.Admit(ctx, 10*Window, func() {})
		if err != nil {
			t.Fatalf("slow body %d: %v", i, err)
		}
		defer body.Release()
		if _, err := body.Write(bytesOf(Window)); err != nil {
			t.Fatal(err)
		}
		body.began = body.began.Add(-time.Hour)
		if _, err := body.Write(bytesOf(9 * Window)); err != nil {
			t.Fatal(err)
		}
	}
	if memory, _ := s.Usage(); memory > 100*Window {
		t.Errorf("%d windows of memory are in use", memory/Window)
	}
	fast.Release()
}

// A slow body takes no memory but its window, however much there is.
func TestSlowBodyLeavesMemoryToOthers(t *testing.T) {
	synctest.Test(t, slowBodyLeavesMemory) // with a clock that stands still
}

func slowBodyLeavesMemory(t *testing.T) {
	ctx := t.Context()
	s := open(t, Config{Memory: 1000 * Window, File: 1000 * Window, Dir: t.TempDir()})
	for _, c := range []struct {
		age     time.Duration
		windows int64
	}{{0, 100}, {time.Hour, 1}} {
		body, err := s.Admit(ctx, 100*Window, func() {})
		if err != nil {
			t.Fatal(err)
		}
		body.began = body.began.Add(-c.age)
		if _, err := body.Write(bytesOf(100 * Window)); err != nil {
			t.Fatal(err)
		}
		if memory, _ := s.Usage(); memory != c.windows*Window {
			t.Errorf("a body that began %s ago has %d windows of memory, want %d", c.age, memory/Window, c.windows)
		}
		body.Release()
	}
}

// The file has no name, shrinks when nobody uses it, and says of itself that it
// failed.
func TestFile(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	s, err := Open(Config{Memory: 16 * Window, File: 64 * Window, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 0 {
		t.Errorf("the folder has %v, %v", names, err)
	}
	body, err := s.Admit(ctx, 60*Window, func() {})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := body.Write(bytesOf(40 * Window)); err != nil {
		t.Fatal(err)
	}
	if size := sizeOf(t, s.file.f); size == 0 {
		t.Fatal("nothing is in the file")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Check(); err != nil {
		t.Errorf("before it is written to: %v", err)
	}
	if _, err := body.Write(bytesOf(20 * Window)); !errors.Is(err, ErrFile) {
		t.Errorf("writing to a broken file: %v", err)
	}
	if memory, _ := s.Usage(); memory != 16*Window {
		t.Errorf("%d bytes of memory are used where the file fails, want all", memory)
	}
	if err := s.Check(); !errors.Is(err, ErrFile) {
		t.Errorf("behind a failure: %v", err)
	}
	if s.failedAt = s.failedAt.Add(-troubleFor); s.Check() != nil {
		t.Error("a failure is remembered for ever")
	}
	if _, err := io.ReadAll(io.NewSectionReader(body, 0, body.Size())); !errors.Is(err, ErrFile) {
		t.Errorf("reading from a broken file: %v", err)
	}
	if _, err := Open(Config{Memory: Window, File: Window, Dir: dir + "/none"}); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("a folder that is not there: %v", err)
	}
}

func TestFileShrinks(t *testing.T) {
	ctx := t.Context()
	s := open(t, Config{Memory: 16 * Window, File: 64 * Window, Dir: t.TempDir()})
	for range 3 {
		body, err := s.Admit(ctx, 60*Window, func() {})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := body.Write(bytesOf(60 * Window)); err != nil {
			t.Fatal(err)
		}
		if size := sizeOf(t, s.file.f); size < 40*Window {
			t.Errorf("%d bytes in the file", size)
		}
		body.Release()
		if size := sizeOf(t, s.file.f); size != 0 {
			t.Errorf("%d bytes in the file of which none is used", size)
		}
	}
}

func sizeOf(t *testing.T, f *os.File) int64 {
	t.Helper()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// Bodies of many goroutines do not meet.
func TestConcurrentBodies(t *testing.T) {
	ctx := t.Context()
	s := open(t, Config{Memory: 64 * Window, File: 1000 * Window, Dir: t.TempDir()})
	var all sync.WaitGroup
	for g := range 16 {
		all.Go(func() {
			for i := range 20 {
				want := bytesOf(g*1000 + i*5000)
				body, err := s.Admit(ctx, int64(len(want)), func() {})
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := body.ReadFrom(bytes.NewReader(want)); err != nil {
					t.Error(err)
				}
				if got, err := io.ReadAll(io.NewSectionReader(body, 0, body.Size())); err != nil || !bytes.Equal(got, want) {
					t.Errorf("a body of %d bytes differs: %v", len(want), err)
				}
				body.Release()
			}
		})
	}
	all.Wait()
}
