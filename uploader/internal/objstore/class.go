package objstore

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"syscall"

	"github.com/aws/smithy-go"
)

// What an error of a Store is about (Class). The list is closed: metrics count
// by it.
const (
	ClassUnreachable  = "unreachable"    // no connection, or it broke
	ClassTimeout      = "timeout"        // no answer in time
	ClassDenied       = "denied"         // credentials or permissions
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
		ClassUnreachable, ClassTimeout, ClassDenied, ClassNoSuchBucket,
		ClassSlowDown, ClassDigest, ClassTooLarge, ClassNoRoom, ClassRefused, Class5xx, ClassOther,
	}
}

// Class says what an error of a Store is about. The store's own word comes
// first (https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html),
// then the status, which is all that a HEAD gets, then the connection.
func Class(err error) string {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		if class := classOfCode(api.ErrorCode()); class != "" {
			return class
		}
	}
	if class := classOfStatus(statusOf(err)); class != "" {
		return class
	}
	return classOfConnection(err)
}

// codeNoSuchBucket is how S3 tells a missing bucket from a missing object.
const codeNoSuchBucket = "NoSuchBucket"

func classOfCode(code string) string {
	switch code {
	case "BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch":
		return ClassDigest
	case "ExpiredToken", "InvalidToken", "TokenRefreshRequired", "AuthorizationHeaderMalformed", // with status 400
		"XAdminUserNotFound": // versitygw, with status 404
		return ClassDenied
	case codeNoSuchBucket:
		return ClassNoSuchBucket
	case "SlowDown", "RequestLimitExceeded", "Throttling", "ThrottlingException", "TooManyRequests":
		return ClassSlowDown
	case "EntityTooLarge":
		return ClassTooLarge
	case "QuotaExceeded", "XMinioAdminBucketQuotaExceeded", "XMinioStorageFull": // Ceph and MinIO, with 403, 400 and 507
		return ClassNoRoom
	case "RequestTimeout":
		return ClassTimeout
	}
	return ""
}

func classOfStatus(status int) string {
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return ClassDenied
	case status == http.StatusNotFound:
		return ClassNoSuchBucket // the only thing that a PUT or a HEAD of the bucket can miss
	case status == http.StatusRequestEntityTooLarge:
		return ClassTooLarge
	case status == http.StatusInsufficientStorage:
		return ClassNoRoom
	case status == http.StatusTooManyRequests:
		return ClassSlowDown
	case status >= http.StatusInternalServerError:
		return Class5xx
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
