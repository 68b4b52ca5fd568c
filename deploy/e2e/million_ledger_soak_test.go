//go:build faults && soak

package e2e

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/layout"
)

// leanLedger is a ledger for a million reports: some 100 bytes of memory each.
type leanLedger struct {
	mu      sync.Mutex
	reports map[[16]byte]entry
	counts  counts
	damage  error // the first
}

// entry is what is known of a report.
type entry struct {
	digest                 uint64 // the first bytes of the dump's SHA-256
	promised, stored, dead bool
}

// counts are figures of a ledger.
type counts struct {
	promised   int
	stored     int // and promised
	unpromised int // stored, though the client had no answer
	again      int // objects that were stored once more after they had been audited
	dead       int // promised, and not stored
	damaged    int
	kept       int // stored or dead
	lost       int // promised, and neither stored nor dead
}

func newLeanLedger() *leanLedger { return &leanLedger{reports: map[[16]byte]entry{}} }

// keyOf is an id without its dashes.
func keyOf(id crash.ID) (key [16]byte) {
	_, _ = hex.Decode(key[:], []byte(strings.ReplaceAll(string(id), "-", ""))) // an ID is valid
	return key
}

func idOf(key [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", key[:4], key[4:6], key[6:8], key[8:10], key[10:])
}

// promise enters a report that was answered CrashID=.
func (l *leanLedger) promise(id crash.ID, dump []byte) {
	l.enter(id, func(e *entry) {
		digest := shortDigest(crash.Sum(dump))
		if e.stored && e.digest != digest {
			l.damaged(fmt.Errorf("the dump of %s is not what was sent", id))
		}
		if e.stored {
			l.counts.unpromised--
		}
		e.promised, e.digest = true, digest
	})
}

// store enters a report that is in the bucket with all its objects.
func (l *leanLedger) store(id crash.ID, digest crash.Digest) {
	l.enter(id, func(e *entry) {
		switch {
		case e.stored:
			l.counts.again++
		case !e.promised:
			l.counts.unpromised++
		}
		if (e.promised || e.stored) && e.digest != shortDigest(digest) {
			l.damaged(fmt.Errorf("the dump of %s is not what was sent", id))
		}
		e.stored, e.digest = true, shortDigest(digest)
	})
}

// bury enters a dead letter.
func (l *leanLedger) bury(id crash.ID) { l.enter(id, func(e *entry) { e.dead = true }) }

// spoil notes an object that is not what it should be, unless the report was audited
// before: then it is being stored again.
func (l *leanLedger) spoil(id crash.ID, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.reports[keyOf(id)].stored {
		l.damaged(err)
	}
}

// damaged counts; the caller has the lock.
func (l *leanLedger) damaged(err error) {
	l.counts.damaged++
	if l.damage == nil {
		l.damage = err
	}
}

// enter changes a report's entry and keeps the counts.
func (l *leanLedger) enter(id crash.ID, change func(*entry)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.reports[keyOf(id)]
	l.tally(e, -1)
	change(&e)
	l.tally(e, 1)
	l.reports[keyOf(id)] = e
}

func (l *leanLedger) tally(e entry, by int) {
	c := &l.counts
	if !e.promised {
		return
	}
	c.promised += by
	switch {
	case e.stored:
		c.stored += by
		c.kept += by
	case e.dead:
		c.dead += by
		c.kept += by
	default:
		c.lost += by
	}
}

func (l *leanLedger) count() counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts
}

func (l *leanLedger) firstDamage() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.damage
}

func (l *leanLedger) someLost(most int) (ids []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, e := range l.reports {
		if e.promised && !e.stored && !e.dead && len(ids) < most {
			ids = append(ids, idOf(key))
		}
	}
	return ids
}

func shortDigest(d crash.Digest) uint64 { return binary.BigEndian.Uint64(d[:8]) }

// auditBatch is how many reports one look into the bucket takes. The first of each is
// read through the gateway too.
const auditBatch = 2000

// audit looks at every report as it comes into the bucket, enters it, and removes it,
// so that the disk has room for a million. It reads the gateway's files: to list a
// large bucket page by page takes it too long.
func (m *million) audit(ctx context.Context) {
	for ctx.Err() == nil {
		if m.auditOnce(ctx) == 0 {
			rest(ctx, 200*time.Millisecond)
		}
	}
}

// auditOnce returns how many reports it found.
func (m *million) auditOnce(ctx context.Context) int {
	days, _ := filepath.Glob(m.path("v1/raw_crash/*"))
	found := 0
	for _, day := range days {
		dir, err := os.Open(day)
		if err != nil {
			continue
		}
		names, _ := dir.Readdirnames(auditBatch) // the end of the folder is an error
		_ = dir.Close()
		for i, name := range names {
			id, err := crash.ParseID(name)
			if err != nil {
				continue
			}
			m.auditReport(ctx, id, i == 0)
			found++
		}
	}
	return found
}

func (m *million) auditReport(ctx context.Context, id crash.ID, throughTheGateway bool) {
	digest, err := m.examine(id)
	if err == nil && throughTheGateway {
		err = m.bucket.check(ctx, id, digest)
	}
	switch {
	case ctx.Err() != nil: // and nobody knows what that did
		return
	case err != nil:
		m.book.spoil(id, err)
	default:
		m.book.store(id, digest)
	}
	// What lists the others goes first: a report that is stored again meanwhile is then
	// found again.
	for _, key := range []string{layout.RawCrash(id), layout.DumpNames(id), layout.Dump(crash.MinidumpName, id)} {
		_ = os.Remove(m.path(key)) // gone is gone
		if m.sidecar {
			_ = os.RemoveAll(filepath.Join(suite.s3Dir, "meta", m.bucket.name, key))
		}
	}
}

// examine reads a report's three objects and returns the digest of its dump.
func (m *million) examine(id crash.ID) (crash.Digest, error) {
	var read [3][]byte
	for i, key := range []string{layout.RawCrash(id), layout.DumpNames(id), layout.Dump(crash.MinidumpName, id)} {
		text, err := os.ReadFile(m.path(key))
		if err != nil {
			return crash.Digest{}, err
		}
		read[i] = text
	}
	var raw struct {
		UUID     crash.ID
		Metadata struct {
			Checksums map[string]string `json:"dump_checksums"`
		}
	}
	if err := json.Unmarshal(read[0], &raw); err != nil {
		return crash.Digest{}, fmt.Errorf("reading raw_crash of %s: %w", id, err)
	}
	digest := crash.Sum(read[2])
	if raw.UUID != id || string(read[1]) != `["upload_file_minidump"]` || raw.Metadata.Checksums[crash.MinidumpName] != digest.String() {
		return digest, fmt.Errorf("%s: dump_names %s, raw_crash %s", id, read[1], read[0])
	}
	return digest, nil
}

// path is where the gateway keeps an object.
func (m *million) path(key string) string {
	return filepath.Join(suite.s3Dir, "data", m.bucket.name, key)
}
