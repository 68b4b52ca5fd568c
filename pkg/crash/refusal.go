package crash

import "fmt"

// Reason says, in one fixed word, why a report was turned away. It is what
// the client reads behind "Discarded=" and the label that metrics count by,
// so the list is closed and never holds anything that a client sent.
type Reason string

// Reasons of Antenna, word for word (its breakpad_resource.py): the report is
// malformed, status 400.
const (
	ReasonNoContentType           Reason = "malformed_no_content_type"
	ReasonWrongContentType        Reason = "malformed_wrong_content_type"
	ReasonNoBoundary              Reason = "malformed_no_boundary"
	ReasonNoContentLength         Reason = "malformed_no_content_length"
	ReasonBadGzip                 Reason = "malformed_bad_gzip"
	ReasonInvalidJSON             Reason = "malformed_invalid_json"
	ReasonInvalidJSONValue        Reason = "malformed_invalid_json_value"
	ReasonInvalidPayloadStructure Reason = "malformed_invalid_payload_structure"
	ReasonInvalidDumpName         Reason = "malformed_invalid_dump_name"
	ReasonNoAnnotations           Reason = "malformed_no_annotations"
	ReasonInvalidUUID             Reason = "malformed_invalid_uuid"
)

// Reasons for which Antenna, or the proxy that it needs in front, has another
// answer or none.
const (
	ReasonUnauthorizedUUID    Reason = "unauthorized_uuid"      // 401, Antenna's
	ReasonBadEncoding         Reason = "malformed_bad_encoding" // 400: deflate or zstd; for gzip there is a word
	ReasonTooLarge            Reason = "too_large"              // 413
	ReasonUnsupportedEncoding Reason = "unsupported_encoding"   // 415
	ReasonTooSlow             Reason = "too_slow"               // 408
	ReasonUnavailable         Reason = "unavailable"            // 503: not promised, may be sent again
	ReasonInternal            Reason = "internal"               // 500: a fault of ours
)

// Reasons lists every Reason, for metrics and documentation.
func Reasons() []Reason {
	return []Reason{
		ReasonNoContentType, ReasonWrongContentType, ReasonNoBoundary, ReasonNoContentLength,
		ReasonBadGzip, ReasonInvalidJSON, ReasonInvalidJSONValue, ReasonInvalidPayloadStructure,
		ReasonInvalidDumpName, ReasonNoAnnotations, ReasonInvalidUUID, ReasonUnauthorizedUUID, ReasonBadEncoding,
		ReasonTooLarge, ReasonUnsupportedEncoding, ReasonTooSlow, ReasonUnavailable, ReasonInternal,
	}
}

// Refusal turns a report away. Reason is for the client; Err is the cause,
// for our log only, and may be nil.
type Refusal struct {
	Reason Reason
	Status int // the HTTP status to answer with
	Err    error
}

// Error returns the reason and the cause.
func (r *Refusal) Error() string {
	if r.Err == nil {
		return string(r.Reason)
	}
	return fmt.Sprintf("%s: %v", r.Reason, r.Err)
}

// Unwrap returns the cause.
func (r *Refusal) Unwrap() error { return r.Err }

// Malformed refuses a report that cannot be understood: status 400.
func Malformed(reason Reason, cause error) *Refusal {
	return &Refusal{Reason: reason, Status: 400, Err: cause}
}

// TooLarge refuses a report that is over a limit: status 413.
func TooLarge(cause error) *Refusal {
	return &Refusal{Reason: ReasonTooLarge, Status: 413, Err: cause}
}

// Unavailable refuses a report that cannot be promised at the moment: status 503.
func Unavailable(cause error) *Refusal {
	return &Refusal{Reason: ReasonUnavailable, Status: 503, Err: cause}
}
