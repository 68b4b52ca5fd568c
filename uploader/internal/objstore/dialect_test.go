package objstore_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/yagi-crash/yagi/uploader/internal/objstore"
)

// A store that speaks a dialect refuses what it does not know, and takes it with the
// setting for that dialect.
func TestDialects(t *testing.T) {
	header := func(name, want, code string) func(*fake) {
		return func(f *fake) {
			f.hear = func(r *http.Request) *answer {
				if r.Method == http.MethodPut && r.Header.Get(name) != want || want == "" && r.Header.Get("X-Amz-Checksum-Mode") != "" {
					return &answer{http.StatusBadRequest, code}
				}
				return nil
			}
		}
	}
	for name, test := range map[string]struct {
		dialect func(*fake)
		set     func(*objstore.Config)
		class   string // without the setting
		hint    string
	}{
		"no checksums": {
			header("X-Amz-Checksum-Sha256", "", "InvalidArgument Unsupported header 'x-amz-checksum-sha256' received"),
			func(c *objstore.Config) { c.Checksum = objstore.ChecksumNone },
			objstore.ClassConfig, "(look at S3_CHECKSUM)",
		},
		"encryption is wanted": {
			header("X-Amz-Server-Side-Encryption", "AES256", "InvalidRequest server side encryption is required"),
			func(c *objstore.Config) { c.SSE = "AES256" },
			objstore.ClassConfig, "(look at S3_SSE)",
		},
		"encryption with a key is wanted": {
			header("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id", "crashes", "KMS.NotFoundException"),
			func(c *objstore.Config) { c.SSE, c.KMSKey = "aws:kms", "crashes" },
			objstore.ClassConfig, "(look at S3_SSE_KMS_KEY_ID",
		},
		"an ACL is wanted": {
			header("X-Amz-Acl", "bucket-owner-full-control", "AccessDenied"),
			func(c *objstore.Config) { c.ACL = "bucket-owner-full-control" },
			objstore.ClassRefused, "", // its status is 400 here
		},
		"a storage class is wanted": {
			header("X-Amz-Storage-Class", "STANDARD_IA", "InvalidStorageClass"),
			func(c *objstore.Config) { c.StorageClass = "STANDARD_IA" },
			objstore.ClassConfig, "(look at S3_STORAGE_CLASS)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, test.dialect)
			cfg := config()
			cfg.Endpoint = f.URL
			err := open(t, cfg).Put(t.Context(), object("v1/dump/x", "a dump"))
			if objstore.Class(err) != test.class || !strings.Contains(err.Error(), test.hint) {
				t.Errorf("without the setting: class %s, want %s with %q: %v", objstore.Class(err), test.class, test.hint, err)
			}
			test.set(&cfg)
			store := open(t, cfg)
			if err := errors.Join(store.Put(t.Context(), object("v1/dump/x", "a dump")), store.Probe(t.Context())); err != nil {
				t.Errorf("with the setting: %v", err)
			}
			if holds, err := store.Holds(t.Context(), object("v1/dump/x", "a dump")); err != nil || !holds {
				t.Errorf("with the setting: the object is there: %t, %v", holds, err)
			}
			wrong := object("v1/dump/y", "a dump")
			wrong.Part.Data = strings.NewReader("A DUMP")
			if err := store.Put(t.Context(), wrong); objstore.Class(err) != objstore.ClassDigest {
				t.Errorf("with the setting and other bytes: class %s, want %s: %v", objstore.Class(err), objstore.ClassDigest, err)
			}
		})
	}
}

