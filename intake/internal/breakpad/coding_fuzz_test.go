package breakpad

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/yagi-crash/yagi/intake/internal/spool"
	"github.com/yagi-crash/yagi/pkg/crash"
)

// Whatever is said to be compressed, it is read within the limits or refused with
// a word of the protocol, and gives back all that it took. What the standard
// library's gzip reads is the same report as if it had come plain.
func FuzzInflate(f *testing.F) {
	plain := field("ProductName", "Firefox") + file("upload_file_minidump", "application/octet-stream", "MDMP\x00") + end
	f.Add("gzip", gzipped(f, plain))
	f.Add("gzip", gzipped(f, plain)+"junk")
	f.Add("gzip", gzipped(f, plain)[:30])
	f.Add("deflate", packed(f, plain, openZlib))
	f.Add("deflate", packed(f, plain, openFlate))
	f.Add("zstd", packed(f, plain, openZstd))
	f.Add("zstd", "\x28\xb5\x2f\xfd\xff\xff\xff\xff")
	f.Add("gzip", gzipped(f, plain+strings.Repeat("\x00", 1<<20)))
	limits := DefaultLimits()
	limits.Wire, limits.Inflated, limits.Kept = 1<<20, 1<<18, 1<<18
	store, err := spool.Open(spool.Config{Memory: 8 << 20})
	if err != nil {
		f.Fatal(err)
	}
	window := make([]byte, WindowSize)
	read := func(t *testing.T, encoding, wire string) (*got, error) {
		t.Helper()
		post, err := Open(request(formData, encoding, nil, max(1, int64(len(wire)))), limits)
		if err != nil {
			return nil, err
		}
		body, err := store.Admit(t.Context(), post.Size, func() {})
		if err != nil {
			t.Fatal(err)
		}
		defer body.Release()
		if err := post.Receive(strings.NewReader(wire), body); err != nil {
			return nil, err
		}
		report, err := post.Parse(window, NewDecoders(1))
		if used := body.Size(); used > int64(limits.Wire)+int64(limits.Kept) {
			t.Fatalf("%d bytes were kept", used)
		}
		if err != nil {
			return nil, err
		}
		for _, d := range report.Dumps {
			if err := d.Verify(); err != nil {
				t.Fatal(err)
			}
		}
		flat := flat(report)
		flat.Notes = nil
		return &flat, nil
	}
	f.Fuzz(func(t *testing.T, encoding, wire string) {
		report, err := read(t, encoding, wire)
		if memory, file := store.Usage(); memory != 0 || file != 0 {
			t.Fatalf("%d bytes of memory and %d of the file are in use by nobody", memory, file)
		}
		if _, ok := errors.AsType[*crash.Refusal](err); err != nil && !ok {
			t.Fatalf("error without a reason: %v", err)
		}
		text, ok := inflateStd(wire, int64(limits.Inflated))
		if !strings.EqualFold(encoding, "gzip") || !ok {
			return
		}
		want, wantErr := read(t, "", text)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("compressed: %v; plain: %v", err, wantErr)
		}
		if diff := cmp.Diff(want, report); diff != "" {
			t.Fatalf("(-plain +compressed):\n%s", diff)
		}
	})
}

// inflateStd returns the first member of a gzip stream, if it is whole and not
// over the limit.
func inflateStd(wire string, limit int64) (text string, ok bool) {
	z, err := gzip.NewReader(strings.NewReader(wire))
	if err != nil {
		return "", false
	}
	z.Multistream(false)
	var b bytes.Buffer
	n, err := io.Copy(&b, io.LimitReader(z, limit+1))
	return b.String(), err == nil && n <= limit && n > 0
}
