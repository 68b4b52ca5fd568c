package crash

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// ID names a report everywhere: a random UUID (version 4) whose last seven
// characters are the throttle outcome's digit and the day as YYMMDD in UTC,
//
//	de1bb258-cbbf-4589-a673-34f800160918
//	                             ^ accepted
//	                              ^^^^^^ 18 September 2016
//
// as Antenna makes it and Socorro reads it (socorro/lib/libooid.py).
type ID string

const (
	idLen      = 36
	outcomePos = 29 // the outcome's digit, then YYMMDD
)

// ErrBadID is what ParseID answers to anything that is not an ID.
var ErrBadID = errors.New("not a crash id")

// NewID makes the id of a report that was received at the given time and
// ruled to the given outcome.
func NewID(received time.Time, outcome Outcome) ID {
	var raw [16]byte
	rand.Read(raw[:])           // never fails (crypto/rand)
	raw[6] = raw[6]&0x0f | 0x40 // version 4
	raw[8] = raw[8]&0x3f | 0x80 // the RFC 9562 variant
	var b [idLen]byte
	at := 0
	for _, group := range [...][]byte{raw[0:4], raw[4:6], raw[6:8], raw[8:10], raw[10:16]} {
		if at > 0 {
			b[at] = '-'
			at++
		}
		at += hex.Encode(b[at:], group)
	}
	b[outcomePos] = outcome.Digit()
	received.UTC().AppendFormat(b[:outcomePos+1], "060102")
	return ID(b[:])
}

// ParseID reads an id strictly: lower-case hexadecimal in a UUID's groups, an
// outcome that lets a report be stored (accept or defer, as Antenna's strict
// check), and a day that exists. The error wraps ErrBadID.
func ParseID(s string) (ID, error) {
	if len(s) != idLen {
		return "", fmt.Errorf("%w: %d characters, want %d", ErrBadID, len(s), idLen)
	}
	for i := range len(s) {
		if !idCharAt(s, i) {
			return "", fmt.Errorf("%w: character %d", ErrBadID, i+1)
		}
	}
	id := ID(s)
	if o := id.Outcome(); o != Accept && o != Defer {
		return "", fmt.Errorf("%w: outcome %c", ErrBadID, s[outcomePos])
	}
	if _, err := time.Parse("060102", s[outcomePos+1:]); err != nil {
		return "", fmt.Errorf("%w: no such day", ErrBadID)
	}
	return id, nil
}

func idCharAt(s string, i int) bool {
	c := s[i]
	switch {
	case i == 8 || i == 13 || i == 18 || i == 23:
		return c == '-'
	case i >= outcomePos:
		return '0' <= c && c <= '9'
	default:
		return '0' <= c && c <= '9' || 'a' <= c && c <= 'f'
	}
}

// Outcome returns the throttle outcome that the id carries.
func (id ID) Outcome() Outcome { return Outcome(id[outcomePos] - '0') }

// Day returns the id's day as YYYYMMDD, as the bucket spells it.
func (id ID) Day() string { return "20" + string(id[outcomePos+1:]) }

// Outcome is what the throttler decides about a report. Its value is the
// digit that the id carries (Antenna's throttler.py).
type Outcome uint8

// The outcomes. Continue never ends up in an id: it lets the next rule decide.
const (
	Accept     Outcome = iota // store and process
	Defer                     // store, do not process
	Reject                    // refuse, and say so
	FakeAccept                // answer as if accepted, store nothing
	Continue                  // this rule does not decide
)

// Digit returns the outcome as the character in an id.
func (o Outcome) Digit() byte { return '0' + byte(o) }

// String returns the outcome in Antenna's spelling, lower case.
func (o Outcome) String() string {
	if o > Continue {
		return fmt.Sprintf("outcome(%d)", uint8(o))
	}
	return [...]string{"accept", "defer", "reject", "fake_accept", "continue"}[o]
}
