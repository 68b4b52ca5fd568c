// Package objstore puts objects into an S3 bucket, and hashes nothing.
//
// An object comes with the SHA-256 that was taken as its bytes arrived at
// intake. That digest is sent as the object's checksum and signed as the
// payload's hash, so that the store refuses bytes which changed on the way, in
// the queue as well as on the wire. Each object is one plain PutObject: it is
// there whole or not at all, and putting it again writes the same again.
package objstore

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/middleware"
	"github.com/rs/zerolog"

	"github.com/yagi-crash/yagi/pkg/crash"
	"github.com/yagi-crash/yagi/pkg/layout"
)

// Config says which bucket, and how to reach it. What is empty here, the AWS
// SDK finds by itself: in AWS_* variables, in the shared files, in the pod's or
// the machine's role.
type Config struct {
	Bucket string
	// Endpoint is the URL of a store that is not AWS.
	Endpoint string
	Region   string
	// AccessKey and SecretKey are used together, or not at all.
	AccessKey, SecretKey string
	// Addressing is one of AddressAuto (and empty), AddressPath and AddressVirtual.
	Addressing string
	// Checksum is ChecksumSHA256 (and empty) or ChecksumNone.
	Checksum string
	// SSE, KMSKey, ACL and StorageClass are sent with each object as they are; empty
	// ones are not.
	SSE, KMSKey, ACL, StorageClass string
	// PutTimeout is how long a Put may go without progress; for an object of no
	// size that is all of it, its second attempt included.
	PutTimeout time.Duration
	// HeaderTimeout is how long the store may take to begin its answer; 0 means as
	// long as the context.
	HeaderTimeout time.Duration
	// Attempts is how often a request is made at most; 0 means twice.
	Attempts int
	// Concurrency is how many Puts run at a time; as many connections are kept.
	Concurrency int
	// Log gets the SDK's warnings.
	Log zerolog.Logger
}

// minRate is how fast an object has to go on the whole, in bytes a second.
const minRate = 64 << 10

// Store is a bucket. Its methods may be called from any number of goroutines.
type Store struct {
	cfg      Config
	instance string                 // names the object that Probe puts
	control  atomic.Pointer[string] // names the objects that Control puts
	http     *awshttp.BuildableClient
	client   atomic.Pointer[s3.Client]
	evidence *evidence

	// noExpect is true once an Expect: 100-continue was refused (417).
	noExpect atomic.Bool
}

// New returns the store without calling it: a store that is away is for Put and
// Probe to report. The error is Client's.
func New(ctx context.Context, cfg Config) (*Store, error) {
	s := &Store{cfg: cfg, instance: newInstance(), http: httpClient(cfg), evidence: newEvidence()}
	s.control.Store(&s.instance)
	return s, s.load(ctx)
}

// load reads the settings, again if need be: the SDK keeps the keys of a shared
// file as it found them.
func (s *Store) load(ctx context.Context) error {
	client, err := newClient(ctx, s.cfg, s.http)
	if err == nil {
		s.client.Store(client)
	}
	return err
}

// Put returns nil once the object is in the bucket, byte for byte: also when the store
// refuses to overwrite it and it is the same. Class classifies the errors.
func (s *Store) Put(ctx context.Context, o layout.Object) error {
	err := s.put(ctx, o)
	switch {
	case err == nil:
		if o.Part.Name == crash.RawCrashName { // a whole report is
			s.evidence.stored.Store(time.Now().UnixNano())
		}
		return nil
	case ctx.Err() != nil:
		return err
	}
	if Particular(err) {
		if held, _ := s.Holds(ctx, o); held { // without that, the refusal stands
			return nil
		}
	}
	s.evidence.failed.Store(time.Now().UnixNano())
	return err
}

