// Package submit is a crash client for operators' commands: it writes a report
// as Crashpad does, posts it, and reads the answer.
package submit

import (
	"fmt"
	"io"
	"mime/multipart"
	"net/textproto"

	"github.com/yagi-crash/yagi/pkg/crash"
)

// Boundary separates the parts of every body. Crashpad draws one for each body;
// in a dump it is as unlikely either way.
const Boundary = "---MultipartBoundary-hX2kF0a9QwLr7TzN4yVbS3cD8eGmJ5pU---"

// ContentType is the media type of every body.
const ContentType = "multipart/form-data; boundary=" + Boundary

// Field is an annotation as a client sends it.
type Field struct{ Name, Value string }

// Report is what a client sends.
type Report struct {
	Fields []Field
	Dump   []byte
}

// Write writes the report as a body: the annotations as fields, then the
// minidump as a file.
func (r *Report) Write(w io.Writer) error {
	form := multipart.NewWriter(w)
	if err := form.SetBoundary(Boundary); err != nil {
		return err
	}
	for _, f := range r.Fields {
		if err := form.WriteField(f.Name, f.Value); err != nil {
			return fmt.Errorf("writing a field: %w", err)
		}
	}
	file, err := form.CreatePart(textproto.MIMEHeader{
		"Content-Disposition": {multipart.FileContentDisposition(crash.MinidumpName, "minidump.dmp")},
		"Content-Type":        {"application/octet-stream"},
	})
	if err != nil {
		return fmt.Errorf("beginning the minidump: %w", err)
	}
	if _, err := file.Write(r.Dump); err != nil {
		return fmt.Errorf("writing the minidump: %w", err)
	}
	return form.Close()
}
