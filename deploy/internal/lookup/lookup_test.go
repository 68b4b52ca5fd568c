package lookup_test

import (
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/yagi-crash/yagi/deploy/internal/lookup"
	"github.com/yagi-crash/yagi/uploader"
)

// environment clears what the AWS SDK may find on this machine, and sets keys.
func environment(t *testing.T, endpoint string) {
	t.Helper()
	none := filepath.Join(t.TempDir(), "none")
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL_S3": endpoint, "AWS_REGION": "us-east-1",
		"AWS_ACCESS_KEY_ID": "ops", "AWS_SECRET_ACCESS_KEY": "ops-secret", "AWS_SESSION_TOKEN": "",
		"AWS_CONFIG_FILE": none, "AWS_SHARED_CREDENTIALS_FILE": none, "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CA_BUNDLE": "", "AWS_PROFILE": "", "AWS_ROLE_ARN": "", "AWS_WEB_IDENTITY_TOKEN_FILE": "",
	} {
		t.Setenv(name, value)
	}
}

func check(t *testing.T) error {
	t.Helper()
	b, err := lookup.Open(t.Context(), uploader.S3{}, "crashes", 1)
	if err != nil {
		t.Fatal(err)
	}
	return b.Check(t.Context())
}

// A refused HEAD has no body: what it means, a refused GET says.
func TestCheckSaysWhatARefusalMeans(t *testing.T) {
	for code, want := range map[string]struct {
		status int
		is     error
		words  string // "" when all is well
	}{
		"NoSuchKey":             {404, nil, ""},
		"AccessDenied":          {403, lookup.ErrMayNotLook, "s3:ListBucket"},
		"NoSuchBucket":          {404, lookup.ErrNoBucket, "no such bucket"},
		"InvalidAccessKeyId":    {403, nil, "the store refuses these credentials (403 InvalidAccessKeyId)"},
		"SignatureDoesNotMatch": {403, nil, "the store refuses these credentials (403 SignatureDoesNotMatch)"},
		"ExpiredToken":          {400, nil, "the store answers 400 ExpiredToken"},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodHead {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			w.WriteHeader(want.status)
			_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code><Message>no</Message></Error>", code)
		}))
		environment(t, server.URL)
		err := check(t)
		if want.words == "" && err != nil || want.words != "" && (err == nil || !strings.Contains(err.Error(), want.words)) {
			t.Errorf("%s: %v, want %q", code, err, want.words)
		}
		if want.is != nil && !errors.Is(err, want.is) {
			t.Errorf("%s: %v, want %v", code, err, want.is)
		}
		server.Close()
	}
}

// An endpoint that names the bucket is what hides it.
func TestBucketInTheEndpoint(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	for endpoint, named := range map[string]bool{server.URL + "/crashes": true, server.URL: false} {
		environment(t, endpoint)
		err := check(t)
		if !errors.Is(err, lookup.ErrNoBucket) || strings.Contains(err.Error(), "names the bucket already") != named {
			t.Errorf("%s: %v", endpoint, err)
		}
	}
}

// Readers have the uploaders' trust, addressing and rules.
func TestSettingsAreTheUploaders(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	environment(t, server.URL)
	if err := check(t); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without the bundle: %v", err)
	}
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(bundle, text, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CA_BUNDLE", bundle)
	if err := check(t); err != nil {
		t.Errorf("with the bundle: %v", err)
	}
	t.Setenv("AWS_ENDPOINT_URL_S3", "localhost:9000")
	if _, err := lookup.Open(t.Context(), uploader.S3{}, "crashes", 1); err == nil || !strings.Contains(err.Error(), "AWS_ENDPOINT_URL_S3") {
		t.Errorf("without a scheme: %v", err)
	}
}

// Credentials that are missing are told from a token that is.
func TestCredentials(t *testing.T) {
	environment(t, "http://127.0.0.1:1")
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	if err := check(t); err == nil || !strings.HasPrefix(err.Error(), "there are no credentials: ") {
		t.Errorf("without credentials: %v", err)
	}
	token := filepath.Join(t.TempDir(), "token")
	t.Setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/ops")
	t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", token)
	if err := check(t); err == nil || !strings.HasPrefix(err.Error(), "the credentials cannot be had: ") || !strings.Contains(err.Error(), token) {
		t.Errorf("without the token: %v", err)
	}
}
