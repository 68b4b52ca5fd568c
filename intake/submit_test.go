package intake_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/yagi-crash/yagi/pkg/crash"
)

// What a client was told is in the stream: the dump byte for byte, and a
// raw_crash with every field that Socorro's schema asks for.
func TestAcceptedReportIsInTheStream(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	i := startIntake(t, q.url)
	body := field("ProductName", "Firefox") + field("Email", "someone@example.org") + dump(crash.MinidumpName, "MDMP\x00\xff") + end

	id := crashID(t, i.post(t, body))
	got := q.one(t)
	if got.ID != id {
		t.Errorf("the stream has %s, the client was told %s", got.ID, id)
	}
	if len(got.Dumps) != 1 || text(t, got.Dumps[0]) != "MDMP\x00\xff" {
		t.Errorf("dumps: %v", got.Dumps)
	}
	var raw map[string]any
	if err := json.Unmarshal([]byte(text(t, got.RawCrash)), &raw); err != nil {
		t.Fatal(err)
	}
	at, err := time.Parse("2006-01-02T15:04:05.000000+00:00", raw["submitted_timestamp"].(string))
	if err != nil || time.Since(at) > time.Minute {
		t.Errorf("submitted_timestamp %v: %v", raw["submitted_timestamp"], err)
	}
	want := map[string]any{
		"ProductName": "Firefox", "uuid": string(id), "version": 2.0, "submitted_timestamp": raw["submitted_timestamp"],
		"metadata": map[string]any{
			"payload": "multipart", "payload_compressed": "0", "payload_size": float64(len(body)),
			"collector_notes": []any{"Removed Email from raw crash."},
			"dump_checksums":  map[string]any{crash.MinidumpName: crash.Sum([]byte("MDMP\x00\xff")).String()},
			"user_agent":      "Breakpad/1.0 (test)", "throttle_rule": "accept_everything",
		},
	}
	if diff := cmp.Diff(want, raw); diff != "" {
		t.Errorf("raw_crash (-want +got):\n%s", diff)
	}
}

// noise is what a dump looks like to a compressor and to a parser.
func noise(size int) string {
	b := make([]byte, size)
	random := rand.NewChaCha8([32]byte{1})
	if _, err := random.Read(b); err != nil {
		panic(err)
	}
	return string(b)
}

