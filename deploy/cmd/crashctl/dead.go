package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/yagi-crash/yagi/deploy/internal/deadletters"
	"github.com/yagi-crash/yagi/pkg/queue"
	"github.com/yagi-crash/yagi/pkg/visible"
)

type dead struct {
	List    deadList    `cmd:"" help:"List the dead letters: reports that can never be stored."`
	Show    deadShow    `cmd:"" help:"Show all about some dead letters, but for what they hold."`
	Save    deadSave    `cmd:"" help:"Save some dead letters, with all they hold, as files."`
	Requeue deadRequeue `cmd:"" help:"Put some dead letters back into the queue. Without --yes only say which."`
	Drop    deadDrop    `cmd:"" help:"Remove some dead letters for good. Without --yes only say which."`
}

// needsDead is the part of the commands' help about settings, permissions and
// exit codes.
const needsDead = `It needs the environment variable NATS_URL (and NATS_CREDS, if there is a credentials file). Its NATS user must be allowed to publish to $JS.API.> and to subscribe to _INBOX_ops.>.

Exit codes:

    0  done, or (without --yes) shown
    1  something could not be done; the output says what
    2  wrong usage or settings, no connection, or no answer
`

// letters are the dead letters, with a context that lasts as long as the server
// does not refuse anything.
type letters struct {
	*deadletters.Letters

	js   jetstream.JetStream
	all  []deadletters.Letter
	cfg  queue.Config
	done func()
}

func (s *session) letters(ctx context.Context) (context.Context, *letters, error) {
	cfg, err := load(s.environ)
	if err != nil {
		return ctx, nil, err
	}
	js, err := s.connect(ctx, cfg.Queue)
	if err != nil {
		return ctx, nil, err
	}
	ctx, end := working(ctx, js.Conn())
	l := &letters{js: js, cfg: cfg.Queue, done: func() { end(); js.Conn().Close() }}
	if l.Letters, err = deadletters.Open(ctx, js); err == nil {
		l.all, err = l.List(ctx)
	}
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		err = fmt.Errorf("stream %s is missing: crashctl stream apply makes it", queue.DeadLetterStream)
	}
	if err != nil {
		err = cmp.Or(context.Cause(ctx), err)
		l.done()
		return ctx, nil, err
	}
	return ctx, l, nil
}

type deadList struct {
	JSON bool `help:"Print one JSON array, for machines."`
}

// Help is what crashctl dead list --help adds.
func (*deadList) Help() string {
	return `Lists the reports that uploaders gave up, oldest first: their number, which the other commands take, when they were given up, why (the class of the error, as in the uploaders' metrics, and the error), the report's id, its size, and where it was. README.md says what makes a report a dead letter. A chunk that is lost is told; so are chunks that belong to no dead letter, because an uploader ended while it copied one.

` + needsDead + `
Examples:

    crashctl dead list
    crashctl dead list --json | jq -r '.[] | select(.class == "damaged") | .sequence'`
}

// letterRow is a line of the list: number, time, class, id, size, where it was.
const letterRow = "%-5s %-20s  %-11s %-36s %9s  %s"

// Run prints the list.
func (c *deadList) Run(ctx context.Context, s *session) error {
	ctx, l, err := s.letters(ctx)
	if err != nil {
		return err
	}
	defer l.done()
	if c.JSON {
		return s.printJSON(l.all)
	}
	if len(l.all) == 0 {
		say(s.out, "no dead letters")
	} else {
		say(s.out, fmt.Sprintf(letterRow, "NO.", "GIVEN UP", "CLASS", "CRASH ID", "SIZE", "WAS"))
	}
	for _, d := range l.all {
		say(s.out, fmt.Sprintf(letterRow, strconv.FormatUint(d.Sequence, 10), d.At.Format("2006-01-02 15:04:05Z"), d.Class,
			cmp.Or(string(d.ID), "(no id)"), humanize.IBytes(uint64(d.Size)), fmt.Sprintf("%s/%d", d.From, d.FromSequence)))
		say(s.out, "      "+visible.Line(d.Cause, 100)+lost(d))
	}
	strays, err := l.Strays(ctx, l.all, queue.ReadyDeadline)
	if err != nil {
		say(s.out, "whether chunks belong to no dead letter is not known:", cmp.Or(context.Cause(ctx), err))
	}
	if len(strays) > 0 {
		say(s.out, fmt.Sprintf("%d chunk(s) belong to no dead letter: crashctl dead drop --strays removes them", len(strays)))
	}
	return nil
}

func lost(d deadletters.Letter) string {
	n := 0
	for _, seq := range d.Chunks {
		if seq == 0 {
			n++
		}
	}
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" (%d of %d chunks are lost)", n, len(d.Chunks))
}

