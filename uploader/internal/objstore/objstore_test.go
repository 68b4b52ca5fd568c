package objstore_test

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/devstack/devs3"
	"github.com/yagi-crash/yagi/pkg/layout"
	"github.com/yagi-crash/yagi/uploader/internal/objstore"
)

// endpoint is the S3 server that all tests share; TestMain sets it.
var endpoint string

func TestMain(m *testing.M) { os.Exit(withS3(m)) }

func withS3(m *testing.M) int {
	dir, err := os.MkdirTemp("", "objstore-test")
	if err != nil {
		log.Print(err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	server, err := devs3.Start(context.Background(), devs3.Config{
		Addr: "127.0.0.1:0", Dir: dir, AccessKey: "test", SecretKey: "test-secret", Buckets: []string{"crashes"},
	})
	if err != nil {
		log.Print(err)
		return 1
	}
	defer func() { _ = server.Stop() }()
	endpoint = server.Endpoint()
	return m.Run()
}

func config() objstore.Config {
	return objstore.Config{
		Bucket: "crashes", Endpoint: endpoint, Region: "us-east-1", AccessKey: "test", SecretKey: "test-secret",
		PutTimeout: 5 * time.Second, Concurrency: 1,
	}
}

func open(t *testing.T, cfg objstore.Config) *objstore.Store {
	t.Helper()
	store, err := objstore.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func object(key, body string) layout.Object {
	return layout.Object{Key: key, ContentType: "text/plain", Part: crash.NewPart(key, []byte(body), crash.Sum([]byte(body)))}
}

// client is somebody else's.
func client() *s3.Client {
	return s3.New(s3.Options{
		Region: "us-east-1", BaseEndpoint: &endpoint, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider("test", "test-secret", ""),
	})
}

// keys lists the keys below a prefix.
func keys(t *testing.T, prefix string) (keys []string) {
	t.Helper()
	list, err := client().ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String("crashes"), Prefix: &prefix})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range list.Contents {
		keys = append(keys, aws.ToString(o.Key))
	}
	return keys
}

// read returns an object as somebody else's client sees it.
func read(t *testing.T, key string) (body, contentType string) {
	t.Helper()
	got, err := client().GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("crashes"), Key: &key})
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	text, err := io.ReadAll(got.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text), aws.ToString(got.ContentType)
}

func TestPut(t *testing.T) {
	store := open(t, config())
	// From 2 MB on the SDK waits for the server's leave to send.
	for _, body := range []string{"", "a dump", strings.Repeat("x", 3<<20), "another dump"} {
		if err := store.Put(t.Context(), object("v1/dump/put", body)); err != nil {
			t.Fatal(err)
		}
		if got, contentType := read(t, "v1/dump/put"); got != body || contentType != "text/plain" {
			t.Errorf("the bucket has %d bytes of %s, want the %d bytes of text/plain that were put", len(got), contentType, len(body))
		}
	}
	if err := store.Probe(t.Context()); err != nil {
		t.Error(err)
	}
}

// In production the SDK's own variables say all that Config leaves out.
func TestSDKVariables(t *testing.T) {
	t.Setenv("AWS_ENDPOINT_URL_S3", endpoint)
	t.Setenv("AWS_REGION", "us-east-1")
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test-secret")
	store := open(t, objstore.Config{Bucket: "crashes", PutTimeout: 5 * time.Second})
	if err := store.Put(t.Context(), object("v1/dump/sdk", "a dump")); err != nil {
		t.Fatal(err)
	}
	if got, _ := read(t, "v1/dump/sdk"); got != "a dump" {
		t.Errorf("the bucket has %q", got)
	}
}

// The digest that came with the object is what the store gets to check, whatever
// the body is, with TLS and without; no other checksum and no second reading.
func TestSendsTheGivenDigest(t *testing.T) {
	var header http.Header
	var body []byte
	note := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header = r.Header.Clone()
		body, _ = io.ReadAll(r.Body)
		w.Header().Set("ETag", `"noted"`)
	})
	plain, secure := httptest.NewServer(note), httptest.NewTLSServer(note)
	defer plain.Close()
	defer secure.Close()
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
	if err := os.WriteFile(bundle, text, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CA_BUNDLE", bundle)
	for _, url := range []string{plain.URL, secure.URL} {
		cfg := config()
		cfg.Endpoint = url
		o := object("v1/dump/x", "what arrived at intake")
		const changed = "what came out of the queue."
		o.Part.Data, o.Part.Size = strings.NewReader(changed), int64(len(changed))
		if err := open(t, cfg).Put(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		if string(body) != changed {
			t.Errorf("%s: the body was sent as %q", url, body)
		}
		for name, want := range map[string]string{
			"X-Amz-Content-Sha256":  o.Part.SHA256.String(),
			"X-Amz-Checksum-Sha256": base64.StdEncoding.EncodeToString(o.Part.SHA256[:]),
			"X-Amz-Checksum-Crc32":  "",
			"X-Amz-Trailer":         "",
			"Content-Encoding":      "",
		} {
			if got := header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", url, name, got, want)
			}
		}
	}
}

