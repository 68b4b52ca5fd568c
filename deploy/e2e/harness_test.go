// Package e2e runs Yagi as its operators do, as processes of their own, and
// kills them. What it asserts is the promise: a report that was answered
// CrashID= is in the bucket, byte for byte.
package e2e

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/yagi-crash/yagi/pkg/devstack/devs3"
	"github.com/yagi-crash/yagi/pkg/devstack/freeport"
	"github.com/yagi-crash/yagi/pkg/queue"
	"github.com/yagi-crash/yagi/pkg/settings"
)

const (
	accessKey = "e2e"
	secretKey = "e2e-secret"
)

// suite is what TestMain makes for all tests: the programs, an S3 server, and ports.
var suite struct {
	root     string // of the repository: the S3 server changes the working directory
	bin      string
	natsConf string // as for operators, with a user for each program
	s3       *devs3.Server
	s3Dir    string
	ports    freeport.Finder
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "yagi-e2e-")
	if err != nil {
		log.Print(err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if suite.root, err = filepath.Abs(filepath.Join("..", "..")); err != nil {
		log.Print(err)
		return 1
	}
	suite.bin = filepath.Join(dir, "bin")
	build := exec.CommandContext(context.Background(), "go", "build", "-trimpath", "-o", suite.bin+"/",
		"github.com/yagi-crash/yagi/intake/cmd/intake", "github.com/yagi-crash/yagi/uploader/cmd/uploader",
		"github.com/yagi-crash/yagi/deploy/cmd/local", "github.com/yagi-crash/yagi/deploy/cmd/crashctl", "github.com/nats-io/nats-server/v2")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		log.Printf("building the programs: %v", err)
		return 1
	}
	if suite.natsConf, err = writeNATSConf(dir); err != nil {
		log.Print(err)
		return 1
	}
	if suite.s3Dir, err = os.MkdirTemp(os.Getenv("E2E_BUCKET_DIR"), "yagi-e2e-s3-"); err != nil {
		log.Print(err)
		return 1
	}
	defer func() { _ = os.RemoveAll(suite.s3Dir) }()
	suite.s3, err = devs3.Start(context.Background(), devs3.Config{
		Addr: "127.0.0.1:0", Dir: suite.s3Dir, AccessKey: accessKey, SecretKey: secretKey,
	})
	if err != nil {
		log.Print(err)
		return 1
	}
	code := m.Run()
	if err := suite.s3.Stop(); err != nil {
		log.Print(err)
		return 1
	}
	return code
}

// writeNATSConf puts the configuration that operators are given together.
func writeNATSConf(dir string) (string, error) {
	var text []byte
	for _, name := range []string{"single.conf", "users.conf"} {
		part, err := os.ReadFile(filepath.Join("..", "nats", name))
		if err != nil {
			return "", err
		}
		text = append(text, part...)
	}
	path := filepath.Join(dir, "nats.conf")
	return path, os.WriteFile(path, text, 0o600)
}

// passwords are those of users.conf.
func passwords() []string {
	return []string{"NATS_INTAKE_PASSWORD=i", "NATS_UPLOADER_PASSWORD=u", "NATS_OPS_PASSWORD=o"}
}

// process is a program that can be killed and started again.
type process struct {
	t    *testing.T
	name string
	env  []string
	args []string
	out  *tail
	// program is what is run, when it is not of the suite.
	program string

	mu  sync.Mutex
	cmd *exec.Cmd
	end chan struct{} // closed when cmd has ended
}

func newProcess(t *testing.T, name string, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, name: name, env: env, args: args, out: &tail{}}
	p.start()
	t.Cleanup(func() {
		p.signal(syscall.SIGKILL)
		<-p.ended()
		if t.Failed() {
			t.Logf("%s said last:\n%s", name, p.out)
		}
	})
	return p
}