// choice is which dead letters a command is about.
type choice struct {
	Which []string `arg:"" optional:"" help:"Numbers of dead letters, as crashctl dead list has them, or ids of their reports."`
	All   bool     `help:"All dead letters."`
	Class string   `help:"All dead letters of this class."`
}

// of returns the chosen ones; every word has to name one.
func (c *choice) of(all []deadletters.Letter) ([]deadletters.Letter, error) {
	if len(c.Which) == 0 && !c.All && c.Class == "" {
		return nil, errors.New("say which dead letters: their numbers, --class or --all")
	}
	if len(c.Which) > 0 && (c.All || c.Class != "") || c.All && c.Class != "" {
		return nil, errors.New("say either numbers, or --class, or --all")
	}
	for _, word := range c.Which {
		if !slices.ContainsFunc(all, func(d deadletters.Letter) bool { return named(d, word) }) {
			return nil, fmt.Errorf("there is no dead letter %s", word)
		}
	}
	var chosen []deadletters.Letter
	for _, d := range all {
		if c.All || c.Class != "" && d.Class == c.Class || slices.ContainsFunc(c.Which, func(word string) bool { return named(d, word) }) {
			chosen = append(chosen, d)
		}
	}
	return chosen, nil
}

func named(d deadletters.Letter, word string) bool {
	return word == strconv.FormatUint(d.Sequence, 10) || d.ID != "" && strings.TrimPrefix(word, "bp-") == string(d.ID)
}

type deadShow struct {
	choice
}

// Help is what crashctl dead show --help adds.
func (*deadShow) Help() string {
	return `Shows why each report is a dead letter, in full, and what it consists of: each part's size and SHA-256, and whether the bytes still are what intake received. What the parts hold is personal data, and not shown: crashctl dead save writes it to files.

` + needsDead + `
Examples:

    crashctl dead show 7
    crashctl dead show bp-54b9164e-505a-432d-ae87-3506b0261123`
}

// Run prints what is known of them.
func (c *deadShow) Run(ctx context.Context, s *session) error {
	return s.eachLetter(ctx, &c.choice, func(ctx context.Context, l *letters, d deadletters.Letter) error {
		body, err := l.Body(ctx, d)
		if err != nil {
			return err
		}
		say(s.out, "number    ", d.Sequence)
		say(s.out, "crash id  ", cmp.Or(string(d.ID), "unknown"))
		say(s.out, "class     ", d.Class)
		say(s.out, "cause     ", d.Cause)
		say(s.out, "given up  ", d.At.Format(time.RFC3339), "after", d.Delivered, "attempt(s)")
		say(s.out, "was       ", fmt.Sprintf("message %d of %s", d.FromSequence, d.From))
		say(s.out, "size      ", humanize.Comma(d.Size), "bytes"+lost(d))
		for i, part := range d.Parts {
			state := "cannot be told apart from the others"
			if body.Parts != nil && body.Parts[i].Intact {
				state = "intact"
			} else if body.Parts != nil {
				state = "damaged"
			}
			say(s.out, "part      ", fmt.Sprintf("%s, %s bytes, SHA-256 %s: %s", part.Name, humanize.Comma(part.Size), part.SHA256, state))
		}
		say(s.out)
		return nil
	})
}

type deadSave struct {
	choice

	Dir string `default:"." type:"existingdir" help:"Folder in which each gets a folder of its own."`
}

// Help is what crashctl dead save --help adds.
func (*deadSave) Help() string {
	return `Writes each dead letter into a new folder: dead_letter.json (why it is one, and its headers), raw_crash and the dumps as files, or, when the parts cannot be told apart, what there is of the body. Only the present user may read the files, which are personal data. It changes nothing on the server.

` + needsDead + `
Examples:

    crashctl dead save 7 --dir /tmp
    crashctl dead save --all --dir /var/tmp/dead`
}

// Run writes the files and prints where.
func (c *deadSave) Run(ctx context.Context, s *session) error {
	return s.eachLetter(ctx, &c.choice, func(ctx context.Context, l *letters, d deadletters.Letter) error {
		path, err := l.Save(ctx, d, c.Dir)
		if err != nil {
			return err
		}
		say(s.out, "saved", path)
		return nil
	})
}

type deadRequeue struct {
	change
}

// Help is what crashctl dead requeue --help adds.
func (*deadRequeue) Help() string {
	return `Puts reports back into the queue, chunks and all, where uploaders take them like new ones; each is removed from the dead letters once the queue has it on disk. Do so when the cause is gone. A report that fails again is a dead letter again. One that is unreadable or lacks a chunk is refused, and stays. What is interrupted can be run again.

` + needsDead + `
Besides, the user must be allowed to publish to crash.>.

Examples:

    crashctl dead requeue 7          # says what it would do
    crashctl dead requeue 7 --yes
    crashctl dead requeue --class denied --yes`
}

