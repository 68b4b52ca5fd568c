package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/yagi-crash/yagi/deploy/internal/queuestatus"
	"github.com/yagi-crash/yagi/pkg/devstack/devs3"
)

// The bucket is looked for with the variables that the uploader has, and its
// absence is something to attend to.
func TestStatusLooksForTheBucket(t *testing.T) {
	_, environ := applied(t)
	store, err := devs3.Start(t.Context(), devs3.Config{
		Addr: "127.0.0.1:0", Dir: t.TempDir(), AccessKey: "ops", SecretKey: "ops-secret", Buckets: []string{"crashes"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_ENDPOINT_URL_S3", store.Endpoint())
	t.Setenv("AWS_REGION", "us-east-1")
	t.Setenv("AWS_ACCESS_KEY_ID", "ops")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "ops-secret")

	requireWords(t, crashctl(t, environ, "status").out, "bucket        not looked for (S3_BUCKET is not set)\n")
	got := crashctl(t, append(environ, "S3_BUCKET=crashes"), "status")
	requireWords(t, got.out, "bucket        crashes present\n", "\nall is well that was looked at; what is unknown was not\n")
	if got.code != 0 {
		t.Errorf("exit code %d with the bucket there", got.code)
	}
	requireBucketTrouble(t, append(environ, "S3_BUCKET=elsewhere"), queuestatus.Missing, "there is no such bucket")
	t.Run("wrong key", func(t *testing.T) {
		t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong")
		requireBucketTrouble(t, append(environ, "S3_BUCKET=crashes"), queuestatus.Unknown, "the store refuses these credentials (403 SignatureDoesNotMatch)")
	})
	if err := store.Stop(); err != nil {
		t.Fatal(err)
	}
	requireBucketTrouble(t, append(environ, "S3_BUCKET=crashes"), queuestatus.Unknown, "dial tcp "+strings.TrimPrefix(store.Endpoint(), "http://")+": connect: connection refused")
}

func requireBucketTrouble(t *testing.T, environ []string, want queuestatus.State, why string) {
	t.Helper()
	got := crashctl(t, environ, "status", "--json")
	var s queuestatus.Status
	if err := json.Unmarshal([]byte(got.out), &s); err != nil {
		t.Fatal(err)
	}
	if got.code != exitTrouble || s.Bucket == nil || s.Bucket.State != want || !strings.HasPrefix(s.Bucket.Problem, why) || len(s.Attention) != 1 {
		t.Errorf("exit code %d, bucket %+v, attention %q, want 1 and %s", got.code, s.Bucket, s.Attention, want)
	}
}

// Who may not look at the bucket has learnt nothing bad of it.
func TestStatusOfABucketThatMayNotBeLookedAt(t *testing.T) {
	_, environ := applied(t)
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, "<Error><Code>AccessDenied</Code></Error>")
	}))
	defer store.Close()
	t.Setenv("AWS_ENDPOINT_URL_S3", store.URL)
	t.Setenv("AWS_REGION", "us-east-1")
	t.Setenv("AWS_ACCESS_KEY_ID", "ops")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "ops-secret")
	got := crashctl(t, append(environ, "S3_BUCKET=crashes"), "status")
	requireWords(t, got.out, "bucket        crashes unknown: these credentials may not look at it (s3:ListBucket)")
	if got.code != 0 {
		t.Errorf("exit code %d: %s", got.code, got.out)
	}
}
