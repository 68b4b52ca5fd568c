package queuestatus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/yagi-crash/yagi/pkg/queue"
	"github.com/yagi-crash/yagi/uploader"
)

// atOnce bounds how many partitions, or servers, are asked at a time: one that
// is silent must not use up the time of the others, but an answer can be a
// whole report (the oldest one).
const atOnce = 8

// Question says what else to ask than the queue itself.
type Question struct {
	// Monitors are the servers' monitoring addresses, URLs such as
	// http://127.0.0.1:8222.
	Monitors []string
	// Bucket is the bucket's name; empty: it is not asked about.
	Bucket string
	// S3 is how the bucket is reached.
	S3 uploader.S3
	// Intakes are the addresses that clients post to, URLs such as
	// http://127.0.0.1:8000.
	Intakes []string
	// Uploaders are the uploaders' admin addresses, URLs such as
	// http://127.0.0.1:8002.
	Uploaders []string
}

// Read asks the servers behind js how the queue is, and whatever the question
// names besides. It takes as long as ctx allows; what was not answered by then
// is in CannotTell.
func Read(ctx context.Context, js jetstream.JetStream, cfg queue.Config, q Question) *Status {
	s := empty()
	s.Server = server(js.Conn())
	var serverProblems []error
	var found copies
	var asked sync.WaitGroup
	asked.Go(func() { found, serverProblems = s.readServers(ctx, q.Monitors) })
	asked.Go(func() { s.readOthers(ctx, q) })
	problems := s.readStreams(ctx, js, cfg)
	asked.Wait()
	for i := range s.Partitions {
		s.Partitions[i].Stream.Copies = found.of(&s.Partitions[i].Stream)
	}
	s.DeadLetters.Copies = found.of(&s.DeadLetters)
	s.Held.Stream.Copies = found.of(&s.Held.Stream)
	for _, err := range append(problems, serverProblems...) {
		s.CannotTell = append(s.CannotTell, err.Error())
	}
	s.Attention = append(s.Attention, s.attention()...)
	return s
}

// Nothing is the status when there is no connection, and err says why.
func Nothing(err error) *Status {
	s := empty()
	s.CannotTell = append(s.CannotTell, err.Error())
	return s
}

// Without is Nothing, with what the others say that the question names.
func Without(ctx context.Context, err error, q Question) *Status {
	s := Nothing(err)
	s.readOthers(ctx, q)
	s.Attention = append(s.Attention, s.attentionOfOthers()...)
	return s
}

// readOthers asks whom there is beside the queue.
func (s *Status) readOthers(ctx context.Context, q Question) {
	var asked sync.WaitGroup
	asked.Go(func() { s.readServices(ctx, q) })
	if q.Bucket != "" {
		asked.Go(func() { s.Bucket = readBucket(ctx, q.S3, q.Bucket) })
	}
	asked.Wait()
}

// empty has lists that are empty in JSON too, not null.
func empty() *Status {
	return &Status{
		Sync:        []Sync{},
		Partitions:  []Partition{},
		DeadLetters: unknown(queue.DeadLetterStream),
		Held:        Held{Stream: unknown(queue.HeldStream)},
		Intakes:     []Service{},
		Uploaders:   []Uploader{},
		Attention:   []string{},
		CannotTell:  []string{},
	}
}

func server(nc *nats.Conn) *Server {
	s := &Server{Name: nc.ConnectedServerName(), Version: nc.ConnectedServerVersion(), MinVersion: queue.MinServerVersion}
	if err := queue.CheckServer(nc); err != nil {
		s.Problem = err.Error()
	}
	return s
}

func unknown(stream string) Stream {
	return Stream{Name: stream, State: Unknown, Replicas: []Replica{}, Copies: []Copy{}, Differences: []Difference{}}
}

// readServers asks each server by itself. It returns what it could not find out.
func (s *Status) readServers(ctx context.Context, monitors []string) (copies, []error) {
	problems := s.readSyncs(ctx, monitors)
	names := make([]string, len(s.Sync))
	for i := range s.Sync {
		names[i] = s.Sync[i].Server
	}
	found, more := compareCopies(ctx, monitors, names)
	return found, append(problems, more...)
}

// readStreams returns what it could not find out.
func (s *Status) readStreams(ctx context.Context, js jetstream.JetStream, cfg queue.Config) []error {
	numbers, err := partitions(ctx, js, cfg.Partitions)
	if err != nil {
		return []error{fmt.Errorf("which streams there are: %w", because(ctx, err))}
	}
	s.Partitions = make([]Partition, len(numbers))
	problems := each(len(numbers), func(i int) (err error) {
		s.Partitions[i], err = readPartition(ctx, js, numbers[i], cfg)
		return err
	})
	for _, read := range []func(context.Context, jetstream.JetStream, queue.Config) error{s.readDead, s.readHeld} {
		if err := read(ctx, js, cfg); err != nil {
			problems = append(problems, err)
		}
	}
	s.compareGenerations()
	s.Total = total(s.Partitions)
	return problems
}

