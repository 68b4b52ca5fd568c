package queuestatus

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// servicePatience is how long an intake or an uploader may take to say how it is:
// longer than its heartbeat waits for those behind it (3 s), and shorter than a whole
// look, since one that hangs must not hold up those who watch.
const servicePatience = 4 * time.Second

// Service is what an intake or an uploader says of itself.
type Service struct {
	// Address is the host and port that were asked.
	Address string `json:"address"`
	// Trouble is what is wrong by its heartbeat, empty when all is well; null when
	// it did not say.
	Trouble []string `json:"trouble"`
	// Problem says why it did not say; empty when it did.
	Problem string `json:"problem"`
}

// readServices asks the intakes and the uploaders.
func (s *Status) readServices(ctx context.Context, q Question) {
	ctx, cancel := context.WithTimeoutCause(ctx, servicePatience, fmt.Errorf("no answer within %s", servicePatience))
	defer cancel()
	s.Intakes = make([]Service, len(q.Intakes))
	s.Uploaders = make([]Uploader, len(q.Uploaders))
	each(len(q.Intakes)+len(q.Uploaders), func(i int) error {
		if i < len(q.Intakes) {
			s.Intakes[i].read(ctx, q.Intakes[i], takesPosts)
		} else {
			i -= len(q.Intakes)
			u := &s.Uploaders[i]
			u.read(ctx, q.Uploaders[i], u.readGauges)
		}
		return nil
	})
}

// read asks a service: first what only one of its kind answers, then how it is.
func (s *Service) read(ctx context.Context, service string, first func(context.Context, *url.URL) error) {
	address, err := url.Parse(service)
	if err != nil {
		s.Problem = "its address is not a URL" // without it: it may carry a password
		return
	}
	s.Address = address.Host
	if err = first(ctx, address); err == nil {
		s.Trouble, err = readHeartbeat(ctx, address)
	}
	if err != nil {
		s.Problem = because(ctx, err).Error()
	}
}

// takesPosts tells an intake from an uploader, whose heartbeat looks the same, and from
// an intake's admin address. Which paths reports are posted to is a setting of its own.
func takesPosts(ctx context.Context, intake *url.URL) error {
	res, err := get(ctx, intake.JoinPath("metrics"))
	if err != nil {
		return err
	}
	if res.Body.Close(); res.StatusCode != http.StatusNotFound && res.StatusCode != http.StatusMethodNotAllowed {
		return fmt.Errorf("its /metrics answers %s, and an intake has none where it takes reports", res.Status)
	}
	return nil
}

// readHeartbeat returns what is wrong by the heartbeat of a service, empty and not
// nil when nothing is.
func readHeartbeat(ctx context.Context, service *url.URL) ([]string, error) {
	var page struct { // package dockerflow writes it
		Errors []struct {
			Name string `json:"name"`
			Msg  string `json:"msg"`
		} `json:"errors"`
	}
	if err := readJSON(ctx, service.JoinPath("__heartbeat__"), &page, http.StatusServiceUnavailable); err != nil {
		return nil, err
	}
	if page.Errors == nil {
		return nil, errors.New("its /__heartbeat__ is not that of a Yagi")
	}
	trouble := []string{}
	for _, e := range page.Errors {
		trouble = append(trouble, e.Name+": "+e.Msg)
	}
	return trouble, nil
}

func (s *Service) attention(kind string) []string {
	var all []string
	for _, t := range s.Trouble {
		all = append(all, fmt.Sprintf("%s %s: %s", kind, s.Address, t))
	}
	if s.Problem != "" {
		all = append(all, fmt.Sprintf("%s %s does not say how it is: %s", kind, s.Address, s.Problem))
	}
	return all
}
