// Package settings reads the configuration of every Yagi program from
// environment variables into structs with env tags, which caarlos0/env reads.
// It adds what an operator needs to that: every problem at once, each named by
// its variable; sizes written as sizes; secrets that never print; and the
// effective values for one log line at start.
//
// Tags carry full variable names (`env:"INTAKE_ADDR" envDefault:":8000"`), so
// that a search for a variable finds its field. A variable that is set but
// empty counts as not set when its field has a default.
package settings

import (
	"slices"
	"strings"
	"unicode"

	"github.com/caarlos0/env/v10"
	"github.com/rs/zerolog"
)

// Load fills each config, a pointer to a struct with env tags, from environ
// ("KEY=value" strings as in os.Environ), and then calls Validate on those
// configs, and structs within them, that have one:
//
//	Validate() error
//
// The error lists every problem of every config, one a line, each beginning
// with its variable and a colon; Validate is expected to write its lines so,
// joined by errors.Join, as Problems does. A variable that cannot be read at all, a
// number that is none (NaN) and a text with control characters are reported once,
// whatever Validate thinks of the zero that was left behind.
func Load(environ []string, configs ...any) error {
	l := loader{vars: env.ToMap(environ), unread: map[string]bool{}}
	for _, config := range configs {
		fields, structs := walk(config)
		for _, f := range fields {
			l.read(f)
		}
		for _, s := range structs {
			l.validate(s)
		}
	}
	if len(l.problems) == 0 {
		return nil
	}
	return &Error{l.problems}
}

// Error is what is wrong with settings.
type Error struct {
	problems []string // lines
}

// Error lists the problems, one a line.
func (e *Error) Error() string {
	return "reading the settings:\n" + strings.Join(e.problems, "\n")
}

// loader gathers the problems of one Load.
type loader struct {
	vars     map[string]string
	unread   map[string]bool // variables whose value could not be read
	problems []string        // lines
}

func (l *loader) read(f field) {
	problem := ""
	if err := f.read(l.vars); err != nil {
		problem = reason(err)
	} else {
		problem = f.check()
	}
	if problem != "" {
		l.unread[f.key] = true
		l.problems = append(l.problems, f.key+": "+problem)
	}
}

// validate runs once for a struct and once more when the struct that embeds it
// got its method by promotion, hence the test for a line that is there already.
func (l *loader) validate(config any) {
	v, ok := config.(interface{ Validate() error })
	if !ok {
		return
	}
	err := v.Validate()
	if err == nil {
		return
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		if !l.names(line) && !slices.Contains(l.problems, line) {
			l.problems = append(l.problems, line)
		}
	}
}

// names reports whether a line is about a variable that could not be read, alone or
// among others.
func (l *loader) names(line string) bool {
	words := strings.FieldsFunc(line, func(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	return slices.ContainsFunc(words, func(word string) bool { return l.unread[word] })
}

// Setting is one variable as a program understood it.
type Setting struct {
	// Key is the name of the variable.
	Key string
	// Default is the value used when the variable is not set, as it is
	// written in the code, or "" when there is none.
	Default string
	// Value is the value in use, masked where it may hold a secret.
	Value string
	// Required says that the program does not start without the variable.
	Required bool
}

// List is settings in the order of their declaration.
type List []Setting

// MarshalZerologObject writes each setting's value under its key.
func (l List) MarshalZerologObject(e *zerolog.Event) {
	for _, s := range l {
		e.Str(s.Key, s.Value)
	}
}

// Effective lists every setting of the configs (pointers to structs). A
// Secret, and what may be a credential in an address, shows as "***".
func Effective(configs ...any) List {
	var all List
	for _, config := range configs {
		fields, _ := walk(config)
		for _, f := range fields {
			all = append(all, f.setting())
		}
	}
	return all
}