func (p *process) start() {
	program := cmp.Or(p.program, filepath.Join(suite.bin, p.name))
	cmd := exec.CommandContext(context.WithoutCancel(p.t.Context()), program, p.args...)
	cmd.Env = append(os.Environ(), p.env...)
	cmd.Stdout, cmd.Stderr = p.out, p.out
	if err := cmd.Start(); err != nil {
		p.t.Errorf("starting %s: %v", p.name, err)
	}
	end := make(chan struct{})
	go func() {
		defer close(end)
		_ = cmd.Wait() // its exit code is in cmd.ProcessState
	}()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cmd, p.end = cmd, end
}

func (p *process) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.cmd.Process.Signal(s) // fails when it has ended, which is what is wanted
}

func (p *process) ended() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.end
}

func (p *process) exitCode() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd.ProcessState.ExitCode()
}

// kill ends the process without a word, and returns when it is gone.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.ended()
}

// tail keeps the last of what a process prints.
type tail struct {
	mu sync.Mutex
	b  bytes.Buffer
}

const tailBytes = 16 << 10

func (l *tail) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.Write(p)
	if over := l.b.Len() - tailBytes; over > tailBytes {
		l.b.Next(over)
	}
	return len(p), nil
}

func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// system is a Yagi of one process a tier.
type system struct {
	nats, intake, uploader *process
	url, uploaderURL       string // url is of intake
	natsAddr               string
	bucket                 *bucket

	natsAddrs  []string // of every server; natsAddr is the first
	replicas   int
	partitions int
	streamSize settings.Bytes // of each partition
}

// startSystem starts everything, the tiers with settings of the form KEY=value
// over those that they need, and returns when it is healthy.
func startSystem(t *testing.T, settings ...string) *system {
	t.Helper()
	s := newSystem(t, 1)
	s.nats = s.newServer(t, suite.natsConf, s.natsAddr)
	s.applyStreams(t)
	s.startTiers(t, settings...)
	awaitHealthy(t, s.url)
	awaitHealthy(t, s.uploaderURL)
	return s
}

// newSystem is a system of which only the bucket is there, and addresses for that
// many NATS servers.
func newSystem(t *testing.T, servers int) *system {
	t.Helper()
	name := strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name()))
	s := &system{bucket: makeBucket(t, name), replicas: servers, partitions: 1, streamSize: 8 << 30}
	for range servers {
		s.natsAddrs = append(s.natsAddrs, freeAddr(t))
	}
	s.natsAddr = s.natsAddrs[0]
	return s
}

// newServer starts a NATS server.
func (s *system) newServer(t *testing.T, conf, addr string) *process {
	t.Helper()
	_, port, _ := net.SplitHostPort(addr)
	_, monitor, _ := net.SplitHostPort(freeAddr(t))
	env := append(passwords(), "GOMEMLIMIT=240MiB") // as in docker-compose.yml
	return newProcess(t, "nats-server", env, "-c", conf, "-a", "127.0.0.1", "-p", port, "-m", monitor, "-sd", t.TempDir())
}

// startTiers starts intake and uploader.
func (s *system) startTiers(t *testing.T, settings ...string) {
	t.Helper()
	s.intake, s.url = s.newIntake(t, settings...)
	uploaderAdmin := freeAddr(t)
	s.uploaderURL = "http://" + uploaderAdmin
	s.uploader = newProcess(t, "uploader", append([]string{
		"NATS_URL=" + s.natsURL("uploader:u"), "UPLOADER_ADMIN_ADDR=" + uploaderAdmin, "S3_BUCKET=" + s.bucket.name,
		"AWS_ENDPOINT_URL_S3=" + suite.s3.Endpoint(), "AWS_REGION=us-east-1",
		"AWS_ACCESS_KEY_ID=" + accessKey, "AWS_SECRET_ACCESS_KEY=" + secretKey,
	}, settings...))
}

// newIntake starts an intake, and returns where it listens.
func (s *system) newIntake(t *testing.T, settings ...string) (p *process, url string) {
	t.Helper()
	addr, admin := freeAddr(t), freeAddr(t)
	p = newProcess(t, "intake", append([]string{
		"NATS_URL=" + s.natsURL("intake:i"), "INTAKE_ADDR=" + addr, "INTAKE_ADMIN_ADDR=" + admin,
	}, settings...))
	return p, "http://" + addr
}

