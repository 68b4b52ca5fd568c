package objstore

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// How a bucket is named in a request: Config.Addressing.
const (
	AddressAuto    = "auto"    // by path with an endpoint, else by host name
	AddressPath    = "path"    // https://host/bucket/key
	AddressVirtual = "virtual" // https://bucket.host/key
)

// What is sent of an object's digest: Config.Checksum.
const (
	ChecksumSHA256 = "sha256" // as its checksum, and as the payload hash that is signed
	ChecksumNone   = "none"   // as the payload hash alone
)

// check returns an error for each setting with which no request can succeed.
func check(cfg Config, o s3.Options) error {
	errs := []error{checkBucket(cfg.Bucket, o)}
	if o.Region == "" {
		errs = append(errs, errors.New("AWS_REGION is not set, and neither is AWS_ENDPOINT_URL_S3: the region of the bucket is needed to find it at AWS"))
	}
	if o.BaseEndpoint != nil {
		errs = append(errs, checkEndpoint(*o.BaseEndpoint))
	}
	return errors.Join(errs...)
}

// checkEndpoint does not repeat the endpoint, which may carry a password.
func checkEndpoint(endpoint string) error {
	u, err := url.Parse(endpoint)
	const want = "the endpoint (AWS_ENDPOINT_URL_S3) must be a URL such as https://s3.example.org, "
	switch {
	case err != nil:
		return errors.New(want + "and cannot be read as one")
	case u.Scheme != "http" && u.Scheme != "https":
		return errors.New(want + "and does not begin with https:// or http://")
	case u.Hostname() == "":
		return errors.New(want + "and names no host")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return errors.New(want + "without a query or a fragment")
	case u.User != nil:
		return errors.New(want + "without a user and a password: keys are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
	}
	return nil
}

const (
	// minBucket and maxBucket bound the length of a bucket's name at AWS.
	minBucket, maxBucket = 3, 63
	// maxOldBucket bounds it in stores that keep the rules of before 2018.
	maxOldBucket = 255
)

// checkBucket knows the rules of AWS ("General purpose bucket naming rules"). Where
// the name is part of a path, stores other than AWS may allow what AWS allowed before
// 2018.
func checkBucket(name string, o s3.Options) error {
	if strings.HasPrefix(name, "arn:") {
		return nil // of an access point; the SDK reads it
	}
	rule, most := `^[a-z0-9][a-z0-9.-]*[a-z0-9]$`, maxBucket
	what := "lower-case letters, digits, dots and hyphens, and must begin and end with a letter or a digit"
	if o.UsePathStyle && aws.ToString(o.BaseEndpoint) != "" {
		rule, most = `^[A-Za-z0-9][A-Za-z0-9._-]*$`, maxOldBucket
		what = "letters, digits, dots, hyphens and underscores, and must begin with a letter or a digit"
	}
	switch {
	case len(name) < minBucket || len(name) > most:
		return fmt.Errorf("S3_BUCKET: %q has %d characters, and a bucket's name has %d to %d", name, len(name), minBucket, most)
	case !regexp.MustCompile(rule).MatchString(name):
		return fmt.Errorf("S3_BUCKET: %q is not the name of a bucket, which has only %s", name, what)
	case strings.Contains(name, ".."):
		return fmt.Errorf("S3_BUCKET: %q is not the name of a bucket, which has no two dots in a row", name)
	case net.ParseIP(name) != nil:
		return fmt.Errorf("S3_BUCKET: %q is an IP address, and not the name of a bucket", name)
	}
	return nil
}
