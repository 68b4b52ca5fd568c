package throttle

import (
	"math"
	"strings"
	"time"
	"unicode"
)

// buildAge returns how old a build id is, in days: from the midnight that began
// its day to now, both UTC. A build id is a time such as 20161231235959, of
// which only the day counts. Of anything else it is NaN, with which no
// comparison but != holds.
//
// The details are those of Antenna's regular expression ^20\d{12}$ and of
// Python's strptime("%Y%m%d"): decimal digits of any script where \d stands,
// and a line end behind the last digit is passed over.
func buildAge(text string, now time.Time) float64 {
	day, ok := buildDay(text)
	if !ok {
		return math.NaN()
	}
	// Python's clock has microseconds.
	age := now.UTC().Truncate(time.Microsecond).Sub(day)
	return float64(age.Microseconds()) / float64((24 * time.Hour).Microseconds())
}

// buildDigits is the length of a build id: YYYYMMDDhhmmss.
const buildDigits = 14

func buildDay(text string) (day time.Time, ok bool) {
	if !strings.HasPrefix(text, "20") {
		return time.Time{}, false
	}
	var value [buildDigits]int
	var ascii [buildDigits]bool
	n := 0
	for _, r := range strings.TrimSuffix(text, "\n") {
		if n == buildDigits {
			return time.Time{}, false
		}
		if value[n], ok = decimal(r); !ok {
			return time.Time{}, false
		}
		ascii[n] = r < unicode.MaxASCII
		n++
	}
	// In a month, and but for the units in a day, strptime wants ASCII. Units
	// behind a 1 or a 2 are its \d.
	unitsFree := value[6] == 1 || value[6] == 2
	if n != buildDigits || !ascii[4] || !ascii[5] || !ascii[6] || !ascii[7] && !unitsFree {
		return time.Time{}, false
	}
	number := func(tens int) int { return value[tens]*10 + value[tens+1] }
	year, month, date := 2000+number(2), time.Month(number(4)), number(6)
	day = time.Date(year, month, date, 0, 0, 0, 0, time.UTC)
	return day, day.Month() == month && day.Day() == date // there is such a day
}

// decimal returns the value of a decimal digit of any script. The digits of a
// script follow one another in Unicode, and begin where their range does.
func decimal(r rune) (value int, ok bool) {
	if '0' <= r && r <= '9' {
		return int(r - '0'), true
	}
	for _, span := range unicode.Nd.R16 {
		if rune(span.Lo) <= r && r <= rune(span.Hi) {
			return int(r-rune(span.Lo)) % 10, true
		}
	}
	for _, span := range unicode.Nd.R32 {
		if rune(span.Lo) <= r && r <= rune(span.Hi) {
			return int(r-rune(span.Lo)) % 10, true
		}
	}
	return 0, false
}
