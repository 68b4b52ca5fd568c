package queue

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// value is a field of a stream's or a consumer's configuration, as JSON that is
// normalised: equal values have equal text, and a value that the server may leave out
// is empty.
type value string

// fieldsOf reads a configuration. Fields that hold the server's default are left out,
// so that a field that only one side writes down is no difference.
func fieldsOf(config json.RawMessage) (map[string]value, error) {
	var raw map[string]any
	if err := unmarshalExactly(config, &raw); err != nil {
		return nil, fmt.Errorf("reading a configuration: %w", err)
	}
	joinFilters(raw)
	fields := map[string]value{}
	for name, v := range raw {
		if isDefault(name, v) {
			continue
		}
		if list, ok := v.([]any); ok && (name == "subjects" || name == "filter_subject") {
			slices.SortFunc(list, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
		}
		text, err := json.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("reading field %s: %w", name, err)
		}
		fields[name] = value(text)
	}
	return fields, nil
}

// unmarshalExactly keeps numbers as they are written: a float would round sequences.
func unmarshalExactly(text json.RawMessage, v any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	return d.Decode(v)
}

// joinFilters has one field stand for both of a consumer's ways to write its filter.
func joinFilters(raw map[string]any) {
	many, ok := raw["filter_subjects"].([]any)
	if !ok {
		return
	}
	delete(raw, "filter_subjects")
	if one, ok := raw["filter_subject"].(string); ok && one != "" {
		many = append(many, one)
	}
	raw["filter_subject"] = any(many)
	if len(many) == 1 {
		raw["filter_subject"] = many[0]
	}
}

// isDefault reports whether a value means the same as no value at all.
func isDefault(name string, v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case bool:
		return !v
	case string:
		return v == "" || v == "none" && (name == "compression" || name == "priority_policy") ||
			v == "default" && name == "persist_mode"
	case json.Number:
		n, err := v.Int64()
		return err == nil && (n == 0 || n < 0 && isLimit(name))
	case []any:
		return len(v) == 0
	case map[string]any:
		for name, inner := range v {
			if !isDefault(name, inner) {
				return false
			}
		}
		return true
	}
	return false
}

// isLimit reports whether no number and any below 1 mean that there is no limit.
func isLimit(name string) bool {
	switch name {
	case "max_bytes", "max_msgs", "max_msg_size", "max_msgs_per_subject", "max_consumers", "max_deliver":
		return true
	}
	return false
}

func isDuration(name string) bool {
	switch name {
	case "max_age", "duplicate_window", "ack_wait", "backoff", "inactive_threshold", "max_expires",
		"idle_heartbeat", "priority_timeout", "subject_delete_marker_ttl":
		return true
	}
	return false
}

// number is the value of a number, 0 of anything else.
func (v value) number() int64 {
	n, _ := strconv.ParseInt(string(v), 10, 64)
	return n
}

// mostWords bounds what of a value is told.
const mostWords = 200

// words writes the value of a field for people. other is what it is compared with.
func (v value) words(name string, other value) string {
	n, err := strconv.ParseInt(string(v), 10, 64)
	isNumber := err == nil
	switch {
	case v == "" && isLimit(name):
		return "unlimited"
	case v == "" && (other == "true" || other == "false"):
		return "false"
	case v == "":
		return "none"
	case name == "max_bytes" && isNumber:
		return size(n)
	case isDuration(name) && isNumber:
		return time.Duration(n).String()
	}
	var list []string
	var text string
	switch {
	case json.Unmarshal([]byte(v), &text) == nil:
		return text
	case json.Unmarshal([]byte(v), &list) == nil:
		return strings.Join(list, " ")
	case len(v) > mostWords:
		return string(v[:mostWords]) + "..."
	}
	return string(v)
}

func size(n int64) string {
	if n <= 0 {
		return "unlimited"
	}
	return fmt.Sprintf("%d (%s)", n, humanize.IBytes(uint64(n)))
}