// compareGenerations adds to each stream of reports that its references may be lost.
func (s *Status) compareGenerations() {
	for i := range s.Partitions {
		stream := &s.Partitions[i].Stream
		if stream.live == nil || s.Held.Stream.live == nil {
			continue // missing or unknown, which is said
		}
		found := queue.CheckGeneration(stream.Name, stream.live.Config, s.Held.Stream.live)
		stream.Differences = append(stream.Differences, differences(found)...)
	}
}

// readDead reads the dead letters, of which some messages are chunks.
func (s *Status) readDead(ctx context.Context, js jetstream.JetStream, cfg queue.Config) error {
	found, stream, err := readStream(ctx, js, queue.DeadLetterConfig(cfg))
	s.DeadLetters = found
	if err != nil || stream == nil {
		return err
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(queue.DeadReadySubjects))
	if err != nil {
		return fmt.Errorf("how many reports are in %s: %w", found.Name, because(ctx, err))
	}
	n := uint64(0)
	for _, messages := range info.State.Subjects {
		n += messages
	}
	s.DeadReports = &n
	return nil
}

// readHeld reads the references to held reports, and the last of them.
func (s *Status) readHeld(ctx context.Context, js jetstream.JetStream, cfg queue.Config) error {
	found, stream, err := readStream(ctx, js, queue.HeldConfig(cfg))
	s.Held.Stream = found
	if err != nil || stream == nil {
		return err
	}
	state := stream.CachedInfo().State
	s.Held.Reports = &state.Msgs
	var consumer Consumer
	if _, err := consumer.read(ctx, js, found.Name, queue.HeldConsumerConfig()); err != nil {
		return fmt.Errorf("the consumer of %s: %w", found.Name, because(ctx, err))
	}
	if consumer.State == Missing {
		consumer.Differences = differences([]queue.Difference{{
			On: "consumer " + queue.Consumer + " of " + found.Name, Field: "state", Live: "missing", Want: "present", Unsafe: true,
		}})
	}
	s.Held.Stream.Differences = append(s.Held.Stream.Differences, consumer.Differences...)
	if state.Msgs == 0 {
		return nil
	}
	last, err := stream.GetMsg(ctx, state.LastSeq)
	if errors.Is(err, jetstream.ErrMsgNotFound) { // it is held no more
		return nil
	}
	if err != nil {
		return fmt.Errorf("the last report in %s: %w", found.Name, because(ctx, err))
	}
	if held, err := queue.ReadHeld(last.Subject, last.Header); err == nil {
		s.Held.LastClass, s.Held.LastCause = held.Class, held.Cause
	}
	return nil
}

// each asks n questions, atOnce at a time, and returns the errors among the
// answers in the order of the questions.
func each(n int, ask func(i int) error) []error {
	errs := make([]error, n)
	slots := make(chan struct{}, atOnce)
	var asked sync.WaitGroup
	for i := range n {
		slots <- struct{}{}
		asked.Go(func() {
			errs[i] = ask(i)
			<-slots
		})
	}
	asked.Wait()
	return slices.DeleteFunc(errs, func(err error) bool { return err == nil })
}

// because names what ended ctx, if that is why a question has no answer.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, ctx.Err()) {
		return cause
	}
	return err
}

// partitions lists the numbers of those that exist, whatever their subjects
// are, and of those that are configured.
func partitions(ctx context.Context, js jetstream.JetStream, configured int) ([]int, error) {
	var numbers []int
	for p := range configured {
		numbers = append(numbers, p)
	}
	list := js.StreamNames(ctx)
	for name := range list.Name() {
		if p, ok := queue.PartitionOf(name); ok && p >= configured {
			numbers = append(numbers, p)
		}
	}
	slices.Sort(numbers)
	return numbers, list.Err()
}

