package loadgen

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"

	"github.com/yagi-crash/yagi/deploy/internal/submit"
)

// maker writes the bodies of one connection, each over the one before.
type maker struct {
	cfg  *Config
	dump []byte
	body bytes.Buffer
	zip  *gzip.Writer // nil unless bodies are compressed
}

func newMaker(cfg *Config) (*maker, error) {
	m := &maker{cfg: cfg, dump: make([]byte, cfg.Size.Max)}
	if !cfg.Gzip {
		return m, nil
	}
	var err error
	// What is random does not get smaller, and the generator's time is what the
	// intake on the same machine lacks.
	m.zip, err = gzip.NewWriterLevel(nil, gzip.BestSpeed)
	return m, err
}

// make returns the body of report n, which depends on the seed alone and is
// unlike that of any other report. It is valid until the next call.
func (m *maker) make(n int64) ([]byte, error) {
	report := m.report(n)
	m.body.Reset()
	var err error
	if m.zip == nil {
		err = report.Write(&m.body)
	} else {
		m.zip.Reset(&m.body)
		err = errors.Join(report.Write(m.zip), m.zip.Close())
	}
	if err != nil {
		return nil, fmt.Errorf("making report %d: %w", n, err)
	}
	return m.body.Bytes(), nil
}

func (m *maker) report(n int64) submit.Report {
	random := rand.New(rand.NewPCG(m.cfg.Seed, uint64(n)))
	size := int64(m.cfg.Size.Min) + random.Int64N(int64(m.cfg.Size.Max-m.cfg.Size.Min)+1)
	dump := m.dump[:size]
	fill(dump, random)
	copy(dump, "MDMP")
	return submit.Report{Dump: dump, Fields: []submit.Field{
		{Name: "ProductName", Value: m.cfg.Product},
		{Name: "Version", Value: "1.0"},
		{Name: "YagiLoad", Value: strconv.FormatUint(m.cfg.Seed, 10) + "/" + strconv.FormatInt(n, 10)},
	}}
}

// fill costs half as much as rand.ChaCha8's Read, and nobody has to guess these
// bytes.
func fill(dump []byte, random *rand.Rand) {
	for ; len(dump) >= 8; dump = dump[8:] {
		binary.LittleEndian.PutUint64(dump, random.Uint64())
	}
	for i := range dump {
		dump[i] = byte(random.Uint32())
	}
}

// encoding is the Content-Encoding of the bodies.
func (m *maker) encoding() string {
	if m.zip == nil {
		return ""
	}
	return "gzip"
}
