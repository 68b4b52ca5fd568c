package telemetry

import (
	"bufio"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// unread is a pipe of which nobody reads yet.
func unread(t *testing.T) (reader, writer *os.File) {
	t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = reader.Close(), writer.Close() })
	return reader, writer
}

// Nobody is held up while the log is not read. What is too much is counted at once,
// and it is the oldest; the rest is read in order, then what comes after it.
func TestSinkHoldsNobodyUp(t *testing.T) {
	reader, writer := unread(t)
	log, sink := OpenLog(Config{}, writer)
	registry := prometheus.NewRegistry()
	sink.Register(registry)
	const lines, size = 2000, 10_000 // far more than is kept, and than a pipe takes
	begun := time.Now()
	for n := range lines {
		log.Info().Int("n", n).Msg(strings.Repeat("x", size))
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("writing took %v", took)
	}
	lost := int(dropped(t, registry))
	if kept := lines - lost; kept < sinkBytes/(size+200) || kept > sinkBytes/size+20 {
		t.Errorf("%d lines of %d are kept", kept, lines)
	}

	in := bufio.NewScanner(reader)
	last, read := -1, 0
	for ; last != lines-1 && in.Scan(); read++ {
		n := number(t, in.Text())
		if n <= last {
			t.Fatalf("line %d is behind line %d", n, last)
		}
		last = n
	}
	if read != lines-lost {
		t.Errorf("%d lines were read and %d dropped, of %d", read, lost, lines)
	}
	log.Info().Int("n", lines).Msg("")
	if !in.Scan() || number(t, in.Text()) != lines {
		t.Errorf("then came %q", in.Text())
	}

	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
	log.Info().Msg("to nobody")
	sink.Close()
	if got := int(dropped(t, registry)); got != lost+1 {
		t.Errorf("without a reader %d lines are counted, want %d", got, lost+1)
	}
}

// number is what a line has as n.
func number(t *testing.T, line string) int {
	t.Helper()
	_, after, _ := strings.Cut(line, `"n":`)
	digits, _, _ := strings.Cut(after, ",")
	n, err := strconv.Atoi(digits)
	if err != nil {
		t.Fatalf("reading %.100q: %v", line, err)
	}
	return n
}

// What is logged last is not lost, and a reader who reads nothing is not waited for.
func TestSinkCloses(t *testing.T) {
	reader, writer := unread(t)
	log, sink := OpenLog(Config{}, writer)
	read := make(chan string)
	go func() {
		text, _ := io.ReadAll(reader) // fails when the test does
		read <- string(text)
	}()
	for range 1000 {
		log.Info().Msg("")
	}
	log.Info().Msg("the last")
	sink.Close()
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	if text := <-read; strings.Count(text, "\n") != 1001 || !strings.HasSuffix(text, "\"the last\"}\n") {
		t.Errorf("%d lines were read", strings.Count(text, "\n"))
	}

	_, writer = unread(t)
	log, sink = OpenLog(Config{}, writer)
	log.Info().Msg(strings.Repeat("x", 1<<20))
	for i, end := range []func(){sink.Close, func() { LastWords(writer, "ended") }} { // by the end of the first the pipe is full
		begun := time.Now()
		end()
		if took := time.Since(begun); took < sinkPatience || took > 5*sinkPatience {
			t.Errorf("end %d waited for %v for a reader who does not read", i, took)
		}
	}
}

func dropped(t *testing.T, registry *prometheus.Registry) float64 {
	t.Helper()
	all, err := registry.Gather()
	if err != nil || len(all) != 1 || all[0].GetName() != "log_lines_dropped_total" {
		t.Fatalf("%v, %v", all, err)
	}
	return all[0].GetMetric()[0].GetCounter().GetValue()
}
