// Package breakpad reads a crash report out of an HTTP request as Breakpad,
// Crashpad, Firefox and their kin post it: multipart, with annotations as form
// fields or as one JSON part, and dumps as files.
//
// It takes in what real clients send, even where no standard covers it, and
// answers everything else with a crash.Refusal. It reads a body once, in
// order, and digests each dump as its bytes arrive.
package breakpad

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/layout"
)

// Parse reads the report in a request, all but its id and time. Every error is
// a *crash.Refusal.
func Parse(r *http.Request, limits Limits) (*crash.Report, error) {
	boundary, err := boundary(r.Header)
	if err != nil {
		return nil, err
	}
	body, err := openBody(r, limits)
	if err != nil {
		return nil, refusal(err)
	}
	p := parser{limits: limits, parts: newMultipart(body.plain, boundary)}
	p.report.Annotations = crash.Annotations{}
	if !body.gzip {
		p.expected = r.ContentLength
	}
	if err := p.run(); err != nil {
		return nil, refusal(err)
	}
	size, err := body.finish()
	if err != nil {
		return nil, refusal(err)
	}
	p.describe(r, size, body.gzip)
	if len(p.report.Annotations) == 0 {
		return nil, crash.Malformed(crash.ReasonNoAnnotations, nil)
	}
	return &p.report, nil
}

// refusal makes sure that an error tells the client something.
func refusal(err error) error {
	if r, ok := errors.AsType[*crash.Refusal](err); ok {
		return r
	}
	return crash.Malformed(crash.ReasonInvalidPayloadStructure, err)
}

// parser gathers a report part by part.
type parser struct {
	limits   Limits
	parts    *multipart
	report   crash.Report
	expected int64  // bytes of the whole body; 0 or less: unknown
	slab     []byte // all dumps, back to back
	kept     int    // bytes of parts held in memory

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
// it, as in Antenna.
func (p *parser) annotations() error {
	text, whole, err := p.small(p.limits.JSON)
	if err != nil {
		return err
	}
	if !whole {
		return crash.TooLarge(fmt.Errorf("JSON annotations of more than %d bytes", p.limits.JSON))
	}
	var tooLong int
	p.report.Annotations, tooLong, err = decodeJSON(text, p.limits)
	if err != nil {
		return err
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
	value, whole, err := p.small(p.limits.Value)
	if err != nil {
		return err
	}
	text, ok := decodeText(h.charset(), value)
	switch {
	case len(h.name) > p.limits.Name:
		p.note(fmt.Sprintf("dropped an annotation whose name is over %d bytes", p.limits.Name))
	case !whole:
		p.note(fmt.Sprintf("dropped annotation %s: over %d bytes", h.name, p.limits.Value))
	case !ok: // Antenna's words
		p.note("extract payload text part exception: invalid text or charset: " + h.charset())
	default:
		p.report.Annotations[h.name] = crash.Text(text)
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

// keep counts what is held in memory, and refuses what is too large to be
// stored anyway.
func (p *parser) keep(n int) error {
	if p.kept += n; p.kept > p.limits.Kept {
		return tooLarge("without its multipart framing", int64(p.limits.Kept))
	}
	return nil
}

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
	dumps := p.report.Dumps
	for i := range dumps {
		if layout.Dump(dumps[i].Name, "") == layout.Dump(name, "") {
			p.note("two dumps named " + name + ": the last one counts")
			dumps[i] = part
			return nil
		}
	}
	if len(dumps) == p.limits.Dumps {
		return fmt.Errorf("more than %d dumps", p.limits.Dumps)
	}
	p.report.Dumps = append(dumps, part)
	return nil
}

// firstSlab is as much memory as is taken for what a client has only announced,
// in bytes: the median dump fits.
const firstSlab = 1 << 20

// file reads a dump's bytes and digests them as they come. The dumps of a report
// share one allocation as long as they fit.
func (p *parser) file(name string) (crash.Part, error) {
	if p.slab == nil {
		p.slab = make([]byte, 0, min(max(p.expected, window), firstSlab))
	}
	start, digest := len(p.slab), sha256.New()
	err := p.parts.copy(func(piece []byte) error {
		if err := p.keep(len(piece)); err != nil {
			return err
		}
		digest.Write(piece)
		if len(p.slab)+len(piece) > cap(p.slab) { // earlier dumps keep the old allocation
			p.slab = append(make([]byte, 0, 2*(len(p.slab)-start)+window+len(piece)), p.slab[start:]...)
			start = 0
		}
		p.slab = append(p.slab, piece...)
		return nil
	})
	part := crash.Part{Name: name, Data: p.slab[start:len(p.slab):len(p.slab)]}
	digest.Sum(part.SHA256[:0])
	return part, err
}

// describe fills in what the collector notes about the report.
func (p *parser) describe(r *http.Request, size int64, compressed bool) {
	m := &p.report.Metadata
	m.Size, m.Compressed, m.Payload = size, compressed, crash.PayloadMultipart
	if p.hasJSON {
		m.Payload = crash.PayloadJSON
	}
	if p.hasJSON && p.hasFields { // Antenna's words
		p.note("includes annotations in both json-encoded extra and formdata parts")
	}
	if m.UserAgent = r.UserAgent(); m.UserAgent == "" {
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