// natsURL is where a user of users.conf finds the servers.
func (s *system) natsURL(user string) string {
	var all []string
	for _, addr := range s.natsAddrs {
		all = append(all, "nats://"+user+"@"+addr)
	}
	return strings.Join(all, ",")
}

func (s *system) config() queue.Config {
	return queue.Config{URL: s.natsURL("ops:o"), Partitions: s.partitions, Replicas: s.replicas, StreamMaxBytes: s.streamSize, MaxAckPending: 100}
}

// jetStream is an operator's connection to the queue.
func (s *system) jetStream(t *testing.T) jetstream.JetStream {
	t.Helper()
	nc, err := queue.Connect(s.config(), "ops", zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// applyStreams makes the streams as crashctl does, as soon as the server is up.
// A message in the hands of a killed uploader comes back after the ack wait,
// which is shortened: a test need not wait a minute.
func (s *system) applyStreams(t *testing.T) {
	t.Helper()
	js := s.jetStream(t)
	eventually(t, "applying the streams", time.Minute, func() error {
		plan, err := queue.Plan(t.Context(), js, s.config())
		if err != nil {
			return err
		}
		return queue.Apply(t.Context(), plan)
	})
	for p := range s.partitions {
		short := queue.ConsumerConfig(p, s.config())
		short.AckWait = 5 * time.Second
		if _, err := js.UpdateConsumer(t.Context(), queue.StreamName(p), short); err != nil {
			t.Fatal(err)
		}
	}
}

// holds says what is wrong unless the queue has that many messages or more.
func holds(ctx context.Context, js jetstream.JetStream, messages uint64) error {
	stream, err := js.Stream(ctx, queue.StreamName(0))
	if err == nil && stream.CachedInfo().State.Msgs < messages {
		err = fmt.Errorf("%d messages are stored, want %d", stream.CachedInfo().State.Msgs, messages)
	}
	return err
}

// eventually tries until there is no error, and fails the test after a while.
func eventually(t *testing.T, what string, within time.Duration, try func() error) {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.Now().Add(within)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: after %s: %v", what, within, err)
		}
		<-ticker.C
	}
}

func awaitHealthy(t *testing.T, url string) { t.Helper(); awaitHeartbeat(t, url, http.StatusOK) }

// awaitHeartbeat waits until a tier's heartbeat has that status.
func awaitHeartbeat(t *testing.T, url string, status int) {
	t.Helper()
	eventually(t, fmt.Sprintf("waiting for %d of %s", status, url), 40*time.Second, func() error {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/__heartbeat__", http.NoBody)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if text, _ := io.ReadAll(response.Body); response.StatusCode != status {
			return fmt.Errorf("%d: %s", response.StatusCode, text)
		}
		return nil
	})
}

func freeAddr(t *testing.T) string {
	t.Helper()
	addr, err := suite.ports.Addr(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// bucket is a bucket as its readers see it.
type bucket struct {
	client *s3.Client
	name   string
}

func makeBucket(t *testing.T, name string) *bucket {
	t.Helper()
	b := openBucket(suite.s3.Endpoint(), name, accessKey, secretKey)
	if _, err := b.client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &name}); err != nil {
		t.Fatal(err)
	}
	return b
}

func openBucket(endpoint, name, access, secret string) *bucket {
	return &bucket{name: name, client: s3.New(s3.Options{
		BaseEndpoint: &endpoint, Region: "us-east-1", UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(access, secret, ""),
	})}
}

// read returns an object.
func (b *bucket) read(ctx context.Context, key string) ([]byte, error) {
	got, err := b.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.name, Key: aws.String(key)})
	if err != nil {
		return nil, err
	}
	defer got.Body.Close()
	return io.ReadAll(got.Body)
}

// rest lets time pass between two faults: when the next one strikes is for
// chance to decide, so there is no event to wait for.
func rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

var errIdle = errors.New("no report was promised")