func readPartition(ctx context.Context, js jetstream.JetStream, p int, cfg queue.Config) (Partition, error) {
	out := Partition{
		Partition:  p,
		Configured: p < cfg.Partitions,
		Consumer:   Consumer{Name: queue.Consumer, State: Unknown, Differences: []Difference{}},
		Others:     []Other{},
	}
	var stream jetstream.Stream
	var err error
	if out.Stream, stream, err = readStream(ctx, js, queue.StreamConfig(p, cfg)); err != nil {
		return out, err
	}
	if out.Stream.State == Missing {
		out.Consumer.State = Missing
		return out, nil
	}
	info, err := out.Consumer.read(ctx, js, out.Stream.Name, queue.ConsumerConfig(p, cfg))
	if err != nil {
		return out, fmt.Errorf("consumer %s of %s: %w", out.Consumer.Name, out.Stream.Name, because(ctx, err))
	}
	b := out.Consumer.Backlog
	if b == nil {
		return out, nil
	}
	if out.flow, err = readFlow(ctx, stream, queue.ReadySubject(p), info); err != nil {
		return out, fmt.Errorf("how many reports are in %s: %w", out.Stream.Name, because(ctx, err))
	}
	if b.Depth > 0 {
		oldest, err := queue.NewReader(js).NextReady(ctx, p, info.AckFloor.Stream+1)
		if err == nil && oldest == nil {
			err = errors.New("the stream has none")
		}
		if err != nil {
			return out, fmt.Errorf("the oldest report in %s: %w", out.Stream.Name, because(ctx, err))
		}
		// A report may have come after the clock was read.
		b.OldestSeconds = new(seconds(max(0, out.flow.at.Sub(oldest.Time))))
	}
	// The last question: the server takes its time over consumers without a leader.
	if out.Others, err = readOtherConsumers(ctx, stream); err != nil {
		return out, fmt.Errorf("the other consumers of %s: %w", out.Stream.Name, because(ctx, err))
	}
	return out, nil
}

// read returns what the consumer's leader says of it, nil when it is missing. The
// other replicas do not know num_pending.
func (c *Consumer) read(ctx context.Context, js jetstream.JetStream, stream string, want jetstream.ConsumerConfig) (*jetstream.ConsumerInfo, error) {
	live, err := queue.AskConsumer(ctx, js, stream, want.Durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		c.State = Missing
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c.State = Present
	c.Differences = differences(queue.CheckConsumer(stream, want, live.Config))
	consumer, err := js.Consumer(ctx, stream, want.Durable)
	if errors.Is(err, jetstream.ErrNotPullConsumer) { // a difference that says it all
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	info := consumer.CachedInfo()
	c.Backlog = backlog(info)
	return info, nil
}

func backlog(info *jetstream.ConsumerInfo) *Backlog {
	return &Backlog{
		Depth:       info.NumPending + uint64(info.NumAckPending),
		Pending:     info.NumPending,
		AckPending:  uint64(info.NumAckPending),
		Redelivered: uint64(info.NumRedelivered),

		MaxAckPending: uint64(max(0, info.Config.MaxAckPending)),

		PausedSeconds: seconds(info.PauseRemaining),
	}
}

// readFlow asks the stream's leader again, this time for the number of reports.
func readFlow(ctx context.Context, stream jetstream.Stream, subject string, consumer *jetstream.ConsumerInfo) (flow, error) {
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(subject))
	if err != nil {
		return flow{}, err
	}
	return newFlow(subject, info, consumer), nil
}

// readStream also returns the stream itself, nil when it is missing.
func readStream(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) (Stream, jetstream.Stream, error) {
	out := unknown(want.Name)
	stream, err := js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		out.State = Missing
		return out, nil, nil
	}
	if err != nil {
		return out, nil, fmt.Errorf("stream %s: %w", want.Name, because(ctx, err))
	}
	info := stream.CachedInfo()
	out.State = Present
	out.created = info.Created
	out.Usage = &Usage{Messages: info.State.Msgs, Bytes: info.State.Bytes, LimitBytes: info.Config.MaxBytes}
	out.Usage.setPercent()
	live, err := queue.AskStream(ctx, js, want.Name)
	if err != nil {
		return out, nil, because(ctx, err)
	}
	out.live = live
	found := queue.CheckStream(want, live.Config)
	if p, ok := queue.PartitionOf(want.Name); ok {
		found = append(found, queue.CheckSubjects(p, live.State.Subjects)...)
	}
	out.Differences = differences(found)
	if info.Cluster != nil {
		out.Leader = info.Cluster.Leader
		out.Replicas = replicas(info.Cluster.Replicas)
	}
	return out, stream, nil
}

func replicas(peers []*jetstream.PeerInfo) []Replica {
	all := make([]Replica, 0, len(peers))
	for _, p := range peers {
		all = append(all, Replica{
			Server:        p.Name,
			Offline:       p.Offline,
			Current:       p.Current,
			LagOperations: p.Lag,
			SeenSeconds:   seconds(p.Active),
		})
	}
	slices.SortFunc(all, func(a, b Replica) int { return cmp.Compare(a.Server, b.Server) })
	return all
}
