package objstore

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"syscall"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// What an error of a Store is about (Class). The list is closed: metrics count
// by it.
const (
	ClassUnreachable  = "unreachable"    // no connection, or it broke, or the body did not arrive whole
	ClassTimeout      = "timeout"        // no answer in time
	ClassProxy        = "proxy"          // an answer that is not S3's, below 500
	ClassDenied       = "denied"         // credentials or permissions
	ClassConfig       = "config"         // settings that this store, or this bucket, does not take
	ClassNoSuchBucket = "no_such_bucket" // the bucket does not exist
	ClassSlowDown     = "slow_down"      // the store asks for less
	ClassDigest       = "digest"         // the body is not what its SHA-256 says
	ClassTooLarge     = "too_large"      // for the store, or for what is before it
	ClassNoRoom       = "no_room"        // the store, or the bucket's quota, is full
	ClassRefused      = "refused"        // the store says that the request is wrong (400)
	Class5xx          = "5xx"            // the store's own trouble
	ClassOther        = "other"
)

// Classes lists every class.
func Classes() []string {
	return []string{
		ClassUnreachable, ClassTimeout, ClassProxy, ClassDenied, ClassConfig, ClassNoSuchBucket,
		ClassSlowDown, ClassDigest, ClassTooLarge, ClassNoRoom, ClassRefused, Class5xx, ClassOther,
	}
}

// Class says what an error of a Store is about. The store's own word comes
// first (https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html),
// then the status, which is all that a HEAD gets, then the connection.
func Class(err error) string {
	if class := classOfCode(codeOf(err)); class != "" {
		return class
	}
	if settingOf(err) != "" {
		return ClassConfig
	}
	if class := classOfStatus(statusOf(err), isForeign(err)); class != "" {
		return class
	}
	return classOfConnection(err)
}

// Particular reports whether the store answered, and what it refuses may be the one
// object that was put: its key, or its being there already. What is wrong with a
// connection, with a key, with the bucket, or with the settings is the trouble of all.
func Particular(err error) bool {
	switch codeOf(err) {
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "RequestTimeTooSkewed", "InvalidSecurity",
		"AllAccessDisabled", "AccountProblem", "NotSignedUp":
		return false // with status 403, as AccessDenied has
	}
	status := statusOf(err)
	if status < http.StatusBadRequest || status >= http.StatusInternalServerError {
		return false
	}
	switch Class(err) {
	case ClassDenied:
		return status != http.StatusBadRequest && status != http.StatusNotFound // codes about credentials
	case ClassRefused, ClassTooLarge, ClassNoRoom, ClassOther, ClassProxy:
		return true
	}
	return false
}

const (
	// codeNoSuchBucket is how S3 tells a missing bucket from a missing object.
	codeNoSuchBucket = "NoSuchBucket"
	// codeIncompleteBody means that the connection lost some of the body.
	codeIncompleteBody = "IncompleteBody"
)

// codeOf returns the code of the store's error document, and "" without one.
func codeOf(err error) string {
	if api, ok := errors.AsType[smithy.APIError](err); ok && !isForeign(err) {
		return api.ErrorCode()
	}
	return ""
}

// statusOf returns the HTTP status that an error is about, and 0 when nobody
// answered.
func statusOf(err error) int {
	if response, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		return response.HTTPStatusCode()
	}
	return 0
}

// isForeign reports whether the answer was not a store's.
func isForeign(err error) bool {
	response, ok := errors.AsType[*smithyhttp.ResponseError](err)
	return ok && response.Response != nil && response.Response.Header.Get(headerForeign) != ""
}

func classOfCode(code string) string {
	switch code {
	case "BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch":
		return ClassDigest
	case "ExpiredToken", "InvalidToken", "TokenRefreshRequired", // with status 400
		"XAdminUserNotFound": // versitygw, with status 404
		return ClassDenied
	case codeNoSuchBucket:
		return ClassNoSuchBucket
	case "NoSuchKey", "NoSuchUpload": // with status 404, to a PUT: a state of the store
		return ClassOther
	case "SlowDown", "RequestLimitExceeded", "Throttling", "ThrottlingException", "TooManyRequests", "KMS.ThrottlingException":
		return ClassSlowDown
	case "EntityTooLarge":
		return ClassTooLarge
	case "QuotaExceeded", "XMinioAdminBucketQuotaExceeded", "XMinioStorageFull": // Ceph and MinIO, with 403, 400 and 507
		return ClassNoRoom
	case "RequestTimeout":
		return ClassTimeout
	case codeIncompleteBody:
		return ClassUnreachable
	case "KMS.KMSInternalException", "KMS.DependencyTimeoutException", "KMS.KeyUnavailableException":
		return Class5xx
	}
	return ""
}

func classOfStatus(status int, foreign bool) string {
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return ClassDenied
	case status == http.StatusRequestEntityTooLarge:
		return ClassTooLarge
	case status == http.StatusInsufficientStorage:
		return ClassNoRoom
	case status == http.StatusTooManyRequests:
		return ClassSlowDown
	case status == http.StatusRequestTimeout:
		return ClassTimeout
	case status >= http.StatusInternalServerError:
		return Class5xx
	case status == http.StatusMovedPermanently || status == http.StatusTemporaryRedirect || status == http.StatusPermanentRedirect:
		return ClassConfig // another region's bucket, or http where https is wanted
	case status > 0 && foreign:
		return ClassProxy
	case status == http.StatusNotFound:
		return ClassNoSuchBucket // the only thing that a PUT or a HEAD of the bucket can miss
	case status == http.StatusBadRequest:
		return ClassRefused
	case status > http.StatusBadRequest: // 405, 409 and 412, for example: a state of the store
		return ClassOther
	}
	return ""
}

func classOfConnection(err error) string {
	if network, ok := errors.AsType[net.Error](err); errors.Is(err, context.DeadlineExceeded) || ok && network.Timeout() {
		return ClassTimeout
	}
	if _, ok := errors.AsType[*net.OpError](err); ok || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.EPIPE) {
		return ClassUnreachable
	}
	return ClassOther
}
