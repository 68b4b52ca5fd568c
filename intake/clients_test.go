package intake_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/yagi-crash/yagi/pkg/crash"
)

// A client is one crash reporter: the bytes that it puts on the wire, what is to
// become of them, and what it makes of the reply. The bytes follow its source.
type client struct {
	head  string // request line and header lines, LF for CRLF, N for the length
	body  string // multipart, before Content-Encoding and framing
	chunk int    // bytes in a chunk; 0: it sends a Content-Length

	annotations map[string]string
	dumps       map[string]string
	notes       []string

	keeps func(reply) string // what it takes for the crash's id; "": it failed
	id    string             // what that has to be; bp-ID stands for the new one
}

// run sends the report, and holds reply and stream to what the client needs.
func (c client) run(t *testing.T, q *testQueue, i *tier) {
	t.Helper()
	before := len(q.stored(t))
	con := i.dial(t)
	size := con.sendAs(c)
	r := con.reply()
	if c.chunk > 0 && !con.isClosedWithin(5*time.Second) {
		t.Error("the connection is kept behind a chunked body")
	}
	all := q.stored(t)
	if len(all) != before+1 {
		t.Fatalf("answered %q %q; %d reports are new in the stream, want 1", r.line, r.body, len(all)-before)
	}
	r.isReadable(t)
	sealed := all[before]
	if got, want := c.keeps(r), strings.ReplaceAll(c.id, "bp-ID", "bp-"+string(sealed.ID)); got != want {
		t.Errorf("the client takes %q for the id, want %q", got, want)
	}
	c.compare(t, sealed, size)
}

// sendAs writes the request, and returns its body's size on the wire without
// the framing.
func (c *conn) sendAs(as client) (size int) {
	c.t.Helper()
	body := as.body
	if strings.Contains(as.head, "Content-Encoding: gzip") {
		body = gzipped(c.t, body)
	}
	size = len(body)
	if as.chunk > 0 {
		body = chunks(body, as.chunk)
	}
	head := strings.Replace(as.head, "Content-Length: N", "Content-Length: "+strconv.Itoa(size), 1)
	c.send(strings.ReplaceAll(head, "\n", "\r\n") + "\r\n\r\n")
	if strings.Contains(head, "Expect: 100-continue") {
		const goOn = "HTTP/1.1 100 Continue\r\n\r\n"
		got := make([]byte, len(goOn))
		if _, err := io.ReadFull(c.r, got); err != nil || string(got) != goOn {
			c.t.Fatalf("got %q, want leave to send the body: %v", got, err)
		}
	}
	c.send(body)
	return size
}

