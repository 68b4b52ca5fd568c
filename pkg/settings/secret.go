package settings

// Secret is text that does not print: fmt, encoding/json and zerolog show
// "***", or nothing when it is empty. Two ways around that remain, both of
// which name the type or hide it on purpose: a conversion to string, and a
// struct's unexported field, whose methods fmt may not call.
type Secret string

// Reveal returns the text itself.
func (s Secret) Reveal() string {
	return string(s)
}

// String returns "***", or "" when there is no secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "***"
}

// GoString is String, for %#v.
func (s Secret) GoString() string {
	return s.String()
}

// MarshalText is String, for JSON and logs. Its error is always nil.
func (s Secret) MarshalText() ([]byte, error) {
	return []byte(s.String()), nil
}
