package objstore_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// fake is an S3 store in memory that speaks a dialect. It verifies signatures and
// payload hashes by itself.
type fake struct {
	*httptest.Server

	// records has the store keep and return the SHA-256 that a PUT names.
	records bool
	// once has it let nothing be overwritten: a PUT of a key that is there is
	// answered so.
	once *answer
	// hear is called before each request is dealt with, and answers it unless it
	// returns nil; it may be nil.
	hear func(*http.Request) *answer

	mu       sync.Mutex
	objects  map[string]stored
	requests []string // methods and paths, as they came
}

// stored is an object of the store.
type stored struct{ body, sum, kind string }

// answer is a refusal. Without a code it has no S3 document; behind the code may be
// a message.
type answer struct {
	status int
	code   string
}

// newFake starts a store, with change made to it before.
func newFake(t *testing.T, change func(*fake)) *fake {
	t.Helper()
	f := &fake{records: true, objects: map[string]stored{}}
	if change != nil {
		change(f)
	}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

// heard lists the requests that came since the last call.
func (f *fake) heard() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	heard := f.requests
	f.requests = nil
	return heard
}

// put has the store hold an object that somebody else put, with no checksum.
func (f *fake) put(key, body string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.objects[key] = stored{body: body}
}

// keys lists the keys of the store.
func (f *fake) keys() (keys []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for key := range f.objects {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, r.Method+" "+r.URL.Path)
	no := f.refuse(r, body)
	held, there := f.objects[key]
	switch {
	case no != nil:
	case bucket != "crashes":
		no = &answer{http.StatusNotFound, "NoSuchBucket"}
	case r.Method == http.MethodPut && there && f.once != nil:
		no = f.once
	case r.Method == http.MethodPut:
		o := stored{body: string(body), kind: r.Header.Get("Content-Type")}
		if f.records {
			o.sum = r.Header.Get("X-Amz-Checksum-Sha256")
		}
		f.objects[key] = o
		w.Header().Set("ETag", `"stored"`)
		return
	case key == "": // HEAD of the bucket
		return
	case !there:
		no = &answer{http.StatusNotFound, "NoSuchKey"}
	}
	if no != nil {
		w.WriteHeader(no.status)
		if r.Method != http.MethodHead {
			_, _ = io.WriteString(w, no.document())
		}
		return
	}
	if held.sum != "" && strings.EqualFold(r.Header.Get("X-Amz-Checksum-Mode"), "enabled") {
		w.Header().Set("X-Amz-Checksum-Sha256", held.sum)
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(held.body)))
	if r.Method == http.MethodGet {
		_, _ = io.WriteString(w, held.body)
	}
}

func (a *answer) document() string {
	if a.code == "" {
		return "<html><body>" + http.StatusText(a.status) + "</body></html>"
	}
	code, message, _ := strings.Cut(a.code, " ")
	return "<Error><Code>" + code + "</Code><Message>" + message + "</Message></Error>"
}

func (f *fake) refuse(r *http.Request, body []byte) *answer {
	if !signed(r, "test-secret") {
		return &answer{http.StatusForbidden, "SignatureDoesNotMatch"}
	}
	sum := sha256.Sum256(body)
	if r.Header.Get("X-Amz-Content-Sha256") != hex.EncodeToString(sum[:]) {
		return &answer{http.StatusBadRequest, "XAmzContentSHA256Mismatch"}
	}
	if given := r.Header.Get("X-Amz-Checksum-Sha256"); given != "" && given != base64.StdEncoding.EncodeToString(sum[:]) {
		return &answer{http.StatusBadRequest, "BadDigest"}
	}
	if f.hear != nil {
		return f.hear(r)
	}
	return nil
}

// signed reports whether a request carries the signature that the secret key gives
// (Amazon S3 API Reference, "Authenticating Requests: Using the Authorization Header").
func signed(r *http.Request, secret string) bool {
	fields := map[string]string{}
	for field := range strings.SplitSeq(strings.TrimPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 "), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		fields[name] = value
	}
	_, scope, _ := strings.Cut(fields["Credential"], "/")
	var headers strings.Builder
	for name := range strings.SplitSeq(fields["SignedHeaders"], ";") {
		value := strings.Join(r.Header.Values(name), ",")
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			value = strconv.FormatInt(r.ContentLength, 10)
		}
		headers.WriteString(name + ":" + strings.TrimSpace(value) + "\n")
	}
	query := strings.ReplaceAll(r.URL.Query().Encode(), "+", "%20")
	canonical := strings.Join([]string{
		r.Method, r.URL.EscapedPath(), query, headers.String(), fields["SignedHeaders"], r.Header.Get("X-Amz-Content-Sha256"),
	}, "\n")
	sum := sha256.Sum256([]byte(canonical))
	text := strings.Join([]string{"AWS4-HMAC-SHA256", r.Header.Get("X-Amz-Date"), scope, hex.EncodeToString(sum[:])}, "\n")
	key := []byte("AWS4" + secret)
	for part := range strings.SplitSeq(scope, "/") {
		key = mac(key, part)
	}
	return hex.EncodeToString(mac(key, text)) == fields["Signature"]
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