// put is Put without a second look at a refusal.
func (s *Store) put(outer context.Context, o layout.Object) error {
	ctx, body, stop := s.watch(outer, o.Part)
	defer stop()
	put, err := s.client.Load().PutObject(ctx, s.input(o, body), s.options(o.Part.SHA256))
	if statusOf(err) == http.StatusExpectationFailed && !s.noExpect.Swap(true) { // RFC 9110, section 10.1.1
		_, _ = body.Seek(0, io.SeekStart) // which a section of a part can
		put, err = s.client.Load().PutObject(ctx, s.input(o, body), s.options(o.Part.SHA256))
	}
	if err == nil && aws.ToString(put.ETag) == "" {
		err = errNoETag
	}
	if cause := context.Cause(ctx); err != nil && cause != nil && outer.Err() == nil {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	if err != nil {
		return fmt.Errorf("putting %s: %w%s", o.Key, err, hint(err))
	}
	return nil
}

func (s *Store) input(o layout.Object, body io.Reader) *s3.PutObjectInput {
	in := &s3.PutObjectInput{
		Bucket:               &s.cfg.Bucket,
		Key:                  &o.Key,
		Body:                 body,
		ContentType:          &o.ContentType,
		ServerSideEncryption: types.ServerSideEncryption(s.cfg.SSE),
		ACL:                  types.ObjectCannedACL(s.cfg.ACL),
		StorageClass:         types.StorageClass(s.cfg.StorageClass),
	}
	if s.cfg.KMSKey != "" {
		in.SSEKMSKeyId = &s.cfg.KMSKey
	}
	if s.cfg.Checksum != ChecksumNone {
		in.ChecksumSHA256 = aws.String(base64.StdEncoding.EncodeToString(o.Part.SHA256[:]))
	}
	return in
}

// options has the SDK sign sum as the hash of the payload. The SDK would otherwise read
// the body once more to hash it, or over TLS not sign it at all; either way the store
// could not tell that the body is not what intake received.
func (s *Store) options(sum crash.Digest) func(*s3.Options) {
	sign := middleware.InitializeMiddlewareFunc("SignGivenHash", func(
		ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler,
	) (middleware.InitializeOutput, middleware.Metadata, error) {
		return next.HandleInitialize(v4.SetPayloadHash(ctx, hex.EncodeToString(sum[:])), in)
	})
	return func(o *s3.Options) {
		o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
			return stack.Initialize.Add(sign, middleware.Before)
		})
		if s.noExpect.Load() {
			o.ContinueHeaderThresholdBytes = -1
		}
	}
}

// errNoETag means that it was not a store that answered 200, but something in front of
// it: a store names the object's ETag (Amazon S3 API Reference, PutObject).
var errNoETag = errors.New("the answer has no ETag")

// errSilent ends a Put that makes no progress, or takes too long.
type errSilent struct {
	did   string
	after time.Duration
}

func (e errSilent) Error() string { return fmt.Sprintf("the store %s for %v", e.did, e.after) }
func (e errSilent) Unwrap() error { return context.DeadlineExceeded }

// watch returns a part's body, and a context that ends when the store does not
// take it: with errSilent when nothing has been read of it for PutTimeout, since
// what the store does not take, the connection does not ask for; and in any case
// when all of it takes longer than minRate allows besides. Once the connection
// has everything, there is no telling how much of that is still on its way, and
// only the latter counts. The caller has to stop it.
func (s *Store) watch(ctx context.Context, part crash.Part) (context.Context, io.ReadSeeker, func()) {
	ctx, cancelAll := s.bound(ctx, part.Size)
	ctx, cancel := context.WithCancelCause(ctx)
	silence := time.AfterFunc(s.cfg.PutTimeout, func() { cancel(errSilent{"has taken nothing", s.cfg.PutTimeout}) })
	body := &watched{ReadSeeker: part.Reader(), read: func(all bool) {
		if silence.Stop(); !all {
			silence.Reset(s.cfg.PutTimeout)
		}
	}}
	return ctx, body, func() {
		silence.Stop()
		cancel(nil)
		cancelAll()
	}
}

// watched is a body that tells whenever it is read, and whether that was all.
type watched struct {
	io.ReadSeeker

	read func(all bool)
}

// Read implements io.Reader.
func (w *watched) Read(p []byte) (int, error) {
	n, err := w.ReadSeeker.Read(p)
	w.read(err != nil)
	return n, err
}
