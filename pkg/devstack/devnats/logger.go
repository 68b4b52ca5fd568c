package devnats

import (
	"fmt"

	"github.com/rs/zerolog"
)

// logger is a server.Logger that writes to zerolog. It takes Fatalf for what it
// means to an embedded server: the start has failed. Neither this logger nor the
// server then ends the process; nats-server leaves that to its logger.
type logger struct {
	log   zerolog.Logger
	fatal chan error // The first Fatalf; full once the start is over.
}

func newLogger(log zerolog.Logger) *logger {
	return &logger{log: log.With().Str("from", "nats-server").Logger(), fatal: make(chan error, 1)}
}

// started ends the start and returns what Fatalf said in it. A later Fatalf
// finds the channel full, has nobody to return to and is logged instead.
func (l *logger) started() error {
	select {
	case l.fatal <- nil:
		return nil
	case err := <-l.fatal:
		return err
	}
}

func (l *logger) Fatalf(format string, v ...any) {
	select {
	case l.fatal <- fmt.Errorf(format, v...):
	default:
		l.log.WithLevel(zerolog.FatalLevel).Msgf(format, v...)
	}
}

func (l *logger) Errorf(format string, v ...any)  { l.log.Error().Msgf(format, v...) }
func (l *logger) Warnf(format string, v ...any)   { l.log.Warn().Msgf(format, v...) }
func (l *logger) Noticef(format string, v ...any) { l.log.Info().Msgf(format, v...) }
func (l *logger) Debugf(format string, v ...any)  { l.log.Debug().Msgf(format, v...) }
func (l *logger) Tracef(format string, v ...any)  { l.log.Trace().Msgf(format, v...) }
