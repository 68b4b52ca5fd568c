package telemetry

import (
	"bufio"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Nobody is held up while the log is not read; what does not fit is counted, and what
// comes after is read again. A reader that is gone costs lines alone.
func TestSinkHoldsNobodyUp(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	log, sink := OpenLog(Config{}, writer)
	registry := prometheus.NewRegistry()
	sink.Register(registry)
	const lines = 4 * sinkLines // far more than the pipe takes, too
	begun := time.Now()
	for range lines {
		log.Info().Msg(strings.Repeat("x", 100))
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("writing took %v", took)
	}

	log.Info().Msg("the last")
	read := 0
	for in := bufio.NewScanner(reader); in.Scan(); {
		read++
		if strings.Contains(in.Text(), "the last") {
			break
		}
	}
	if read < sinkLines/2 || read == lines+1 {
		t.Errorf("%d lines were read, want as many as are kept", read)
	}
	if got, want := dropped(t, registry), float64(lines+1-read); got != want {
		t.Errorf("%v lines are counted as dropped, want %v", got, want)
	}

	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
	log.Info().Msg("to nobody")
	sink.Close()
	if got, want := dropped(t, registry), float64(lines+2-read); got != want {
		t.Errorf("without a reader %v lines are counted, want %v", got, want)
	}
}

// What is logged last is not lost, and a reader who reads nothing is not waited for.
func TestSinkCloses(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.Close() }()
	log, sink := OpenLog(Config{}, writer)
	for range 100 {
		log.Info().Msg("")
	}
	log.Info().Msg("the last")
	sink.Close()
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	last := ""
	for in := bufio.NewScanner(reader); in.Scan(); {
		last = in.Text()
	}
	if !strings.Contains(last, "the last") {
		t.Errorf("the last line is %q", last)
	}

	silent, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	log, sink = OpenLog(Config{}, writer)
	for range sinkLines {
		log.Info().Msg(strings.Repeat("x", 100))
	}
	begun := time.Now()
	sink.Close()
	if took := time.Since(begun); took < sinkPatience || took > 5*sinkPatience {
		t.Errorf("a reader who does not read was waited for for %v", took)
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
