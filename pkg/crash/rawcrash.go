package crash

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// RawCrashVersion is the version of the raw_crash document that Yagi writes
// and that Socorro's processor reads (its raw_crash.schema.yaml).
const RawCrashVersion = 2

// TimestampFormat is how raw_crash spells a time: Python's isoformat of a UTC
// time, always with six digits, e.g. 2016-09-18T12:00:00.000000+00:00.
const TimestampFormat = "2006-01-02T15:04:05.000000-07:00"

// Metadata is what the collector notes about a report. Names and types are
// those of Socorro's raw_crash schema, version 2.
type Metadata struct {
	// Payload tells how the annotations were sent: PayloadJSON or
	// PayloadMultipart.
	Payload string
	// Compressed tells whether the body came with a Content-Encoding.
	Compressed bool
	// Size is the size of the body on the wire, in bytes.
	Size int64
	// Notes are remarks for whoever looks into a report that came out odd.
	Notes []string
	// UserAgent is the client's User-Agent, or "None" as in Antenna.
	UserAgent string
	// ThrottleRule is the name of the rule that decided.
	ThrottleRule string
}

// How annotations may have been sent (Metadata.Payload).
const (
	PayloadJSON      = "json"
	PayloadMultipart = "multipart"
)

// Scrub removes the annotations that identify a person, which must not be
// stored (Antenna's BAD_FIELDS), and leaves a note for each. It runs after
// throttling, which may look at them.
func (r *Report) Scrub() {
	for _, name := range [...]string{"Email", "TelemetryClientId", "TelemetryServerURL", "TelemetrySessionId"} {
		if _, ok := r.Annotations[name]; ok {
			delete(r.Annotations, name)
			r.Metadata.Notes = append(r.Metadata.Notes, "Removed "+name+" from raw crash.")
		}
	}
}

// metadataJSON is Metadata as raw_crash spells it, keys sorted.
type metadataJSON struct {
	Notes      []string          `json:"collector_notes"`
	Checksums  map[string]string `json:"dump_checksums"`
	Payload    string            `json:"payload"`
	Compressed string            `json:"payload_compressed"`
	Size       int64             `json:"payload_size"`
	Rule       string            `json:"throttle_rule"`
	UserAgent  string            `json:"user_agent"`
}

// rawCrash returns the report's raw_crash document: all annotations at the
// top level, and over them what the collector adds, with sorted keys, so that
// the same report is always the same bytes. Values are JSON already, and are
// neither read nor written anew.
func (r *Report) rawCrash() ([]byte, error) {
	metadata, err := json.Marshal(r.metadata())
	if err != nil {
		return nil, fmt.Errorf("writing the metadata of %s: %w", r.ID, err)
	}
	doc := make(Annotations, len(r.Annotations)+4)
	maps.Copy(doc, r.Annotations)
	doc["submitted_timestamp"] = Text(r.Received.UTC().Format(TimestampFormat))
	doc["uuid"] = Text(string(r.ID))
	doc["version"] = json.RawMessage(strconv.Itoa(RawCrashVersion))
	doc["metadata"] = metadata

	size := 0
	for name, value := range doc {
		size += len(name) + len(value) + len(`"":,`)
	}
	out := append(make([]byte, 0, size+len("{}")), '{')
	for i, name := range slices.Sorted(maps.Keys(doc)) {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, Text(name)...)
		out = append(out, ':')
		out = append(out, doc[name]...)
	}
	return append(out, '}'), nil
}

func (r *Report) metadata() metadataJSON {
	m := metadataJSON{
		Notes:      r.Metadata.Notes,
		Checksums:  make(map[string]string, len(r.Dumps)),
		Payload:    r.Metadata.Payload,
		Compressed: "0",
		Size:       r.Metadata.Size,
		Rule:       r.Metadata.ThrottleRule,
		UserAgent:  r.Metadata.UserAgent,
	}
	if m.Notes == nil {
		m.Notes = []string{} // readers expect a list, never null
	}
	if r.Metadata.Compressed {
		m.Compressed = "1"
	}
	for _, d := range r.Dumps {
		m.Checksums[d.Name] = d.SHA256.String()
	}
	return m
}
