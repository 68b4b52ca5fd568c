package queuestatus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"slices"
)

// pageLimit bounds what is read of a page, in bytes: /varz has 2.3 kB, and /jsz
// some 2 kB for each stream of the server.
const pageLimit = 16 << 20

// readPage asks for a page and hands what it says to read; with another status than
// 200 or those of also it says nothing.
func readPage(ctx context.Context, address *url.URL, read func(io.Reader) error, also ...int) error {
	res, err := get(ctx, address)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	name := path.Base(address.Path)
	if res.StatusCode != http.StatusOK && !slices.Contains(also, res.StatusCode) {
		return fmt.Errorf("its /%s answers %s", name, res.Status)
	}
	if err := read(io.LimitReader(res.Body, pageLimit)); err != nil {
		return fmt.Errorf("reading its /%s: %w", name, err)
	}
	return nil
}

// get asks for a page. Its body has to be closed.
func get(ctx context.Context, address *url.URL) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		// The outer error repeats the URL, which may carry a password.
		return nil, errors.Unwrap(err)
	}
	return res, nil
}

// readJSON is readPage for a page that is a JSON document.
func readJSON(ctx context.Context, address *url.URL, page any, also ...int) error {
	return readPage(ctx, address, func(r io.Reader) error { return json.NewDecoder(r).Decode(page) }, also...)
}
