package main

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

const (
	// followEvery is how often a bar moves, and sayEvery how often a line says
	// how far things are where there is no terminal.
	followEvery = 200 * time.Millisecond
	sayEvery    = 5 * time.Second
)

// bar shows how far something is: as a bar on a terminal, otherwise as a line
// every few seconds.
type bar struct {
	out   io.Writer
	what  string
	total uint64 // 0: not known yet
	began time.Time
	bars  *mpb.Progress // nil without a terminal
	bar   *mpb.Bar

	mu   sync.Mutex
	done uint64
	note string
	said time.Time
}

// bar begins to show how far something is.
func (s *session) bar(what string, total uint64) *bar {
	what = line(what)
	p := &bar{out: s.progress, what: what, total: total, began: time.Now(), said: time.Now()}
	if s.progress.IsTerminal() {
		p.bars = mpb.New(mpb.WithOutput(s.progress.raw), mpb.WithWidth(40))
		p.bar = p.bars.AddBar(int64(total),
			mpb.BarRemoveOnComplete(),
			mpb.PrependDecorators(decor.Name(what+"  "), decor.CountersNoUnit("%d of %d")),
			mpb.AppendDecorators(
				decor.Percentage(decor.WC{W: 5}),
				decor.OnComplete(decor.AverageETA(decor.ET_STYLE_GO, decor.WC{W: 10}), ""),
				decor.Any(func(decor.Statistics) string {
					p.mu.Lock()
					defer p.mu.Unlock()
					return "  " + p.note
				}),
			))
	}
	return p
}

// left says how much is left to do; what that is of, the first call says.
func (p *bar) left(n uint64) {
	p.mu.Lock()
	if p.total == 0 {
		p.total = n + 1
		if p.bar != nil {
			p.bar.SetTotal(int64(p.total), false)
		}
	}
	done := p.total - n
	p.mu.Unlock()
	p.set(done, "")
}

// set says how much is done, and what there is to note.
func (p *bar) set(done uint64, note string) {
	note = line(note)
	p.mu.Lock()
	p.done, p.note = done, note
	silent := p.bar != nil || time.Since(p.said) < sayEvery
	if !silent {
		p.said = time.Now()
	}
	p.mu.Unlock()
	if p.bar != nil {
		p.bar.SetCurrent(int64(done))
	}
	if silent {
		return
	}
	line := fmt.Sprintf("%s: %s of %s", p.what, comma(done), comma(p.total))
	if done > 0 && done < p.total && note == "" { // which says what holds it up
		left := time.Duration(float64(time.Since(p.began)) / float64(done) * float64(p.total-done))
		line += fmt.Sprintf(", %s left", left.Round(time.Second))
	}
	if note != "" {
		line += ", " + note
	}
	say(p.out, line)
}

// follow asks how much is done, every now and then, until stop has returned.
func (p *bar) follow(ask func() (done uint64, note string)) (stop func()) {
	end := make(chan struct{})
	var ended sync.WaitGroup
	ended.Go(func() {
		tick := time.NewTicker(followEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				p.set(ask())
			case <-end:
				return
			}
		}
	})
	return func() {
		close(end)
		ended.Wait()
		p.end()
	}
}

// end takes the bar away.
func (p *bar) end() {
	if p.bar == nil {
		return
	}
	p.bar.Abort(true)
	p.bars.Wait()
}
