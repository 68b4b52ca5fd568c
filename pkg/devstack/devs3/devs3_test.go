package devs3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
)

const (
	bucket = "crashes"
	key    = "v1/dump/de1bb258-cbbf-4589-a673-34f800160918"
	dump   = "minidump"
)

// settings are those of a server on a folder, at free addresses.
func settings(dir string) Config {
	return Config{
		Addr: "127.0.0.1:0", WebAddr: "127.0.0.1:0", Dir: dir,
		AccessKey: "local", SecretKey: "local-secret", Buckets: []string{bucket},
	}
}

// start runs a server until the test ends.
func start(t *testing.T, cfg Config) *Server {
	t.Helper()
	s, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, s) })
	return s
}

func stop(t *testing.T, s *Server) {
	t.Helper()
	if err := s.Stop(); err != nil {
		t.Errorf("stopping: %v", err)
	}
}

func newClient(s *Server) *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint:     aws.String(s.Endpoint()),
		Region:           "us-east-1",
		Credentials:      credentials.NewStaticCredentialsProvider("local", "local-secret", ""),
		UsePathStyle:     true,
		RetryMaxAttempts: 1,
	})
}

// put stores the dump as the uploader does, with its SHA-256 as the checksum.
func put(t *testing.T, s *Server, opts ...func(*s3.Options)) error {
	t.Helper()
	return putClaiming(t, s, dump, sha256.Sum256([]byte(dump)), opts...)
}

func putClaiming(t *testing.T, s *Server, body string, sum [sha256.Size]byte, opts ...func(*s3.Options)) error {
	t.Helper()
	_, err := newClient(s).PutObject(t.Context(), &s3.PutObjectInput{
		Bucket: aws.String(bucket), Key: aws.String(key), Body: strings.NewReader(body),
		ChecksumSHA256: aws.String(base64.StdEncoding.EncodeToString(sum[:])),
		ContentType:    aws.String("application/x-dump"),
	}, opts...)
	return err
}

// presetPayloadHash makes the client sign this hash instead of computing one.
func presetPayloadHash(sum [sha256.Size]byte) func(*s3.Options) {
	set := middleware.InitializeMiddlewareFunc("PresetPayloadHash", func(
		ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler,
	) (middleware.InitializeOutput, middleware.Metadata, error) {
		return next.HandleInitialize(v4.SetPayloadHash(ctx, hex.EncodeToString(sum[:])), in)
	})
	return s3.WithAPIOptions(func(stack *middleware.Stack) error {
		return stack.Initialize.Add(set, middleware.Before)
	})
}

// wantDump asserts that the dump comes back as it was put, metadata and all.
func wantDump(t *testing.T, s *Server) {
	t.Helper()
	out, err := newClient(s).GetObject(t.Context(), &s3.GetObjectInput{
		Bucket: aws.String(bucket), Key: aws.String(key), ChecksumMode: "ENABLED",
	})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Body.Close()
	got, err := io.ReadAll(out.Body)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != dump {
		t.Errorf("object = %q, want %q", got, dump)
	}
	if out.ChecksumSHA256 == nil {
		t.Error("the object came without the checksum that it was stored with")
	}
	if got := aws.ToString(out.ContentType); got != "application/x-dump" {
		t.Errorf("content type = %q, want the one that the object was stored with", got)
	}
}

// wantRefused asserts the error's code and that nothing was stored.
func wantRefused(t *testing.T, dir string, err error, code string) {
	t.Helper()
	var refusal smithy.APIError
	if !errors.As(err, &refusal) || refusal.ErrorCode() != code {
		t.Errorf("error = %v, want %s", err, code)
	}
	if _, err := os.Stat(filepath.Join(dir, "data", bucket, key)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a refused object is on disk (stat: %v)", err)
	}
}

func wantFree(t *testing.T, url string) {
	t.Helper()
	l, err := net.Listen("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Errorf("%s is still taken: %v", url, err)
		return
	}
	l.Close()
}

// What was stored is a file on disk, and is there for the next server on the
// same folder and addresses, wherever its metadata is kept.
func TestRestart(t *testing.T) {
	t.Run("metadata where the file system wants it", func(t *testing.T) {
		testRestart(t, t.TempDir())
	})
	t.Run("metadata in a sidecar, folder relative", func(t *testing.T) {
		t.Chdir(t.TempDir())
		const dir = "s3"
		if err := os.MkdirAll(filepath.Join(dir, "meta"), 0o700); err != nil {
			t.Fatal(err)
		}
		testRestart(t, dir)
		if _, err := os.Stat(filepath.Join(dir, "meta", bucket, key)); err != nil {
			t.Error(err)
		}
	})
}

func testRestart(t *testing.T, dir string) {
	t.Helper()
	cfg := settings(dir)
	first := start(t, cfg)
	if err := put(t, first); err != nil {
		t.Fatal(err)
	}
	wantDump(t, first)
	stop(t, first)

	cfg.Addr = strings.TrimPrefix(first.Endpoint(), "http://")
	cfg.WebAddr = strings.TrimPrefix(first.WebURL(), "http://")
	second := start(t, cfg)
	wantDump(t, second)
	stop(t, second)

	onDisk, err := os.ReadFile(filepath.Join(dir, "data", bucket, key))
	if err != nil {
		t.Fatal(err)
	}
	if string(onDisk) != dump {
		t.Errorf("file = %q, want %q", onDisk, dump)
	}
}

// A folder that takes no extended attributes is found out before its first
// object. One that is not there takes none, on every system.
func TestHasAttributes(t *testing.T) {
	if dir := filepath.Join(t.TempDir(), "missing"); hasAttributes(dir) {
		t.Errorf("%s does not exist and has extended attributes", dir)
	}
}

