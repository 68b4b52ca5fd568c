package breakpad

import (
	"errors"
	"fmt"
	"strings"
)

// partHeader is what a part's header lines say.
type partHeader struct {
	name     string
	filename string
	kind     string // Content-Type; text/plain when there is none (RFC 2046 §5.1)
	notes    []string
}

// header reads the header lines of the next part, up to and including the
// blank one behind them.
func (m *multipart) header(limits Limits) (partHeader, error) {
	h := partHeader{kind: "text/plain"}
	var lines []string
	left := int(limits.HeaderBytes)
	for n := 0; ; n++ {
		line, err := m.line(left)
		if err != nil {
			return h, err
		}
		left -= len(line) + len("\r\n")
		if m.headers += len(line) + len("\r\n"); m.headers > limits.headerBytes() {
			return h, fmt.Errorf("headers of all parts over %d bytes", limits.headerBytes())
		}
		switch {
		case len(line) == 0:
			return h, h.read(lines)
		case n == limits.HeaderLines:
			return h, fmt.Errorf("more than %d header lines in a part", limits.HeaderLines)
		case (line[0] == ' ' || line[0] == '\t') && len(lines) > 0: // continues the line before
			lines[len(lines)-1] += " " + strings.TrimSpace(string(line))
		default:
			lines = append(lines, string(line))
		}
	}
}

// read takes the lines' meaning. As in Antenna the last of several lines of
// one name counts.
func (h *partHeader) read(lines []string) error {
	dispositions, disposition := 0, ""
	for _, line := range lines {
		key, value, ok := strings.Cut(line, ":")
		if !ok {
			return errors.New("part header line without a colon")
		}
		value = strings.TrimSpace(value)
		switch strings.ToLower(strings.TrimSpace(key)) {
		case "content-disposition":
			disposition = value
			dispositions++
		case "content-type":
			h.kind = value
		case "content-transfer-encoding":
			switch strings.ToLower(value) {
			case "", "binary", "8bit", "7bit":
			default:
				return errors.New("part with a Content-Transfer-Encoding")
			}
		}
	}
	if dispositions > 1 {
		h.note("part with several Content-Disposition lines: the last one counts")
	}
	h.dispose(disposition)
	return nil
}

// dispose reads a Content-Disposition. Its first word does not matter, as in
// Antenna. The name becomes a JSON key, and so valid UTF-8.
func (h *partHeader) dispose(value string) {
	_, params := cutParameter(value)
	name, times := parameter(params, "name")
	if times == 0 {
		name, times = extended(params, "name")
		if times > 0 {
			h.note("part that is named by name* instead of name")
		}
	}
	if times > 1 {
		h.note("part with several names: the last one counts")
	}
	h.name = strings.ToValidUTF8(name, "\uFFFD")
	if h.name != name {
		h.note("part whose name is not UTF-8: " + h.name)
	}
	if h.filename, _ = extended(params, "filename"); h.filename == "" {
		h.filename, _ = parameter(params, "filename")
	}
}

func (h *partHeader) note(text string) { h.notes = append(h.notes, text) }

// isJSON and isText look at the type as Antenna does: how it begins, in small
// letters.
func (h *partHeader) isJSON() bool { return strings.HasPrefix(h.kind, "application/json") }

func (h *partHeader) isText() bool {
	return strings.HasPrefix(h.kind, "text/plain") && h.filename == ""
}

// charset returns the character set of a text part, utf-8 when it names none.
func (h *partHeader) charset() string {
	_, params := cutParameter(h.kind)
	if c, times := parameter(params, "charset"); times > 0 {
		return c
	}
	return "utf-8"
}
