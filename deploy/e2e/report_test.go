package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime/multipart"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/layout"
)

// ledger is what clients were promised: the id of every report that was
// answered CrashID=, and the digest of the dump that belongs to it.
type ledger struct {
	mu       sync.Mutex
	promised map[crash.ID]crash.Digest
	refused  map[string]int // other answers, counted
}

func newLedger() *ledger {
	return &ledger{promised: map[crash.ID]crash.Digest{}, refused: map[string]int{}}
}

func (l *ledger) enter(id crash.ID, dump []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.promised[id] = crash.Sum(dump)
}

// post posts a report that has to be promised.
func (l *ledger) post(t *testing.T, c *client, dump []byte) {
	t.Helper()
	id, err := c.post(t.Context(), dump)
	if err != nil {
		t.Errorf("a client was sent away: %v", err)
		return
	}
	l.enter(id, dump)
}

func (l *ledger) refuse(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	what := "connection lost"
	if a := (*answerError)(nil); errors.As(err, &a) {
		what = a.Error()
	}
	l.refused[what]++
}

func (l *ledger) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.promised)
}

// answerError is an answer that promises nothing.
type answerError struct{ text string }

func (e *answerError) Error() string { return e.text }

// client posts reports one after another, each different from all others.
type client struct {
	http   *http.Client
	url    string
	random *rand.Rand
}

func newClient(url string, seed uint64, n int) *client {
	return &client{
		http:   &http.Client{Timeout: time.Minute, Transport: &http.Transport{}},
		url:    url + "/submit",
		random: rand.New(rand.NewPCG(seed, uint64(n))),
	}
}

// dump makes a dump of at most so many bytes that no other client makes.
func (c *client) dump(most int) []byte { return c.bytes(1 + c.random.IntN(most)) }

func (c *client) bytes(size int) []byte {
	d := make([]byte, size)
	for i := range d {
		d[i] = byte(c.random.Uint32())
	}
	return d
}

// post sends one report and returns its id. The error is an *answerError when
// there was an answer.
func (c *client) post(ctx context.Context, dump []byte) (crash.ID, error) {
	r, err := c.request(ctx, dump)
	if err != nil {
		return "", err
	}
	return send(c.http, r)
}

// request makes the post of a report.
func (c *client) request(ctx context.Context, dump []byte) (*http.Request, error) {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	if err := errors.Join(form.WriteField("ProductName", "Test"), writeFile(form, dump), form.Close()); err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, &body)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", form.FormDataContentType())
	return r, nil
}

// send posts a request and returns the id in the answer.
func send(with *http.Client, r *http.Request) (crash.ID, error) {
	response, err := with.Do(r)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return "", err
	}
	id, ok := strings.CutPrefix(string(text), "CrashID=bp-")
	if response.StatusCode != http.StatusOK || !ok {
		return "", &answerError{fmt.Sprintf("%d %s", response.StatusCode, text)}
	}
	return crash.ParseID(strings.TrimSuffix(id, "\n"))
}

func writeFile(form *multipart.Writer, dump []byte) error {
	w, err := form.CreateFormFile(crash.MinidumpName, "test.dmp")
	if err != nil {
		return err
	}
	_, err = w.Write(dump)
	return err
}

// check tells what the bucket lacks of a report.
func (b *bucket) check(ctx context.Context, id crash.ID, dump crash.Digest) error {
	stored, err := b.read(ctx, layout.Dump(crash.MinidumpName, id))
	if err != nil {
		return err
	}
	if crash.Sum(stored) != dump {
		return fmt.Errorf("the dump of %s is not what was sent", id)
	}
	names, err := b.read(ctx, layout.DumpNames(id))
	if err != nil {
		return err
	}
	if string(names) != `["upload_file_minidump"]` {
		return fmt.Errorf("dump_names of %s: %s", id, names)
	}
	text, err := b.read(ctx, layout.RawCrash(id))
	if err != nil {
		return err
	}
	var raw struct {
		UUID     crash.ID
		Metadata struct {
			Checksums map[string]string `json:"dump_checksums"`
		}
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return fmt.Errorf("reading raw_crash of %s: %w", id, err)
	}
	if raw.UUID != id || raw.Metadata.Checksums[crash.MinidumpName] != dump.String() {
		return fmt.Errorf("raw_crash of %s: %s", id, text)
	}
	return nil
}

// audit waits until everything promised is in the bucket, byte for byte.
func (l *ledger) audit(t *testing.T, b *bucket, within time.Duration) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	deadline := time.Now().Add(within)
	for id, dump := range l.promised {
		eventually(t, "looking for "+string(id), time.Until(deadline), func() error { return b.check(t.Context(), id, dump) })
	}
}