func TestClass(t *testing.T) {
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	answering := func(status int, code string) string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code></Error>", code)
		}))
		t.Cleanup(server.Close)
		return server.URL
	}
	cutting := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer cutting.Close()
	courteous := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer courteous.Close()
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // or the server does not see the client leave
		<-r.Context().Done()
	}))
	defer silent.Close()

	for what, change := range map[string]struct {
		class string
		to    func(*objstore.Config)
	}{
		"a port where nobody listens": {objstore.ClassUnreachable, func(c *objstore.Config) { c.Endpoint = "http://" + dead.Addr().String() }},
		"a connection that is cut":    {objstore.ClassUnreachable, func(c *objstore.Config) { c.Endpoint = cutting.URL }},
		"a server that is silent": {objstore.ClassTimeout, func(c *objstore.Config) {
			c.Endpoint, c.PutTimeout = silent.URL, 100*time.Millisecond
		}},
		"a secret key that is wrong":  {objstore.ClassDenied, func(c *objstore.Config) { c.SecretKey = "wrong" }},
		"an access key nobody has":    {objstore.ClassDenied, func(c *objstore.Config) { c.AccessKey = "wrong" }},
		"a bucket that is not there":  {objstore.ClassNoSuchBucket, func(c *objstore.Config) { c.Bucket = "missing" }},
		"a server that is in trouble": {objstore.Class5xx, func(c *objstore.Config) { c.Endpoint = answering(500, "InternalError") }},
		"a server that is busy":       {objstore.ClassSlowDown, func(c *objstore.Config) { c.Endpoint = answering(503, "SlowDown") }},
		"a server that is choosy":     {objstore.ClassRefused, func(c *objstore.Config) { c.Endpoint = answering(400, "InvalidRequest") }},
		"a server that is small":      {objstore.ClassTooLarge, func(c *objstore.Config) { c.Endpoint = answering(400, "EntityTooLarge") }},
		"a proxy that is small":       {objstore.ClassTooLarge, func(c *objstore.Config) { c.Endpoint = answering(413, "") }},
		"a bucket with a quota":       {objstore.ClassNoRoom, func(c *objstore.Config) { c.Endpoint = answering(403, "QuotaExceeded") }},
		"a server that is full":       {objstore.ClassNoRoom, func(c *objstore.Config) { c.Endpoint = answering(507, "") }},
		"somebody who is no store":    {objstore.ClassOther, func(c *objstore.Config) { c.Endpoint = courteous.URL }},
		"a token that is too old":     {objstore.ClassDenied, func(c *objstore.Config) { c.Endpoint = answering(400, "ExpiredToken") }},
	} {
		cfg := config()
		change.to(&cfg)
		store := open(t, cfg)
		err := store.Put(t.Context(), object("v1/dump/x", "a dump"))
		if silent := strings.Contains(fmt.Sprint(err), "the store has not answered for 100ms"); silent != (change.class == objstore.ClassTimeout) {
			t.Errorf("Put meets %s: %v", what, err)
		}
		if err == nil || objstore.Class(err) != change.class {
			t.Errorf("Put meets %s: class %s, want %s: %v", what, objstore.Class(err), change.class, err)
		}
		if store.Probe(t.Context()) == nil {
			t.Errorf("Probe meets %s, and all is well", what)
		}
	}
}

// A body that is not what its digest says is refused, and what was there stays.
func TestWrongDigest(t *testing.T) {
	store := open(t, config())
	if err := store.Put(t.Context(), object("v1/dump/digest", "before")); err != nil {
		t.Fatal(err)
	}
	wrong := object("v1/dump/digest", "after")
	wrong.Part.Data = strings.NewReader("AFTER")
	if err := store.Put(t.Context(), wrong); objstore.Class(err) != objstore.ClassDigest {
		t.Errorf("class %s, want %s: %v", objstore.Class(err), objstore.ClassDigest, err)
	}
	if got, _ := read(t, "v1/dump/digest"); got != "before" {
		t.Errorf("the bucket has %q, want what was there before", got)
	}
}

// One bad answer is bridged; more are for the queue.
func TestSecondAttempt(t *testing.T) {
	for failures, want := range map[int]bool{1: true, 2: false} {
		calls := 0
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			calls++
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("ETag", `"taken"`)
			if calls <= failures {
				w.WriteHeader(http.StatusInternalServerError)
			}
		}))
		cfg := config()
		cfg.Endpoint = server.URL
		err := open(t, cfg).Put(t.Context(), object("v1/dump/x", "a dump"))
		if (err == nil) != want || calls != 2 {
			t.Errorf("%d bad answers: %d calls, then %v", failures, calls, err)
		}
		server.Close()
	}
}

