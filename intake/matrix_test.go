package intake_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/yagi-crash/yagi/pkg/crash"
)

// The matrix of bad input: one row for each way in which a request can be odd,
// and what comes of it. The rows' numbers stand in deploy/ANTENNA.md too, where
// Antenna answers otherwise.

// refused is a row that ends in a refusal, and in nothing else.
type refused struct {
	name   string
	raw    string // all that the client sends
	status int
	body   string
	kept   bool // the connection is usable afterwards
}

// accepted is a row that ends in a report: exactly this one.
type accepted struct {
	name  string
	raw   string
	want  kept
	close bool // the connection ends behind the reply
}

// kept is what the stream has of a report.
type kept struct {
	annotations map[string]string // JSON text
	dumps       map[string]string
	notes       []string
}

// matrix is an intake whose stream is watched.
type matrix struct {
	queue  *testQueue
	intake *tier
}

func startMatrix(t *testing.T, settings ...string) *matrix {
	t.Helper()
	q := startQueue(t)
	return &matrix{queue: q, intake: startIntake(t, q.url, settings...)}
}

// refuse runs the rows, and holds the stream against what it had before.
func (m *matrix) refuse(t *testing.T, rows []refused) {
	t.Helper()
	before := len(m.queue.stored(t))
	t.Run("refused", func(t *testing.T) {
		for _, row := range rows {
			t.Run(row.name, func(t *testing.T) {
				t.Parallel()
				c := m.intake.dial(t)
				c.send(row.raw)
				a := c.answer()
				if a.status != row.status || a.body != row.body {
					t.Errorf("answered %d %q, want %d %q", a.status, a.body, row.status, row.body)
				}
				checkReply(t, c, a, row.kept)
			})
		}
	})
	if after := len(m.queue.stored(t)); after != before {
		t.Errorf("%d refused requests left %d reports in the stream", len(rows), after-before)
	}
}

// accept runs the rows, and holds each report against what the row sent.
func (m *matrix) accept(t *testing.T, rows []accepted) {
	t.Helper()
	before := len(m.queue.stored(t))
	t.Run("accepted", func(t *testing.T) {
		for _, row := range rows {
			t.Run(row.name, func(t *testing.T) {
				t.Parallel()
				c := m.intake.dial(t)
				c.send(row.raw)
				a := c.answer()
				id := crashID(t, a)
				checkReply(t, c, a, !row.close)
				stored := m.queue.stored(t)
				at := slices.IndexFunc(stored, func(s *crash.Sealed) bool { return s.ID == id })
				if at < 0 {
					t.Fatalf("the stream does not have %s", id)
				}
				if diff := cmp.Diff(row.want, keptOf(t, stored[at]), cmp.AllowUnexported(kept{}), cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		}
	})
	if after := len(m.queue.stored(t)); after != before+len(rows) {
		t.Errorf("%d accepted requests left %d reports in the stream", len(rows), after-before)
	}
}

// checkReply holds a reply's form to what clients rely on, and its connection to
// what it says about it.
func checkReply(t *testing.T, c *conn, a answer, usable bool) {
	t.Helper()
	if length := a.head.Get("Content-Length"); length != strconv.Itoa(len(a.body)) {
		t.Errorf("Content-Length %q of a body of %d bytes", length, len(a.body))
	}
	kind := a.head.Get("Content-Type")
	if a.status == 404 || a.status == 405 { // the mux writes these
		kind = strings.TrimSuffix(kind, "; charset=utf-8")
	}
	if a.body != "" && kind != "text/plain" || strings.Contains(a.body, "\r") {
		t.Errorf("Content-Type %q, body %q, want text/plain and no CR", kind, a.body)
	}
	if allow := a.head.Get("Allow"); a.status == http.StatusMethodNotAllowed && allow != http.MethodPost {
		t.Errorf("Allow %q, want POST", allow)
	}
	if !usable {
		if !a.closed {
			t.Error("the connection stays open, so that what follows might be taken for a request")
		}
		return
	}
	c.send("GET /__lbheartbeat__ HTTP/1.1\r\nHost: x\r\n\r\n")
	if next := c.answer(); next.status != http.StatusOK {
		t.Errorf("the connection answers %d to what follows, want 200", next.status)
	}
}

func keptOf(t *testing.T, s *crash.Sealed) kept {
	t.Helper()
	var raw map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text(t, s.RawCrash)), &raw); err != nil {
		t.Fatal(err)
	}
	var metadata struct {
		Notes []string `json:"collector_notes"`
	}
	if err := json.Unmarshal(raw["metadata"], &metadata); err != nil {
		t.Fatal(err)
	}
	k := kept{annotations: map[string]string{}, dumps: map[string]string{}, notes: metadata.Notes}
	for _, ours := range []string{"uuid", "version", "submitted_timestamp", "metadata"} {
		delete(raw, ours)
	}
	for name, value := range raw {
		k.annotations[name] = string(value)
	}
	for _, d := range s.Dumps {
		k.dumps[d.Name] = text(t, d)
	}
	return k
}

// firefox is what the stream has of a report with that product and these dumps
// (name, data, ...).
func firefox(dumps ...string) kept {
	k := kept{annotations: map[string]string{"ProductName": `"Firefox"`}, dumps: map[string]string{}}
	for pair := range slices.Chunk(dumps, 2) {
		k.dumps[pair[0]] = pair[1]
	}
	return k
}

// noted adds the collector's notes.
func (k kept) noted(notes ...string) kept {
	k.notes = notes
	return k
}

// whole is a request with the body's length.
func whole(body string, head ...string) string { return request(len(body), head...) + body }

// chunked is a request whose framing the test writes.
func chunked(framed string) string { return request(-1, "Transfer-Encoding: chunked") + framed }

// product is a part, and the smallest report behind its end.
func product() string { return field("ProductName", "Firefox") }

// part is a part with header lines as they are given.
func part(data string, head ...string) string {
	return "--B\r\n" + strings.Join(append(head, ""), "\r\n") + "\r\n" + data + "\r\n"
}

// extra is the part that holds annotations as JSON.
func extra(text string) string {
	return part(text, `Content-Disposition: form-data; name="extra"; filename="extra.json"`, "Content-Type: application/json")
}

// malformed is a refusal of a report that cannot be read.
func malformed(name, raw, reason string) refused {
	return refused{name: name, raw: raw, status: http.StatusBadRequest, body: "Discarded=malformed_" + reason}
}

// comesNothing tells whether nothing comes for a while that is long for what is
// served at once.
func (c *conn) comesNothing() bool {
	c.t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
		c.t.Fatal(err)
	}
	_, err := c.r.Peek(1)
	if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		c.t.Fatal(err)
	}
	return errors.Is(err, os.ErrDeadlineExceeded)
}
