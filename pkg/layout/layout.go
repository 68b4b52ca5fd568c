// Package layout is the bucket's layout, and the only place that knows it:
//
//	v1/dump_names/<id>            JSON array of the dumps' names, [] when there are none
//	v1/<dump name>/<id>           one object a dump; upload_file_minidump lies under v1/dump/<id>
//	v1/raw_crash/<YYYYMMDD>/<id>  what client and collector say about the crash, JSON, written last
//
// Whoever finds a raw_crash may rely on the others being there. The layout is
// the one that Socorro reads (its build_keys, since September 2022); the day
// is the id's.
package layout

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/yagi-crash/yagi/pkg/crash"
)

const (
	prefix     = "v1/"
	dumpNames  = "dump_names"
	rawCrash   = crash.RawCrashName
	minidump   = "dump" // where upload_file_minidump lies
	typeJSON   = "application/json"
	typeBinary = "application/octet-stream"
)

// ErrNotAKey is what Parse answers to a key that no report has.
var ErrNotAKey = errors.New("not a key of a crash report")

// RawCrash returns the key of a report's raw_crash document.
func RawCrash(id crash.ID) string { return prefix + rawCrash + "/" + id.Day() + "/" + string(id) }

// DumpNames returns the key of the list of a report's dumps.
func DumpNames(id crash.ID) string { return prefix + dumpNames + "/" + string(id) }

// Dump returns the key of one dump of a report.
func Dump(name string, id crash.ID) string {
	if name == crash.MinidumpName {
		name = minidump
	}
	return prefix + name + "/" + string(id)
}

// ProbePrefix begins the keys of Probe.
const ProbePrefix = prefix + "probe/"

const probeName = "yagi-"

// Probe returns the key of the object that a process puts to see whether the bucket
// takes any. It lies where reports lie, so that whoever may put those may put it. No
// report has that key, since the last field of a report's key is an id. An instance
// names the process.
func Probe(instance string) string { return ProbePrefix + probeName + instance }

// Control returns the key of an object beside the objects of a part ("dump_names", the
// name of a dump, or crash.RawCrashName), which a process puts to see whether the
// bucket takes objects of that kind. No report has that key.
func Control(part, instance string) string {
	if part == rawCrash {
		return prefix + rawCrash + "/probe/" + probeName + instance
	}
	return Dump(part, crash.ID(probeName+"probe-"+instance))
}

// IsProbe reports whether a key is one of Probe or Control.
func IsProbe(key string) bool {
	return strings.HasPrefix(key, prefix) && strings.HasPrefix(key[strings.LastIndexByte(key, '/')+1:], probeName)
}

// Parse reads a key: which report it belongs to, and the name of its part, as
// crash.Part has it, or "dump_names". The error wraps ErrNotAKey.
func Parse(key string) (id crash.ID, part string, err error) {
	fields := strings.Split(strings.TrimPrefix(key, prefix), "/")
	id, err = crash.ParseID(fields[len(fields)-1])
	if err != nil || !strings.HasPrefix(key, prefix) {
		return "", "", fmt.Errorf("reading %q: %w", key, ErrNotAKey)
	}
	part = fields[0]
	if part == minidump {
		part = crash.MinidumpName
	}
	if key != keyOf(part, id) {
		return "", "", fmt.Errorf("reading %q: %w", key, ErrNotAKey)
	}
	return id, part, nil
}

func keyOf(part string, id crash.ID) string {
	switch part {
	case rawCrash:
		return RawCrash(id)
	case dumpNames:
		return DumpNames(id)
	}
	if clean, err := crash.DumpName(part); err != nil || clean != part {
		return ""
	}
	return Dump(part, id)
}

// Object is one object to put into the bucket.
type Object struct {
	Key         string
	ContentType string
	Part        crash.Part // what it holds
}

// Objects returns the objects of a report in the order in which they are put:
// the names, the dumps, and raw_crash last. The same report gives the same
// bytes under the same keys; the list of names is sorted, as in Antenna.
func Objects(s *crash.Sealed) ([]Object, error) {
	names := make([]string, 0, len(s.Dumps))
	for _, d := range s.Dumps {
		names = append(names, d.Name)
	}
	slices.Sort(names)
	list, err := json.Marshal(names)
	if err != nil {
		return nil, fmt.Errorf("listing the dumps of %s: %w", s.ID, err)
	}
	list = bytes.ReplaceAll(list, []byte(","), []byte(", ")) // as Antenna spells it; no name has a comma
	objects := []Object{{Key: DumpNames(s.ID), ContentType: typeJSON, Part: crash.NewPart(dumpNames, list, crash.Sum(list))}}
	for _, d := range s.Dumps {
		objects = append(objects, Object{Key: Dump(d.Name, s.ID), ContentType: typeBinary, Part: d})
	}
	return append(objects, Object{Key: RawCrash(s.ID), ContentType: typeJSON, Part: s.RawCrash}), nil
}
