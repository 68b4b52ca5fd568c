// Package telemetry is how a Yagi program shows itself to the people who run
// it: the logger, the metrics registry, the build, the admin pages, and what
// becomes of a panic. Nothing here is global; a program, or a test, may hold
// several of each.
package telemetry

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/rs/zerolog"

	"github.com/yagi-crash/yagi/pkg/visible"
)

// Config says what is logged, and how. The zero value logs JSON from info up.
type Config struct {
	// Level is the least level that is logged: trace, debug, info, warn or
	// error.
	Level string `env:"LOG_LEVEL" envDefault:"info"`
	// Format is how an event is written: json for machines, one object a line,
	// or console for people.
	Format string `env:"LOG_FORMAT" envDefault:"json"`
}

// Validate returns an error with one line for each of LOG_LEVEL and LOG_FORMAT
// that is not among its documented values.
func (c Config) Validate() error {
	var level, format error
	if _, ok := c.level(); !ok {
		level = fmt.Errorf("LOG_LEVEL: %q is not trace, debug, info, warn or error", c.Level)
	}
	switch c.Format {
	case "", "json", "console":
	default:
		format = fmt.Errorf("LOG_FORMAT: %q is not json or console", c.Format)
	}
	return errors.Join(level, format)
}

// level leaves out the levels of zerolog that would hide errors.
func (c Config) level() (level zerolog.Level, ok bool) {
	switch c.Level {
	case "trace":
		return zerolog.TraceLevel, true
	case "debug":
		return zerolog.DebugLevel, true
	case "info", "":
		return zerolog.InfoLevel, true
	case "warn":
		return zerolog.WarnLevel, true
	case "error":
		return zerolog.ErrorLevel, true
	default:
		return zerolog.InfoLevel, false
	}
}

// timeFormat is RFC 3339 with milliseconds; it is used with UTC only.
const timeFormat = "2006-01-02T15:04:05.000Z"

// NewLogger returns a logger that writes to out, one write an event, from any
// number of goroutines. Events carry their time under "time", in UTC with
// milliseconds. A Config that Validate refuses logs as the zero Config does.
func NewLogger(cfg Config, out io.Writer) zerolog.Logger {
	return newLogger(cfg, out, out)
}

// newLogger writes to out what is for the eyes of whoever reads end.
func newLogger(cfg Config, out, end io.Writer) zerolog.Logger {
	level, _ := cfg.level()
	if cfg.Format == "console" {
		file, isFile := end.(*os.File)
		out = zerolog.ConsoleWriter{
			Out:           out,
			NoColor:       !isFile || !isatty.IsTerminal(file.Fd()),
			TimeFormat:    "15:04:05.000",
			TimeLocation:  time.UTC,
			FormatPrepare: prepare,
		}
	}
	return zerolog.New(zerolog.SyncWriter(out)).Level(level).Hook(zerolog.HookFunc(stamp))
}

// mostShown bounds a text on a console, in characters: a stack trace fits.
const mostShown = 20_000

// prepare makes an event safe to show on a terminal. The console writer quotes a
// field that is text, but neither the message nor what lies within a field.
func prepare(event map[string]any) error {
	for name, value := range event {
		if text, ok := value.(string); ok && name != zerolog.MessageFieldName {
			event[name] = cut(text)
		} else {
			event[name] = shown(value)
		}
	}
	return nil
}

func cut(text string) string {
	if len(text) <= mostShown {
		return text
	}
	return strings.ToValidUTF8(text[:mostShown], "") + "..."
}

func shown(value any) any {
	switch value := value.(type) {
	case string:
		return visible.Line(value, mostShown)
	case map[string]any:
		for name := range value {
			value[name] = shown(value[name])
		}
	case []any:
		for i := range value {
			value[i] = shown(value[i])
		}
	}
	return value
}

// stamp adds the time. Zerolog's own timestamp takes its format from a package
// variable, which belongs to the whole process.
func stamp(event *zerolog.Event, _ zerolog.Level, _ string) {
	var text [len(timeFormat)]byte
	event.Bytes(zerolog.TimestampFieldName, time.Now().UTC().AppendFormat(text[:0], timeFormat))
}