// The bucket is part of the path where there is an endpoint, and of the host's name at
// AWS, unless it is set otherwise.
func TestAddressing(t *testing.T) {
	dead, err := net.Listen("tcp", "127.0.0.1:0") // so that no answer comes from there
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	_, port, _ := net.SplitHostPort(dead.Addr().String())
	for style, want := range map[string]string{
		"":                      "http://localhost:" + port + "/crashes/v1/dump/x",
		objstore.AddressAuto:    "http://localhost:" + port + "/crashes/v1/dump/x",
		objstore.AddressPath:    "http://localhost:" + port + "/crashes/v1/dump/x",
		objstore.AddressVirtual: "http://crashes.localhost:" + port + "/v1/dump/x",
	} {
		cfg := config()
		cfg.Endpoint, cfg.Addressing, cfg.Attempts = "http://localhost:"+port, style, 1
		err := open(t, cfg).Put(t.Context(), object("v1/dump/x", "a dump"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("with %q it put to %v, want %s", style, err, want)
		}
	}
}

// A proxy may change what concerns the connection, and what programs say about
// themselves, but nothing that the store goes by.
func TestSignatureOutlivesProxies(t *testing.T) {
	f := newFake(t, nil)
	target, err := url.Parse(f.URL)
	if err != nil {
		t.Fatal(err)
	}
	change := ""
	proxy := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host
		r.Out.Header.Set("Accept-Encoding", "gzip, deflate, br")
		r.Out.Header.Set("User-Agent", "proxy")
		r.Out.Header.Del("Amz-Sdk-Invocation-Id")
		r.Out.Header.Add("Amz-Sdk-Request", "changed")
		r.Out.Header.Set("Via", "1.1 proxy")
		r.Out.Header.Set("Connection", "close")
		if change != "" {
			r.Out.Header.Set(change, "changed")
		}
	}})
	defer proxy.Close()
	cfg := config()
	cfg.Endpoint = proxy.URL
	cfg.StorageClass = "STANDARD_IA"
	store := open(t, cfg)
	o := object("v1/dump/x", "a dump")
	if err := store.Put(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if held, err := store.Holds(t.Context(), o); !held || err != nil {
		t.Errorf("reading it: %v, %v", held, err)
	}
	for _, change = range []string{"Content-Type", "X-Amz-Date", "X-Amz-Storage-Class", "X-Amz-Content-Sha256", "X-Amz-Checksum-Sha256"} {
		if err := store.Put(t.Context(), object("v1/dump/y", "a dump")); err == nil {
			t.Errorf("a PUT was taken whose %s was changed", change)
		}
	}
}

// Who does not know Expect: 100-continue answers 417, and is spoken to without.
func TestExpectationFailed(t *testing.T) {
	expected := 0
	f := newFake(t, func(f *fake) {
		f.hear = func(r *http.Request) *answer {
			if r.Header.Get("Expect") != "" {
				expected++
				return &answer{status: http.StatusExpectationFailed}
			}
			return nil
		}
	})
	store := f.open(t)
	body := strings.Repeat("x", 3<<20)
	for _, key := range []string{"v1/dump/x", "v1/dump/y"} {
		if err := store.Put(t.Context(), object(key, body)); err != nil {
			t.Error(err)
		}
	}
	if expected != 1 {
		t.Errorf("%d PUTs with Expect, want 1", expected)
	}
}

// What a store, and what something in front of it, answers.
func TestClassOfAnswers(t *testing.T) {
	var now answer
	location := ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if location != "" {
			w.Header().Set("Location", location)
		}
		w.WriteHeader(now.status)
		_, _ = io.WriteString(w, now.document())
	}))
	defer server.Close()
	cfg := config()
	cfg.Endpoint = server.URL
	store := open(t, cfg)
	for _, test := range []struct {
		answer     answer
		class      string
		particular bool
	}{
		{answer{400, ""}, objstore.ClassProxy, true},
		{answer{403, ""}, objstore.ClassDenied, true},
		{answer{404, ""}, objstore.ClassProxy, true},
		{answer{405, ""}, objstore.ClassProxy, true},
		{answer{407, ""}, objstore.ClassProxy, true},
		{answer{408, ""}, objstore.ClassTimeout, false},
		{answer{411, ""}, objstore.ClassProxy, true},
		{answer{413, ""}, objstore.ClassTooLarge, true},
		{answer{416, ""}, objstore.ClassProxy, true},
		{answer{429, ""}, objstore.ClassSlowDown, false},
		{answer{499, ""}, objstore.ClassProxy, true},
		{answer{502, ""}, objstore.Class5xx, false},
		{answer{521, ""}, objstore.Class5xx, false},
		{answer{530, ""}, objstore.Class5xx, false},
		{answer{301, ""}, objstore.ClassConfig, false},
		{answer{302, ""}, objstore.ClassProxy, false},
		{answer{301, "PermanentRedirect"}, objstore.ClassConfig, false},
		{answer{307, "TemporaryRedirect"}, objstore.ClassConfig, false},
		{answer{400, "AuthorizationHeaderMalformed"}, objstore.ClassConfig, false},
		{answer{400, "IncompleteBody"}, objstore.ClassUnreachable, false},
		{answer{400, "RequestTimeout"}, objstore.ClassTimeout, false},
		{answer{400, "InvalidRequest"}, objstore.ClassRefused, true},
		{answer{400, "InvalidArgument"}, objstore.ClassRefused, true},
		{answer{400, "KeyTooLongError"}, objstore.ClassRefused, true},
		{answer{400, "EntityTooLarge"}, objstore.ClassTooLarge, true},
		{answer{400, "ExpiredToken"}, objstore.ClassDenied, false},
		{answer{400, "InvalidStorageClass"}, objstore.ClassConfig, false},
		{answer{400, "AccessControlListNotSupported"}, objstore.ClassConfig, false},
		{answer{400, "KMS.DisabledException"}, objstore.ClassConfig, false},
		{answer{400, "KMS.ThrottlingException"}, objstore.ClassSlowDown, false},
		{answer{500, "KMS.KMSInternalException"}, objstore.Class5xx, false},
		{answer{403, "AccessDenied"}, objstore.ClassDenied, true},
		{answer{403, "SignatureDoesNotMatch"}, objstore.ClassDenied, false},
		{answer{403, "RequestTimeTooSkewed"}, objstore.ClassDenied, false},
		{answer{404, "NoSuchBucket"}, objstore.ClassNoSuchBucket, false},
		{answer{404, "NoSuchKey"}, objstore.ClassOther, true},
		{answer{404, "NoSuchUpload"}, objstore.ClassOther, true},
		{answer{405, "MethodNotAllowed"}, objstore.ClassOther, true},
		{answer{409, "OperationAborted"}, objstore.ClassOther, true},
		{answer{411, "MissingContentLength"}, objstore.ClassOther, true},
		{answer{412, "PreconditionFailed"}, objstore.ClassOther, true},
		{answer{501, "NotImplemented"}, objstore.ClassConfig, false},
		{answer{503, "SlowDown"}, objstore.ClassSlowDown, false},
	} {
		now = test.answer
		err := store.Put(t.Context(), object("v1/dump/x", "a dump"))
		if got := objstore.Class(err); got != test.class || objstore.Particular(err) != test.particular {
			t.Errorf("%d %s: class %s, particular %t, want %s, %t: %v",
				now.status, now.code, got, objstore.Particular(err), test.class, test.particular, err)
		}
	}
	location = server.URL + "/elsewhere"
	now = answer{307, "TemporaryRedirect"}
	if err := store.Put(t.Context(), object("v1/dump/x", "a dump")); err == nil {
		t.Error("a PUT that goes round in circles succeeds")
	}
}

