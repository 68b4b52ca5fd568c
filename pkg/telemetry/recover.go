package telemetry

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime/debug"

	"github.com/rs/zerolog"
)

// Recover wraps a handler so that its panic is one error event with the stack,
// one call of onPanic (a counter; nil for none), and a reply: status 500 when
// nothing was written yet, else a connection cut short, so that no client takes
// half a reply for a whole one. Either way the connection closes, since nobody
// knows what is left to read on it. http.ErrAbortHandler passes through
// silently, as in net/http.
//
// The event has the route's pattern and the panic's text, but not the path,
// query, header, body or address of the request.
//
// The handler sees a wrapped ResponseWriter: http.ResponseController works on
// it, and it is an http.Hijacker, but http.MaxBytesReader does not find the
// server's own behind it, so that handlers which cut a body short set
// "Connection: close" themselves. A handler that hijacks closes the connection
// itself, in a defer.
func Recover(next http.Handler, log zerolog.Logger, onPanic func()) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tracked := &trackedWriter{ResponseWriter: w}
		defer func() {
			cause := recover()
			if cause == nil {
				return
			}
			if err, ok := cause.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(http.ErrAbortHandler)
			}
			if onPanic != nil {
				onPanic()
			}
			log.Error().
				Str("route", r.Pattern).
				Str("panic", fmt.Sprint(cause)).
				Bytes("stack", debug.Stack()).
				Msg("handler panicked")
			if tracked.started {
				panic(http.ErrAbortHandler)
			}
			clear(w.Header())
			w.Header().Set("Connection", "close")
			reply(w, http.StatusInternalServerError, "internal server error\n")
		}()
		next.ServeHTTP(tracked, r)
	})
}

// trackedWriter knows whether a reply has started.
type trackedWriter struct {
	http.ResponseWriter

	started bool
}

// Unwrap is for http.ResponseController.
func (w *trackedWriter) Unwrap() http.ResponseWriter {
	return w.ResponseWriter
}

// WriteHeader starts the reply, unless status is one of the interim 1xx.
func (w *trackedWriter) WriteHeader(status int) {
	w.started = w.started || status >= http.StatusOK || status == http.StatusSwitchingProtocols
	w.ResponseWriter.WriteHeader(status)
}

func (w *trackedWriter) Write(p []byte) (int, error) {
	w.started = true
	return w.ResponseWriter.Write(p)
}

// FlushError is what http.ResponseController calls.
func (w *trackedWriter) FlushError() error {
	w.started = true
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Hijack counts as a start: from here on the connection is the handler's.
func (w *trackedWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w.started = true
	return http.NewResponseController(w.ResponseWriter).Hijack()
}