// compare looks at what is stored: the dumps byte for byte, the annotations as
// they were sent, and what the collector says about them.
func (c client) compare(t *testing.T, sealed *crash.Sealed, size int) {
	t.Helper()
	dumps := map[string]string{}
	for _, d := range sealed.Dumps {
		dumps[d.Name] = text(t, d)
	}
	if got, want := slices.Sorted(maps.Keys(dumps)), slices.Sorted(maps.Keys(c.dumps)); !slices.Equal(got, want) {
		t.Errorf("dumps %q, want %q", got, want)
	}
	for name, want := range c.dumps {
		if got := dumps[name]; got != want {
			t.Errorf("dump %s has %d bytes, which differ from the %d that were sent", name, len(got), len(want))
		}
	}
	document := text(t, sealed.RawCrash)
	var raw struct {
		Metadata struct {
			Notes      []string `json:"collector_notes"`
			Payload    string   `json:"payload"`
			Compressed string   `json:"payload_compressed"`
			Size       int      `json:"payload_size"`
			UserAgent  string   `json:"user_agent"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal([]byte(document), &raw); err != nil {
		t.Fatal(err)
	}
	want := raw.Metadata
	want.Notes, want.Size = append([]string{}, c.notes...), size
	want.Payload, want.Compressed, want.UserAgent = crash.PayloadMultipart, "0", "None"
	if strings.Contains(c.body, `name="extra"`) {
		want.Payload = crash.PayloadJSON
	}
	if strings.Contains(c.head, "Content-Encoding: gzip") {
		want.Compressed = "1"
	}
	if _, agent, ok := strings.Cut(c.head, "\nUser-Agent: "); ok {
		want.UserAgent, _, _ = strings.Cut(agent, "\n")
	}
	if diff := cmp.Diff(want, raw.Metadata); diff != "" {
		t.Errorf("metadata (-want +got):\n%s", diff)
	}
	var annotations map[string]any
	if err := json.Unmarshal([]byte(document), &annotations); err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(annotations, func(name string, _ any) bool {
		return slices.Contains([]string{"metadata", "submitted_timestamp", "uuid", "version"}, name)
	})
	wantAnnotations := map[string]any{}
	for name, value := range c.annotations {
		wantAnnotations[name] = value
	}
	if diff := cmp.Diff(wantAnnotations, annotations); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
}

// reply is a reply as clients see it that read it by hand.
type reply struct {
	line string   // status line
	head []string // header lines
	body string
}

// reply reads a reply. Its lines must end in CRLF, and the length of its body
// stand in the spelling that Crashpad's socket transport asks for.
func (c *conn) reply() reply {
	c.t.Helper()
	r := reply{line: c.crlfLine()}
	length := ""
	for line := c.crlfLine(); line != ""; line = c.crlfLine() {
		r.head = append(r.head, line)
		if value, ok := strings.CutPrefix(line, "Content-Length: "); ok {
			length = value
		}
	}
	n, err := strconv.Atoi(length)
	if err != nil {
		c.t.Fatalf("%q %q: the length is %q", r.line, r.head, length)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(c.r, body); err != nil {
		c.t.Fatal(err)
	}
	r.body = string(body)
	return r
}

func (c *conn) isClosedWithin(patience time.Duration) bool {
	c.t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		c.t.Fatal(err)
	}
	return c.isClosed()
}

func (c *conn) crlfLine() string {
	c.t.Helper()
	line, err := c.r.ReadString('\n')
	if err != nil {
		c.t.Fatal(err)
	}
	text, ok := strings.CutSuffix(line, "\r\n")
	if !ok {
		c.t.Fatalf("line %q of the reply does not end in CRLF", line)
	}
	return text
}

// isReadable holds a reply to what any of the clients needs.
func (r reply) isReadable(t *testing.T) {
	t.Helper()
	if r.status() != 200 {
		t.Errorf("status line %q, want status 200", r.line)
	}
	if !slices.Contains(r.head, "Content-Type: text/plain") {
		t.Errorf("header %q, want text/plain", r.head)
	}
	for _, line := range r.head {
		if name, _, _ := strings.Cut(strings.ToLower(line), ":"); name == "transfer-encoding" || name == "content-encoding" {
			t.Errorf("%q in the reply", line)
		}
	}
	if strings.ContainsRune(r.body, '\r') {
		t.Errorf("CR in the reply %q", r.body)
	}
}

// status is the code, which for Crashpad must have a space on either side.
func (r reply) status() int {
	version, rest, _ := strings.Cut(r.line, " ")
	code, _, ok := strings.Cut(rest, " ")
	status, err := strconv.Atoi(code)
	if !ok || err != nil || version != "HTTP/1.1" && version != "HTTP/1.0" {
		return 0
	}
	return status
}

// wholeBody is a client that takes the whole body of a reply, its line end too,
// for the id, if the status is one of these.
func wholeBody(first, last int) func(reply) string {
	return func(r reply) string {
		if r.status() < first || r.status() > last {
			return ""
		}
		return r.body
	}
}

// crashIDLine is a client that looks for "CrashID=" among the lines of a reply,
// and cuts them at the first "=".
func crashIDLine(first, last int) func(reply) string {
	return func(r reply) string {
		for line := range strings.Lines(wholeBody(first, last)(r)) {
			if name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "="); ok && name == "CrashID" {
				return value
			}
		}
		return ""
	}
}

// part is a part of a multipart body: its header lines and its bytes.
func clientPart(boundary, header, data string) string {
	return "--" + boundary + "\r\n" + header + "\r\n\r\n" + data + "\r\n"
}

func ending(boundary string) string { return "--" + boundary + "--\r\n" }

// attachment is a file as nearly all clients send it.
func attachment(boundary, name, filename, data string) string {
	return clientPart(boundary, `Content-Disposition: form-data; name="`+name+`"; filename="`+filename+`"`+"\r\nContent-Type: application/octet-stream", data)
}

// unended is the part without the line end behind its bytes.
func unended(part string) string { return strings.TrimSuffix(part, "\r\n") }

// pairs are annotations in the order in which they are sent.
type pairs [][2]string

// parts are the fields, each with such a header, in which %s stands for the name.
func (p pairs) parts(boundary, header string) string {
	var b strings.Builder
	for _, one := range p {
		b.WriteString(clientPart(boundary, fmt.Sprintf(header, one[0]), one[1]))
	}
	return b.String()
}

func (p pairs) annotations() map[string]string {
	m := map[string]string{}
	for _, one := range p {
		m[one[0]] = one[1]
	}
	return m
}

// quoted is the header of a field that has no Content-Type.
const quoted = `Content-Disposition: form-data; name="%s"`

// dumpLike is what a dump may look like to who reads it in a multipart body: it
// holds line ends, dashes, zero bytes and whatever is nearly a delimiter.
func dumpLike(boundary string, size int) string {
	var b strings.Builder
	b.WriteString("MDMP\x93\xa7\x00\x00\r\n\r\n--\x00\x00\x00\x00")
	traps := []string{
		"\r\n--" + boundary[:len(boundary)-1] + "\r\n", "\r\n--" + boundary + "x", "\r\n--" + boundary + "\x00",
		"\r\n--" + boundary + "-\r\n", "\r\n--" + boundary + "--x", "\r\n--" + boundary + " \t--",
		"--" + boundary + "\r\n\r\n", "--" + boundary + "--\r\n", "x\n--" + boundary + "\r\n", "\r--" + boundary + "--",
	}
	bytes := noise(size)
	for len(traps) > 0 {
		n := len(bytes) / (len(traps) + 1)
		b.WriteString(bytes[:n] + traps[0])
		bytes, traps = bytes[n:], traps[1:]
	}
	return b.String() + bytes + "\r\n--\r"
}
