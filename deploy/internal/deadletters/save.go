package deadletters

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/queue"
)

// Body is what there is of a dead letter's body.
type Body struct {
	// Pieces are the body itself, or the chunks; nil for one that is lost.
	Pieces [][]byte
	// Parts are the pieces cut up as the manifest says; nil when they do not add
	// up to it.
	Parts []Part
}

// Part is one part of a report.
type Part struct {
	Name string
	Data []byte
	// Intact says that it has the digest that intake took of it.
	Intact bool
}

// Body reads all of a dead letter, which is in memory then.
func (l *Letters) Body(ctx context.Context, letter Letter) (*Body, error) {
	sequences := letter.Chunks
	if len(sequences) == 0 {
		sequences = []uint64{letter.Sequence}
	}
	b := &Body{}
	var whole []byte
	for _, seq := range sequences {
		var piece []byte
		var err error
		if seq != 0 {
			piece, err = l.message(ctx, seq)
		}
		if err != nil {
			return nil, err
		}
		b.Pieces = append(b.Pieces, piece)
		whole = append(whole, piece...)
	}
	b.Parts = cut(whole, letter.Parts)
	return b, nil
}

// cut returns nil when the body is not as long as its parts together.
func cut(body []byte, manifest []queue.ManifestPart) []Part {
	var parts []Part
	for _, p := range manifest {
		if p.Size > int64(len(body)) {
			return nil
		}
		data := body[:p.Size:p.Size]
		body = body[p.Size:]
		parts = append(parts, Part{Name: p.Name, Data: data, Intact: crash.Sum(data) == p.SHA256})
	}
	if len(body) > 0 {
		return nil
	}
	return parts
}

// Save writes a dead letter into a new folder in dir, and returns the folder's
// path: dead_letter.json says what it is, and each part is a file of its name; when
// the parts cannot be told apart, body.bin or chunk_<n>.bin are what there is.
// Nobody else may read them: they are personal data.
func (l *Letters) Save(ctx context.Context, letter Letter, dir string) (string, error) {
	body, err := l.Body(ctx, letter)
	if err != nil {
		return "", err
	}
	about, err := json.MarshalIndent(struct {
		Letter

		Headers map[string][]string `json:"headers"`
	}{letter, letter.header}, "", "  ")
	if err != nil {
		return "", fmt.Errorf("writing dead_letter.json: %w", err)
	}
	files := map[string][]byte{"dead_letter.json": append(about, '\n')}
	for _, part := range body.Parts {
		files[part.Name] = part.Data
	}
	for i, piece := range body.Pieces {
		switch {
		case body.Parts != nil || piece == nil:
		case len(letter.Chunks) == 0:
			files["body.bin"] = piece
		default:
			files[fmt.Sprintf("chunk_%03d.bin", i+1)] = piece
		}
	}
	path := filepath.Join(dir, letter.Name())
	if err := os.Mkdir(path, 0o700); err != nil {
		return "", fmt.Errorf("making a folder: %w", err)
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(path, name), data, 0o600); err != nil {
			return "", fmt.Errorf("writing a part: %w", err)
		}
	}
	return path, nil
}

// Name is a name for people: the number, and the report's id when there is one.
func (l Letter) Name() string {
	if l.ID == "" {
		return strconv.FormatUint(l.Sequence, 10)
	}
	return fmt.Sprintf("%d-%s", l.Sequence, l.ID)
}
