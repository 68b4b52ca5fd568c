package settings

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"github.com/rs/zerolog"
)

// Warning is a setting that does not keep a program from starting, and is probably
// not what somebody meant.
type Warning struct{ Key, Problem string }

// String is "KEY: what is wrong with it".
func (w Warning) String() string { return w.Key + ": " + w.Problem }

// Warnings returns what is doubtful about the settings of the configs, which Load
// has read: what their Warnings methods return,
//
//	Warnings() []Warning
//
// and the variables that no program reads although they begin as a variable of the
// configs does (INTAKE_, NATS_, ...), each with the nearest setting. It ignores what
// Kubernetes sets for services, and empty variables.
func Warnings(environ []string, configs ...any) []Warning {
	var all []Warning
	var known []string
	for _, config := range configs {
		known = append(known, keys(config)...)
		_, structs := walk(config)
		for _, s := range structs {
			if w, ok := s.(interface{ Warnings() []Warning }); ok {
				all = append(all, w.Warnings()...)
			}
		}
	}
	for _, u := range unknown(environ, known) {
		all = append(all, Warning{u.key, u.problem()})
	}
	return slices.Compact(all) // of a struct that embeds another one's method
}

// LogWarnings logs what Warnings returns.
func LogWarnings(log zerolog.Logger, environ []string, configs ...any) {
	for _, w := range Warnings(environ, configs...) {
		log.Warn().Str("setting", w.Key).Str("problem", w.Problem).Msg("doubtful setting")
	}
}

// Misspelt returns the variables that no config reads and that are close to one of
// own's. It is for a program that runs where other programs' settings are.
func Misspelt(environ []string, own any, others ...any) []Warning {
	ours := keys(own)
	known := ours
	for _, config := range others {
		known = append(known, keys(config)...)
	}
	var all []Warning
	for _, u := range unknown(environ, known) {
		if u.near && slices.Contains(ours, u.nearest) {
			all = append(all, Warning{u.key, u.problem()})
		}
	}
	return all
}

// keys are the variables of a config.
func keys(config any) []string {
	fields, _ := walk(config)
	var all []string
	for _, f := range fields {
		all = append(all, f.key)
	}
	return all
}

// elsewhere are variables that begin as ours do, which other programs read:
// crashctl, and nats-server with deploy/nats/users.conf.
func elsewhere() []string {
	return []string{
		"NATS_MONITOR_URL", "INTAKE_URL", "UPLOADER_URL",
		"NATS_INTAKE_PASSWORD", "NATS_UPLOADER_PASSWORD", "NATS_OPS_PASSWORD",
	}
}

// stranger is a variable that no program reads.
type stranger struct {
	key, nearest string
	near         bool // as a slip of the keyboard would have it
}

func (s stranger) problem() string {
	if !s.near {
		return "is not a setting"
	}
	return "is not a setting; did you mean " + s.nearest + "?"
}

// unknown lists the variables that are not known and begin as a known one does, by
// name.
func unknown(environ, known []string) []stranger {
	prefixes := map[string]bool{}
	for _, k := range known {
		prefixes[prefixOf(k)] = true
	}
	others := elsewhere()
	var all []stranger
	for _, variable := range environ {
		key, value, _ := strings.Cut(variable, "=")
		if value == "" || !prefixes[prefixOf(key)] || slices.Contains(known, key) || slices.Contains(others, key) || fromKubernetes(key, value) {
			continue
		}
		all = append(all, nearest(key, known))
	}
	slices.SortFunc(all, func(a, b stranger) int { return cmp.Compare(a.key, b.key) })
	return slices.CompactFunc(all, func(a, b stranger) bool { return a.key == b.key })
}

// prefixOf is a name up to its first underscore, with it, or "" without one.
func prefixOf(key string) string { return key[:strings.IndexByte(key, '_')+1] }

// fromKubernetes reports whether Kubernetes sets such a variable for a service:
// INTAKE_SERVICE_HOST, INTAKE_SERVICE_PORT_HTTP, INTAKE_PORT=tcp://10.0.0.1:80,
// INTAKE_PORT_80_TCP_ADDR.
func fromKubernetes(key, value string) bool {
	service, err := regexp.MatchString(`_SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)$|_PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$`, key)
	return err == nil && service || strings.HasSuffix(key, "_PORT") && strings.Contains(value, "://")
}

func nearest(key string, known []string) stranger {
	prefix := prefixOf(key)
	s, least := stranger{key: key}, -1
	for _, k := range known {
		if prefixOf(k) != prefix {
			continue
		}
		if d := distance(key, k); least < 0 || d < least {
			s.nearest, least = k, d
		}
	}
	// Two slips, or more in a long name; or words that were added or left out.
	s.near = least <= max(2, (len(key)-len(prefix))/4) || strings.HasPrefix(key, s.nearest+"_") || strings.HasPrefix(s.nearest, key+"_")
	return s
}

// distance is how many letters have to be put in, taken out or changed to make one
// name of the other.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
