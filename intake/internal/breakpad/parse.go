// Package breakpad reads a crash report out of an HTTP request as Breakpad,
// Crashpad, Firefox and their kin post it: multipart, with annotations as form
// fields or as one JSON part, and dumps as files.
//
// It takes in what real clients send, even where no standard covers it, and
// answers everything else with a crash.Refusal. A body is first received as it
// is, at the client's pace, and then read once, in order, at ours; so a slow
// client costs no more than its bytes.
package breakpad

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/layout"
)

// parser gathers a report part by part.
type parser struct {
	limits Limits
	parts  *multipart
	src    *counted
	report crash.Report
	body   io.ReaderAt // as received
	again  *replay     // inflates it again; nil: it is not compressed
	kept   int         // bytes of parts
	text   int         // bytes of annotations, as JSON
	json   int         // bytes of JSON parts

	replaced int // dumps

	hasJSON, hasFields bool
}

// run reads every part.
func (p *parser) run() error {
	if err := p.parts.start(); err != nil {
		return err
	}
	if p.parts.bareLF {
		p.note("lines end in LF instead of CRLF")
	}
	for n := 0; !p.parts.done; n++ {
		if n == p.limits.Parts {
			return fmt.Errorf("more than %d parts", p.limits.Parts)
		}
		h, err := p.parts.header(p.limits)
		if err != nil {
			return err
		}
		if err := p.part(&h); err != nil {
			return err
		}
	}
	return nil
}

// part reads one part and puts it where it belongs. A part without a name is
// passed over, as in Antenna.
func (p *parser) part(h *partHeader) error {
	for _, note := range h.notes {
		p.note(note)
	}
	switch {
	case h.name == "":
		return p.parts.copy(func([]byte) error { return nil })
	case h.isJSON():
		return p.annotations()
	case h.isText():
		return p.annotation(h)
	default:
		return p.dump(h)
	}
}

// annotations reads a JSON part. It takes the place of all annotations before
// it, as in Antenna; and as there it is bad JSON first when the body is cut off
// within it. Replaced parts count towards the limit, since they cost as much.
func (p *parser) annotations() error {
	text, whole, cut := p.small(int(p.limits.JSON) - p.json)
	p.json += len(text)
	if cut != nil && !errors.Is(cut, errNoEnd) {
		return cut
	}
	if !whole {
		return crash.TooLarge(fmt.Errorf("JSON annotations of more than %d bytes", p.limits.JSON))
	}
	annotations, tooLong, err := decodeJSON(text, p.limits)
	if err == nil {
		err = cut
	}
	if err != nil {
		return err
	}
	p.report.Annotations, p.text = annotations, len(text)
	if p.hasJSON {
		p.note("several JSON parts: the last one counts")
	}
	p.hasJSON = true
	if tooLong > 0 {
		p.note(fmt.Sprintf("dropped %d annotations whose names are over %d bytes", tooLong, p.limits.Name))
	}
	return nil
}

// annotation reads a form field. One that cannot be kept is dropped with a
// note: the rest of the report is worth having.
func (p *parser) annotation(h *partHeader) error {
	p.hasFields = true
	value, whole, err := p.small(int(p.limits.Value))
	if err != nil {
		return err
	}
	text, ok := decodeText(h.charset(), value)
	switch {
	case len(h.name) > int(p.limits.Name):
		p.note(fmt.Sprintf("dropped an annotation whose name is over %d bytes", p.limits.Name))
	case !whole:
		p.note(fmt.Sprintf("dropped annotation %s: over %d bytes", h.name, p.limits.Value))
	case !ok: // Antenna's words
		p.note("extract payload text part exception: invalid text or charset: " + h.charset())
	default:
		return p.annotate(h.name, crash.Text(text))
	}
	return nil
}