// Run requeues them or says which.
func (c *deadRequeue) Run(ctx context.Context, s *session) error {
	return c.each(ctx, s, "put back", deadletters.Letter.Readable, func(ctx context.Context, l *letters, d deadletters.Letter) error {
		return l.Requeue(ctx, d, l.cfg.Partitions)
	})
}

type deadDrop struct {
	change

	Strays bool `help:"Chunks that belong to no dead letter."`
}

// Help is what crashctl dead drop --help adds.
func (*deadDrop) Help() string {
	return `Removes dead letters for good, with their chunks: there is no way back. crashctl dead save keeps them elsewhere first. As long as the queue has the report's own message, for UPLOADER_REPLAY_WINDOW at the most, crashctl audit then says of it that it is lost, and crashctl replay tries to store it.

` + needsDead + `
Examples:

    crashctl dead drop 7             # says what it would do
    crashctl dead drop 7 8 9 --yes
    crashctl dead drop --class unreadable --yes`
}

// Run drops them or says which.
func (c *deadDrop) Run(ctx context.Context, s *session) error {
	if c.Strays && (len(c.Which) > 0 || c.All || c.Class != "") {
		return errors.New("--strays is for itself")
	}
	if c.Strays {
		return c.strays(ctx, s)
	}
	return c.each(ctx, s, "drop", func(deadletters.Letter) error { return nil }, func(ctx context.Context, l *letters, d deadletters.Letter) error {
		return l.Drop(ctx, d)
	})
}

func (c *deadDrop) strays(ctx context.Context, s *session) error {
	ctx, l, err := s.letters(ctx)
	if err != nil {
		return err
	}
	defer l.done()
	strays, err := l.Strays(ctx, l.all, queue.ReadyDeadline)
	switch {
	case err != nil:
		return cmp.Or(context.Cause(ctx), err)
	case len(strays) == 0:
		say(s.out, "nothing to do")
		return nil
	case !c.Yes:
		say(s.out, fmt.Sprintf("would drop %d chunk(s) that belong to no dead letter", len(strays)))
		say(s.out, "Nothing was changed. To do it, add --yes")
		return nil
	}
	if err := l.DropStrays(ctx, strays); err != nil {
		return &exit{exitTrouble, cmp.Or(context.Cause(ctx), err)}
	}
	say(s.out, fmt.Sprintf("dropped %d chunk(s)", len(strays)))
	return nil
}

// change is a command that changes something about the chosen dead letters.
type change struct {
	choice

	Yes bool `help:"Do it. Without this flag nothing is changed."`
}

// each does something to each chosen dead letter, or says so; can says why that could
// not be done.
func (c *change) each(ctx context.Context, s *session, what string, can func(deadletters.Letter) error, do func(context.Context, *letters, deadletters.Letter) error) error {
	would := 0
	err := s.eachLetter(ctx, &c.choice, func(ctx context.Context, l *letters, d deadletters.Letter) error {
		if err := can(d); err != nil {
			return err
		}
		if !c.Yes {
			would++
			say(s.out, "would", what, d.Name(), "("+d.Class+")")
			return nil
		}
		if err := do(ctx, l, d); err != nil {
			return err
		}
		say(s.out, "done:", what, d.Name())
		return nil
	})
	if would > 0 {
		say(s.out, "Nothing was changed. To do it, add --yes")
	}
	return err
}

// eachLetter goes on after one that fails, and says in the end that one did.
func (s *session) eachLetter(ctx context.Context, c *choice, do func(context.Context, *letters, deadletters.Letter) error) error {
	ctx, l, err := s.letters(ctx)
	if err != nil {
		return err
	}
	defer l.done()
	chosen, err := c.of(l.all)
	if err != nil {
		return err
	}
	failed := 0
	for _, d := range chosen {
		err := do(ctx, l, d)
		if ctx.Err() != nil { // also when that is why do failed
			break
		}
		switch {
		case errors.Is(err, deadletters.ErrGone):
			say(s.out, "gone:", d.Name()+":", err)
		case err != nil:
			failed++
			say(s.out, "failed:", d.Name()+":", err)
		}
	}
	if len(chosen) == 0 {
		say(s.out, "no dead letters"+ofClass(c.Class))
	}
	if failed > 0 {
		return &exit{exitTrouble, fmt.Errorf("%d of %d failed", failed, len(chosen))}
	}
	return context.Cause(ctx)
}

func ofClass(class string) string {
	if class == "" {
		return ""
	}
	return " of class " + class
}

// printJSON prints one value.
func (s *session) printJSON(v any) error {
	e := json.NewEncoder(s.out)
	e.SetEscapeHTML(false) // subjects have a >
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("printing: %w", err)
	}
	return nil
}
