package intake_test

import (
	"strings"
	"testing"

	"github.com/yagi-crash/yagi/intake"
)

// Reports are taken on every path of the setting, however a client writes it, and
// on no other.
func TestSubmitPaths(t *testing.T) {
	t.Parallel()
	q := startQueue(t)
	i := startIntake(t, q.url, "INTAKE_SUBMIT_PATHS=/submit,/api/*/minidump/,/crashreports/")
	on := func(target string) answer {
		c := i.dial(t)
		c.send(strings.Replace(whole(report()), "/submit", target, 1))
		return c.answer()
	}
	accepted := []string{
		"/submit", "/submit/", "//submit", "//submit//?a=b", "/%73ubmit", "http://elsewhere/submit",
		"/api/42/minidump/?sentry_key=x", "/api/42/minidump", "/api//42/minidump", "/api/4%32/minidump/", "/crashreports",
	}
	for _, target := range accepted {
		crashID(t, on(target))
	}
	for _, target := range []string{
		"/api/minidump/", "/api//minidump/", "/api/1/2/minidump/", "/api/1%2F2/minidump/", "/api/42/minidump/x", "/x/api/42/minidump/", "/Submit", "/submit/x", "/",
		"/api/../submit", "/api/../minidump", "/api/./minidump", "/submit;x", "*",
	} {
		if a := on(target); a.status != 404 && target != "*" || a.status >= 500 || a.status < 400 {
			t.Errorf("%s: answered %d %q", target, a.status, a.body)
		}
	}
	if got := len(q.stored(t)); got != len(accepted) {
		t.Errorf("%d reports in the stream, want %d", got, len(accepted))
	}
	if log := i.log.String(); strings.Contains(log, "minidump/") || strings.Contains(log, "42") && strings.Contains(log, "api") {
		t.Errorf("the log has a path:\n%s", log)
	}
}

// Health checks come first, whatever the patterns.
func TestSubmitPathOfOneSegment(t *testing.T) {
	t.Parallel()
	i := startIntake(t, startQueue(t).url, "INTAKE_SUBMIT_PATHS=/*,/")
	for path, want := range map[string]int{"/__lbheartbeat__": 200, "/__version__": 200, "/x": 405, "/": 405} {
		if status, _ := get(t, "http://"+i.addr+path); status != want {
			t.Errorf("%s: answered %d, want %d", path, status, want)
		}
	}
	c := i.dial(t)
	c.send(strings.Replace(whole(report()), "/submit", "/", 1))
	crashID(t, c.answer())
}

func TestBadSubmitPathsAreRefused(t *testing.T) {
	t.Parallel()
	for setting, want := range map[string]string{
		"submit":                         `"submit" does not begin with /`,
		"/a,,/b":                         `"" does not begin with /`,
		"/a?b":                           "? or #",
		"/a#b":                           "? or #",
		"/%73ubmit":                      "percent",
		"/a b":                           "printable",
		"/a\x01":                         "control character",
		"/api/a*/x":                      "whole segment",
		"/api/**":                        "whole segment",
		"/a/../b":                        ". or .. as a segment",
		"/./b":                           ". or .. as a segment",
		"/__heartbeat__":                 "Dockerflow",
		"/__broken__/":                   "Dockerflow",
		"/submit,/x,//submit/":           "twice",
		strings.Repeat("/a,", 40) + "/b": "at most 32",
		"/" + strings.Repeat("a", 1100):  "at most 1024",
	} {
		_, err := intake.Load([]string{"NATS_URL=nats://127.0.0.1", "INTAKE_SUBMIT_PATHS=" + setting})
		if err == nil || !strings.Contains(err.Error(), "INTAKE_SUBMIT_PATHS: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want an error with %q", setting, err, want)
		}
	}
	_, err := intake.Load([]string{"NATS_URL=nats://127.0.0.1", "INTAKE_SUBMIT_PATHS=a,/b?,/__version__"})
	if err == nil || strings.Count(err.Error(), "INTAKE_SUBMIT_PATHS: ") != 3 {
		t.Errorf("%v, want every problem", err)
	}
}
