package objstore

import (
	"errors"
	"net/http"
	"strings"

	"github.com/aws/smithy-go"
)

const (
	hintRegion       = "look at AWS_REGION and AWS_ENDPOINT_URL_S3"
	hintStorageClass = "look at S3_STORAGE_CLASS"
	hintACL          = "look at S3_ACL"
	hintSSE          = "look at S3_SSE"
	hintKMS          = "look at S3_SSE_KMS_KEY_ID and at who may use that key"
	hintChecksum     = "look at S3_CHECKSUM"
)

// hint returns what an operator may do about an error, in parentheses, and nothing when
// the error says it all.
func hint(err error) string {
	what := settingOf(err)
	switch status := statusOf(err); {
	case what != "":
	case isForeign(err):
		what = "the answer is not S3's: something in front of the store, or another server"
	case status == http.StatusMovedPermanently || status == http.StatusTemporaryRedirect || status == http.StatusPermanentRedirect:
		what = hintRegion
	case codeOf(err) == "RequestTimeTooSkewed":
		what = "this machine's clock differs from the store's"
	}
	if what == "" {
		return ""
	}
	return " (" + what + ")"
}

// settingOf returns which setting a refusal is about, and "" when it is about none that
// is known.
func settingOf(err error) string {
	switch code := codeOf(err); code {
	case "AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect", "Redirect",
		"IllegalLocationConstraintException", "IncorrectEndpoint", "InvalidRegionName":
		return hintRegion
	case "InvalidBucketName", "NoSuchAccessPoint", "InvalidAccessPoint":
		return "look at S3_BUCKET and S3_ADDRESSING_STYLE"
	case "InvalidStorageClass":
		return hintStorageClass
	case "AccessControlListNotSupported":
		return hintACL
	case "InvalidEncryptionAlgorithmError", "InvalidEncryptionMethod", "ServerSideEncryptionConfigurationNotFoundError", "EncryptionTypeMismatch":
		return hintSSE
	case "NotImplemented", "UnsupportedArgument":
		return "the store lacks what S3_CHECKSUM, S3_SSE, S3_ACL or S3_STORAGE_CLASS asks for"
	case "InvalidArgument", "InvalidRequest":
		return settingNamed(err)
	default:
		if strings.HasPrefix(code, "KMS.") {
			return hintKMS
		}
	}
	return ""
}

// settingNamed reads the message of a refusal whose code may be about anything: every
// object has the same of these headers.
func settingNamed(err error) string {
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return ""
	}
	message := strings.ToLower(api.ErrorMessage())
	for _, known := range []struct{ word, hint string }{
		{"x-amz-checksum", hintChecksum},
		{"x-amz-sdk-checksum", hintChecksum},
		{"x-amz-server-side-encryption", hintSSE},
		{"server side encryption", hintSSE},
		{"server-side encryption", hintSSE},
		{"x-amz-storage-class", hintStorageClass},
		{"storage class", hintStorageClass},
		{"x-amz-acl", hintACL},
		{"canned acl", hintACL},
	} {
		if strings.Contains(message, known.word) {
			return known.hint
		}
	}
	return ""
}
