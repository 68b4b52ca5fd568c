package submit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"syscall"
	"time"
)

// URL reads where reports are to be posted. One without a path means /submit.
func URL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("the URL is not one such as http://127.0.0.1:8000") // it may carry a password
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/submit"
	}
	return u, nil
}

// IsLoopback tells whether a URL leads to this machine and nowhere else.
func IsLoopback(u *url.URL) bool {
	addr, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && addr.IsLoopback()
}

// Client posts reports to one URL.
type Client struct {
	url  string
	http *http.Client
}

// NewClient returns a client that keeps at most so many connections. It speaks
// HTTP/1.1, as crash clients do, and goes through no proxy.
func NewClient(u *url.URL, connections int) *Client {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &Client{url: u.String(), http: &http.Client{
		// Crash clients take a redirect for a refusal.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			MaxConnsPerHost: connections, MaxIdleConnsPerHost: connections, Protocols: &protocols,
			IdleConnTimeout: time.Minute, DialContext: (&net.Dialer{}).DialContext,
		},
	}}
}

// Close ends the connections that are not in use.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Post posts a body, of which encoding is the Content-Encoding or empty. An
// error means that there was no answer. When Post returns nobody reads the body
// any more, so that it can be used for the next one.
func (c *Client) Post(ctx context.Context, body []byte, encoding string) (Answer, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, http.NoBody)
	if err != nil {
		return Answer{}, cause(err)
	}
	b := &shared{data: body}
	defer b.readers.Wait()
	r.Body, r.ContentLength = b.reader(), int64(len(body))
	r.GetBody = func() (io.ReadCloser, error) { return b.reader(), nil }
	r.Header.Set("Content-Type", ContentType)
	if encoding != "" {
		r.Header.Set("Content-Encoding", encoding)
	}
	response, err := c.http.Do(r)
	if err != nil {
		return Answer{}, cause(err)
	}
	defer response.Body.Close()
	const most = 4 << 10 // an answer has 50 bytes, but a proxy's page has more
	text, err := io.ReadAll(io.LimitReader(response.Body, most))
	if err != nil {
		return Answer{}, fmt.Errorf("reading the answer: %w", err)
	}
	return read(response.StatusCode, string(text)), nil
}

// cause is the error without the URL, which may carry a password.
func cause(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// shared is a body that net/http may still read from after it has returned an
// early answer; it closes every reader in the end.
type shared struct {
	data    []byte
	readers sync.WaitGroup
}

type reader struct {
	*bytes.Reader
	close func()
}

func (s *shared) reader() io.ReadCloser {
	s.readers.Add(1)
	return &reader{bytes.NewReader(s.data), sync.OnceFunc(s.readers.Done)}
}

func (r *reader) Close() error {
	r.close()
	return nil
}

// IsTimeout tells whether an error of Post means that the answer took too long.
func IsTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// Kind names an error of Post, without what differs from post to post.
func Kind(err error) string {
	var kind string
	switch {
	case IsTimeout(err):
		kind = "no answer in time"
	case errors.Is(err, syscall.ECONNREFUSED):
		kind = "connection refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		kind = "connection reset"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		kind = "connection closed without an answer"
	default:
		for inner := err; inner != nil; inner = errors.Unwrap(inner) {
			kind = inner.Error()
		}
	}
	return kind
}