func gzipped(t *testing.T, s string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := io.WriteString(z, s); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestEveryShapeOfReport(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	i := startIntake(t, q.url)
	extra := "--B\r\nContent-Disposition: form-data; name=\"extra\"; filename=\"extra.json\"\r\nContent-Type: application/json\r\n\r\n{\"ProductName\":\"Firefox\"}\r\n"
	plain := field("ProductName", "Firefox")
	chunked := []string{"Transfer-Encoding: chunked"}
	zipped := []string{"Content-Encoding: gzip"}
	for name, c := range map[string]struct {
		body  string
		head  []string
		dumps map[string]string
	}{
		"plain":           {body: plain, dumps: map[string]string{"upload_file_minidump": "MDMP"}},
		"gzip":            {body: plain, head: zipped, dumps: map[string]string{"upload_file_minidump": noise(100_000)}},
		"chunked":         {body: plain, head: chunked, dumps: map[string]string{"upload_file_minidump": noise(100_000)}},
		"chunked gzip":    {body: plain, head: append(chunked, zipped...), dumps: map[string]string{"upload_file_minidump": noise(300_000)}},
		"JSON extra":      {body: extra, dumps: map[string]string{"upload_file_minidump": "MDMP"}},
		"two dumps":       {body: plain, dumps: map[string]string{"upload_file_minidump": "MDMP", "memory_report": noise(1000)}},
		"900 kB":          {body: plain, dumps: map[string]string{"upload_file_minidump": noise(900_000)}},
		"900 kB, chunked": {body: plain, head: append(chunked, zipped...), dumps: map[string]string{"upload_file_minidump": noise(900_000)}},
		"7 MB":            {body: plain, dumps: map[string]string{"upload_file_minidump": noise(7_000_000)}},
		"7 MB, gzip":      {body: plain, head: zipped, dumps: map[string]string{"upload_file_minidump": noise(7_000_000)}},
	} {
		t.Run(name, func(t *testing.T) {
			parts := []string{c.body}
			for name, data := range c.dumps {
				parts = append(parts, dump(name, data))
			}
			body := strings.Join(append(parts, end), "")
			head := strings.Join(c.head, "\n")
			if strings.Contains(head, "gzip") {
				body = gzipped(t, body)
			}
			con := i.dial(t)
			if strings.Contains(head, "chunked") {
				con.send(request(-1, c.head...) + chunks(body, 65_524)) // Crashpad's size of a chunk
			} else {
				con.send(request(len(body), c.head...) + body)
			}
			id := crashID(t, con.answer())
			for _, s := range q.stored(t) {
				if s.ID != id {
					continue
				}
				got := map[string]string{}
				for _, d := range s.Dumps {
					got[d.Name] = text(t, d)
				}
				if len(got) != len(c.dumps) {
					t.Errorf("%d dumps, want %d", len(got), len(c.dumps))
				}
				for name := range c.dumps {
					if got[name] != c.dumps[name] {
						t.Errorf("dump %s differs", name)
					}
				}
				if raw := text(t, s.RawCrash); !strings.Contains(raw, `"ProductName":"Firefox"`) {
					t.Errorf("raw_crash: %s", raw)
				}
				return
			}
			t.Errorf("the stream does not have %s", id)
		})
	}
}

// One connection serves one report after another.
func TestConnectionIsKept(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	c := startIntake(t, q.url).dial(t)
	for range 3 {
		c.send(request(len(report())) + report())
		crashID(t, c.answer())
	}
	if got := len(q.stored(t)); got != 3 {
		t.Errorf("%d reports in the stream, want 3", got)
	}
}

// A report posted twice by a client is two reports, as in Antenna.
func TestRepostIsAnotherReport(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	i := startIntake(t, q.url)
	if first, second := crashID(t, i.post(t, report())), crashID(t, i.post(t, report())); first == second {
		t.Errorf("both are %s", first)
	}
}

func TestOnlySubmittersChooseIDs(t *testing.T) {
	t.Parallel()
	const id = "de1bb258-cbbf-4589-a673-34f801160918"
	q := startQueue(t)
	i := startIntake(t, q.url, "INTAKE_SUBMITTER_TOKEN=s3cret")
	nobody := startIntake(t, q.url)
	with := func(uuid string) string { return field("uuid", uuid) + report() }
	for name, c := range map[string]struct {
		intake *tier
		uuid   string
		head   []string
		status int
		body   string
	}{
		"no token":              {i, id, nil, 401, "Discarded=unauthorized_uuid"},
		"another token":         {i, id, []string{"Authorization: Bearer s3cre"}, 401, "Discarded=unauthorized_uuid"},
		"not a bearer":          {i, id, []string{"Authorization: Basic s3cret"}, 401, "Discarded=unauthorized_uuid"},
		"no token is set":       {nobody, id, []string{"Authorization: Bearer "}, 401, "Discarded=unauthorized_uuid"},
		"the token, no id":      {i, "x", []string{"Authorization: Bearer s3cret"}, 400, "Discarded=malformed_invalid_uuid"},
		"the token, no day":     {i, "de1bb258-cbbf-4589-a673-34f801160230", []string{"Authorization: Bearer s3cret"}, 400, "Discarded=malformed_invalid_uuid"},
		"the token and the id":  {i, id, []string{"Authorization: Bearer s3cret"}, 200, "CrashID=bp-" + id + "\n"},
		"the same, once more":   {i, id, []string{"Authorization: Bearer s3cret"}, 200, "CrashID=bp-" + id + "\n"},
		"empty, without token":  {i, "", nil, 401, "Discarded=unauthorized_uuid"},
		"empty, with the token": {i, "", []string{"Authorization: Bearer s3cret"}, 400, "Discarded=malformed_invalid_uuid"},
	} {
		if a := c.intake.post(t, with(c.uuid), c.head...); a.status != c.status || a.body != c.body {
			t.Errorf("%s: answered %d %q, want %d %q", name, a.status, a.body, c.status, c.body)
		}
	}
	stored := q.stored(t)
	if len(stored) != 2 || stored[0].ID != id || stored[1].ID != id {
		t.Errorf("the stream has %d reports, want two of the chosen id", len(stored))
	}
}