// annotate adds an annotation, as far as there may be more.
func (p *parser) annotate(name string, value json.RawMessage) error {
	p.report.Annotations[name] = value
	if len(p.report.Annotations) > p.limits.Annotations {
		return fmt.Errorf("more than %d annotations", p.limits.Annotations)
	}
	if p.text += len(name) + len(value); p.text > int(p.limits.JSON) {
		return crash.TooLarge(fmt.Errorf("annotations of more than %d bytes as JSON", p.limits.JSON))
	}
	return nil
}

// small reads a part's body of at most limit bytes. Of a larger one the rest
// is passed over, and whole is false.
func (p *parser) small(limit int) (body []byte, whole bool, err error) {
	whole = true
	err = p.parts.copy(func(piece []byte) error {
		if room := limit - len(body); len(piece) > room {
			piece, whole = piece[:room], false
		}
		body = append(body, piece...)
		return p.keep(len(piece))
	})
	return body, whole, err
}

// keep counts what is kept, and refuses what is too large to be stored anyway.
func (p *parser) keep(n int) error {
	if p.kept += n; p.kept > p.limits.Kept {
		return tooLarge("without its multipart framing", int64(p.limits.Kept))
	}
	return nil
}

// maxReplaced is how many dumps may take the place of others. Each may lie behind one that
// is read after it, and then a compressed report is decompressed from its beginning.
const maxReplaced = 2

// dump reads a file. Of two that would lie under one key the last counts, as
// in Antenna.
func (p *parser) dump(h *partHeader) error {
	name, err := crash.DumpName(h.name)
	if err != nil {
		return err
	}
	if h.kind != "application/octet-stream" {
		p.note("unknown content type: " + h.name + " " + h.kind)
	}
	part, err := p.file(name)
	if err != nil {
		return err
	}
	if part.Size == 0 {
		p.note("dump " + name + " is empty")
	}
	dumps := p.report.Dumps
	for i := range dumps {
		if layout.Dump(dumps[i].Name, "") == layout.Dump(name, "") {
			p.note("two dumps named " + name + ": the last one counts")
			dumps[i] = part
			if p.replaced++; p.replaced > maxReplaced {
				return fmt.Errorf("more than %d dumps named as others", maxReplaced)
			}
			return nil
		}
	}
	if len(dumps) == p.limits.Dumps {
		return fmt.Errorf("more than %d dumps", p.limits.Dumps)
	}
	p.report.Dumps = append(dumps, part)
	return nil
}

// file digests a dump's bytes as they come by. They lie in the body already.
func (p *parser) file(name string) (crash.Part, error) {
	digest := sha256.New()
	part := crash.Part{Name: name}
	start := p.src.n - int64(len(p.parts.unread))
	err := p.parts.copyFile(p.note, func(piece []byte) error {
		if err := p.keep(len(piece)); err != nil {
			return err
		}
		digest.Write(piece)
		part.Size += int64(len(piece))
		return nil
	})
	part.Data = p.dumpAt(start, part.Size)
	digest.Sum(part.SHA256[:0])
	return part, err
}

// describe fills in what the collector notes about the report.
func (p *parser) describe(post *Post) {
	m := &p.report.Metadata
	m.Size, m.Compressed, m.Payload = post.wire, post.coding != codingIdentity, crash.PayloadMultipart
	if p.hasJSON {
		m.Payload = crash.PayloadJSON
	}
	if p.hasJSON && p.hasFields { // Antenna's words
		p.note("includes annotations in both json-encoded extra and formdata parts")
	}
	if m.UserAgent = post.userAgent; m.UserAgent == "" {
		m.UserAgent = "None" // as Antenna
	}
}

// maxNote is the longest note, in bytes: notes may quote what a client sent.
const maxNote = 512

// maxNotes is how many notes a report may have.
const maxNotes = 100

func (p *parser) note(text string) {
	if len(p.report.Metadata.Notes) >= maxNotes {
		return
	}
	text = strings.ToValidUTF8(text[:min(len(text), maxNote)], "\uFFFD")
	p.report.Metadata.Notes = append(p.report.Metadata.Notes, text)
}