// Requests are signed for the region that was asked for.
func TestRegion(t *testing.T) {
	cfg := settings(t.TempDir())
	cfg.Region = "eu-central-1"
	s := start(t, cfg)
	if err := put(t, s, func(o *s3.Options) { o.Region = "eu-central-1" }); err != nil {
		t.Error(err)
	}
	if err := put(t, s); err == nil {
		t.Error("a request signed for another region was accepted")
	}
}

// The store itself refuses an object that is not what the uploader says it is.
func TestDamage(t *testing.T) {
	dir := t.TempDir()
	s := start(t, settings(dir))
	sent, meant := sha256.Sum256([]byte("damaged")), sha256.Sum256([]byte(dump))

	t.Run("wrong checksum", func(t *testing.T) {
		err := putClaiming(t, s, "damaged", meant, presetPayloadHash(sent))
		wantRefused(t, dir, err, "BadDigest")
	})
	t.Run("wrong payload hash", func(t *testing.T) {
		err := putClaiming(t, s, "damaged", sent, presetPayloadHash(meant))
		wantRefused(t, dir, err, "XAmzContentSHA256Mismatch")
	})
	t.Run("both wrong", func(t *testing.T) {
		err := putClaiming(t, s, "damaged", meant, presetPayloadHash(meant))
		wantRefused(t, dir, err, "XAmzContentSHA256Mismatch")
	})
	t.Run("both right", func(t *testing.T) {
		if err := put(t, s, presetPayloadHash(meant)); err != nil {
			t.Error(err)
		}
	})
}

// Whoever does not have the secret key does not get in.
func TestWrongKey(t *testing.T) {
	dir := t.TempDir()
	s := start(t, settings(dir))
	err := put(t, s, func(o *s3.Options) {
		o.Credentials = credentials.NewStaticCredentialsProvider("local", "wrong", "")
	})
	wantRefused(t, dir, err, "SignatureDoesNotMatch")
}

// The web view is a page, and the S3 API lets that page call it.
func TestWebView(t *testing.T) {
	s := start(t, settings(t.TempDir()))
	page := get(t, s.WebURL())
	if page.StatusCode != http.StatusOK || !strings.HasPrefix(page.Header.Get("Content-Type"), "text/html") {
		t.Errorf("web view answers %s, %s; want 200 and HTML", page.Status, page.Header.Get("Content-Type"))
	}
	if body, err := io.ReadAll(page.Body); err != nil || !bytes.Contains(body, []byte(s.Endpoint())) {
		t.Errorf("the page does not know %s (reading it: %v)", s.Endpoint(), err)
	}
	if got := get(t, s.Endpoint()).Header.Get("Access-Control-Allow-Origin"); got != s.WebURL() {
		t.Errorf("S3 API allows origin %q, want %q", got, s.WebURL())
	}
}

func get(t *testing.T, url string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	return res
}

// A second server would pull the folder away from under the first.
func TestOnePerProcess(t *testing.T) {
	first := start(t, settings(t.TempDir()))
	untouched := t.TempDir()
	if second, err := Start(t.Context(), settings(untouched)); err == nil {
		stop(t, second)
		t.Fatal("a second server started")
	}
	if _, err := os.Stat(filepath.Join(untouched, "data")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the second server got as far as its folder (stat: %v)", err)
	}
	if err := put(t, first); err != nil {
		t.Error(err)
	}
	stop(t, first)
	start(t, settings(t.TempDir()))
}

// A start that fails leaves nothing behind.
func TestAddressInUse(t *testing.T) {
	home := t.TempDir()
	t.Chdir(home)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()

	for name, change := range map[string]func(*Config){
		"S3":      func(c *Config) { c.Addr = taken.Addr().String() },
		"web":     func(c *Config) { c.WebAddr = taken.Addr().String() },
		"account": func(c *Config) { c.SecretKey = "" },
		"bucket":  func(c *Config) { c.Buckets = []string{"No Such Name"} },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := settings("relative")
			change(&cfg)
			if s, err := Start(t.Context(), cfg); err == nil {
				stop(t, s)
				t.Fatal("it started")
			} else if addr := taken.Addr().String(); cfg.Addr == addr && !strings.Contains(err.Error(), addr) {
				t.Errorf("error %q does not name the address %s", err, addr)
			}
			if here, err := os.Getwd(); err != nil || here != home {
				t.Errorf("working directory = %s, %v; want %s", here, err, home)
			}
			stop(t, start(t, settings("relative")))
		})
	}
}

// Stop is quick whatever clients do: an idle connection, one opened in advance
// and never used, and an upload that has stalled.
func TestStop(t *testing.T) {
	home, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, settings(t.TempDir()))
	if err := put(t, s); err != nil { // Its connection stays open, idle.
		t.Fatal(err)
	}
	var open []net.Conn
	for _, url := range []string{s.Endpoint(), s.WebURL(), s.Endpoint()} {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		open = append(open, c)
	}
	if _, err := io.WriteString(open[2], "PUT /"+bucket+"/stalled HTTP/1.1\r\nHost: s3\r\nContent-Length: 1000000\r\n\r\nMDMP"); err != nil {
		t.Fatal(err)
	}

	began := time.Now()
	stop(t, s)
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("Stop took %s", took)
	}
	for i, c := range open {
		if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("connection %d is still open after Stop", i)
		}
	}
	wantFree(t, s.Endpoint())
	wantFree(t, s.WebURL())
	if here, err := os.Getwd(); err != nil || here != home {
		t.Errorf("working directory = %s, %v; want %s", here, err, home)
	}
}