// A clock that differs from the store's by more than it accepts (S3: 15 minutes) is
// made up for: from the first refusal on, what is signed has the store's time.
func TestClockDiffersFromTheStores(t *testing.T) {
	for _, ahead := range []time.Duration{time.Hour, -26 * time.Hour} {
		calls := 0
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			calls++
			now := time.Now().Add(ahead)
			w.Header().Set("Date", now.UTC().Format(http.TimeFormat))
			signed, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
			if err != nil || now.Sub(signed).Abs() > 15*time.Minute {
				w.WriteHeader(http.StatusForbidden)
				_, _ = io.WriteString(w, "<Error><Code>RequestTimeTooSkewed</Code></Error>")
				return
			}
			w.Header().Set("ETag", `"taken"`)
		}))
		cfg := config()
		cfg.Endpoint = server.URL
		store := open(t, cfg)
		for i, want := range []int{2, 3} {
			if err := store.Put(t.Context(), object("v1/dump/x", "a dump")); err != nil || calls != want {
				t.Errorf("the store is %v ahead, object %d: %d calls, want %d: %v", ahead, i, calls, want, err)
			}
		}
		server.Close()
	}
}

func TestPutEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := open(t, config()).Put(ctx, object("v1/dump/x", "a dump")); !errors.Is(err, context.Canceled) {
		t.Errorf("Put returned %v, want %v", err, context.Canceled)
	}
}

// sluggish is a store that takes a body a little at a time, and some of it only.
func sluggish(t *testing.T, bytes int, every time.Duration) string {
	t.Helper()
	end := make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"taken"`)
		for taken := 0; taken < bytes; {
			n, err := io.CopyN(io.Discard, r.Body, 64<<10)
			taken += int(n)
			if err != nil {
				return // all of it is here
			}
			<-time.After(every)
		}
		<-end
	}))
	server.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		_ = c.(*net.TCPConn).SetReadBuffer(64 << 10) // so that the sender notices
		return ctx
	}
	server.Start()
	t.Cleanup(func() {
		close(end)
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL
}

// A large object over a slow line takes longer than PutTimeout, and gets there; a
// store that takes nothing more is not waited for.
func TestPutTimeoutIsAboutProgress(t *testing.T) {
	body := strings.Repeat("0123456789abcdef", 1<<20) // 16 MiB
	cfg := config()
	cfg.PutTimeout = 1500 * time.Millisecond
	cfg.Endpoint = sluggish(t, len(body)+1, 15*time.Millisecond)
	start := time.Now()
	if err := open(t, cfg).Put(t.Context(), object("v1/dump/slow", body)); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took < 2*cfg.PutTimeout {
		t.Errorf("the object was put within %v, which proves nothing", took)
	}

	cfg.Endpoint = sluggish(t, 1<<20, 0)
	start = time.Now()
	err := open(t, cfg).Put(t.Context(), object("v1/dump/stuck", body))
	if class := objstore.Class(err); class != objstore.ClassTimeout || !strings.HasPrefix(err.Error(), "putting v1/dump/stuck: the store has taken nothing for 1.5s: ") {
		t.Errorf("class %s, want %s: %v", class, objstore.ClassTimeout, err)
	}
	if took := time.Since(start); took > 10*cfg.PutTimeout {
		t.Errorf("a store that takes nothing was waited for for %v", took)
	}
}

// Keys that are changed in a file are in use after a probe that failed.
func TestProbeReadsTheSettingsAgain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "credentials")
	write := func(secret string) {
		text := fmt.Sprintf("[default]\naws_access_key_id = test\naws_secret_access_key = %s\n", secret)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
	write("wrong")
	cfg := config()
	cfg.AccessKey, cfg.SecretKey = "", ""
	store := open(t, cfg)
	others := keys(t, layout.ProbePrefix)
	if err := store.Probe(t.Context()); objstore.Class(err) != objstore.ClassDenied {
		t.Fatalf("with a wrong key the probe returned %v", err)
	}
	write("test-secret")
	if err := store.Probe(t.Context()); objstore.Class(err) != objstore.ClassDenied {
		t.Fatalf("with a key that was wrong when it was read the probe returned %v", err)
	}
	if err := store.Probe(t.Context()); err != nil {
		t.Errorf("with the right key: %v", err)
	}
	probes := slices.DeleteFunc(keys(t, layout.ProbePrefix), func(key string) bool { return slices.Contains(others, key) })
	if len(probes) != 1 {
		t.Fatalf("the probes have put %q, want one object", probes)
	}
	if body, _ := read(t, probes[0]); !strings.Contains(body, "Yagi") {
		t.Errorf("the probe has put %q", body)
	}
}