// What cannot be is said at the start, without a request.
func TestSettingsThatCannotBe(t *testing.T) {
	for _, name := range []string{
		"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE",
	} {
		t.Setenv(name, "")
	}
	none := t.TempDir() + "/none"
	t.Setenv("AWS_CONFIG_FILE", none)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", none)
	for name, test := range map[string]struct {
		change func(*objstore.Config)
		want   string // "" when it can be
	}{
		"as it is":                    {func(*objstore.Config) {}, ""},
		"AWS without a region":        {func(c *objstore.Config) { c.Endpoint, c.Region = "", "" }, "AWS_REGION is not set"},
		"AWS with a region":           {func(c *objstore.Config) { c.Endpoint = "" }, ""},
		"another store without":       {func(c *objstore.Config) { c.Region = "" }, ""},
		"no scheme":                   {func(c *objstore.Config) { c.Endpoint = "localhost:9000" }, "does not begin with https://"},
		"no host":                     {func(c *objstore.Config) { c.Endpoint = "http://:9000" }, "names no host"},
		"a query":                     {func(c *objstore.Config) { c.Endpoint = "http://s3.example.org/?x=y" }, "without a query"},
		"a password":                  {func(c *objstore.Config) { c.Endpoint = "http://u:secret@s3.example.org" }, "without a user"},
		"a path":                      {func(c *objstore.Config) { c.Endpoint = "http://s3.example.org/storage" }, ""},
		"no URL":                      {func(c *objstore.Config) { c.Endpoint = "http://[" }, "cannot be read"},
		"a short bucket":              {func(c *objstore.Config) { c.Bucket = "x" }, "3 to 255"},
		"an old bucket elsewhere":     {func(c *objstore.Config) { c.Bucket = "Crash_Reports" }, ""},
		"an old bucket at AWS":        {func(c *objstore.Config) { c.Bucket, c.Endpoint = "Crash_Reports", "" }, "lower-case"},
		"an old bucket as host name":  {func(c *objstore.Config) { c.Bucket, c.Addressing = "Crash_Reports", "virtual" }, "lower-case"},
		"a bucket with a slash":       {func(c *objstore.Config) { c.Bucket = "crashes/v1" }, "letters, digits"},
		"a bucket that is an address": {func(c *objstore.Config) { c.Bucket = "192.168.0.1" }, "IP address"},
		"two dots":                    {func(c *objstore.Config) { c.Bucket = "crash..es" }, "two dots"},
		"an access point": {func(c *objstore.Config) {
			c.Endpoint, c.Bucket = "", "arn:aws:s3:eu-west-1:123456789012:accesspoint/crashes"
		}, ""},
	} {
		cfg := config()
		test.change(&cfg)
		_, err := objstore.New(t.Context(), cfg)
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: %v, want an error with %q", name, err, test.want)
		case err != nil && strings.Contains(err.Error(), "secret"):
			t.Errorf("%s: the error shows a password", name)
		}
	}
}
