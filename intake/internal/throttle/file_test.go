package throttle_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/yagi-crash/yagi/intake/internal/throttle"
)

// wrongRules has one of everything that can be wrong.
const wrongRules = `products: Firefox
aliasses: {}
aliases:
  ProductName: [prod]
  ProductName: [x]
rules:
  - name: is nightly
    when: text("a")
    verdict: accept
  - name: is_nightly
    when: >
      text("ReleaseChannel")
        startsWith "nightly" and
      tect("x") == "y"
    verdict: maybe
  - name: two
    when: 'text("a") == ''x'' and nope'
    verdict: accept
    sample: {percent: 101, below: accept}
  - name: two
    when: "text(\"a\") == \"é\" && nope"
    sample: {percent: x, below: accept, aboves: reject}
  - when: text("a") in 1..1000000000
    verdict: continue
  - name: plus
    when: text("a") +
      text("b") == "c"
    verdict: accept
  - name: pattern
    when: text("a") matches text("b")
    verdict: accept
  - name: empty
    when:
    verdict: accept
  - nonsense
  - name: loop
    when: 'all(products, # == "x")'
    verdict: accept
  - name: alias
    when: &x has("a")
    verdict: *x
`

// wrongPlaces is what is said about it.
const wrongPlaces = `rules.yaml:1:11: "Firefox" where a list should be
rules.yaml:2:1: unknown key aliasses: there are products, package_names, aliases, rules, limit
rules.yaml:5:3: key ProductName stands here twice
rules.yaml:7:11: rule #1: "is nightly" is no name: letters, digits and underscores make one, at most 100
rules.yaml:8:11: rule #1: expected bool, but got string
rules.yaml:14:7: rule is_nightly: unknown name tect
rules.yaml:15:14: rule is_nightly: "maybe" is no verdict: there are accept, defer, reject, fake_accept, continue
rules.yaml:16:5: rule two: the rule needs one of verdict and sample
rules.yaml:17:35: rule two: unknown name nope
rules.yaml:20:5: rule two: there is another rule of this name
rules.yaml:21:36: rule two: unknown name nope
rules.yaml:22:13: rule two: the sample has no above
rules.yaml:22:23: rule two: "x" where a number from 0 to 100 should be
rules.yaml:22:41: rule two: unknown key aboves: there are percent, below, above
rules.yaml:23:5: rule #5: the rule has no name
rules.yaml:23:25: rule #5: there are no ranges; compare with >= and <=
rules.yaml:26:21: rule plus: texts cannot be added
rules.yaml:30:29: rule pattern: the pattern of matches has to be written out
rules.yaml:33:10: rule empty: nothing where a text should be
rules.yaml:35:5: rule #9: "nonsense" where a mapping should be
rules.yaml:37:12: rule loop: there is no function all
rules.yaml:41:14: rule alias: an alias (*x) is no verdict: there are accept, defer, reject, fake_accept, continue`

// Everything that is wrong with a file is said at once, where it is.
func TestEveryProblemHasItsPlace(t *testing.T) {
	_, err := throttle.Parse("rules.yaml", []byte(wrongRules))
	if err == nil || err.Error() != wrongPlaces {
		t.Errorf("got\n%v\nwant\n%s", err, wrongPlaces)
	}
	if _, ok := errors.AsType[*throttle.FileError](err); !ok {
		t.Errorf("the error is a %T", err)
	}
}

// What is no rule file at all is refused, with the place where reading stopped.
func TestNotARuleFile(t *testing.T) {
	const end = "\n    verdict: accept\n"
	for file, want := range map[string]string{
		"":                                       "f:1:1: the file is empty",
		"# nothing":                              "f:1:1: the file is empty",
		"a: \xff":                                "f:1:1: the file is not UTF-8",
		"- a":                                    "f:1:1: a list where a mapping should be",
		"rules: 5":                               `f:1:8: "5" where a list should be`,
		"products: []":                           "f:1:1: there are no rules",
		"rules: []\n---\nrules: []":              "f:2:1: a second document is one too many",
		"rules:\n  - name: a\n   b: [\n":         "f:3:7: YAML: did not find expected '-' indicator",
		"rules:\n  - when: @x" + end:             "f:2:12: YAML: found character that cannot start any token",
		"rules:\n  - when: \"\\q\"" + end:        "f:2:14: YAML: found unknown escape character",
		"rules:\n\t- when: x":                    "f:2:4: YAML: found character that cannot start any token",
		"rules: " + strings.Repeat("[", 100_000): "exceeded max depth",
		"rules: [{name: a, when: \"" + strings.Repeat("(", 5000) + "\", verdict: accept}]":            "f:1:26: rule a: the condition is 5000 bytes long, at most 4096 are allowed",
		"rules: [{name: a, when: \"" + strings.Repeat("true and ", 300) + "true\", verdict: accept}]": "exceeds maximum allowed nodes",
		"rules: [" + strings.Repeat("{name: a, when: true, verdict: accept},", 1001) + "]":            "f:1:8: 1001 rules, at most 1000 are allowed",
		"rules:\r\n- name: a\r\n  when: >\r\n    has(\"a\") and\r\n    nope\r\n  verdict: accept\r\n": "f:5:5: rule a: unknown name nope",
		"limit: {key: a b, per_second: -1, burst: 0, verdict: continue}\nrules: []":                   "f:1:8: the limit's verdict is continue, it can be defer or reject\nf:1:14: \"a b\" is no name: letters, digits and underscores make one, at most 100\nf:1:31: \"-1\" where a number from 1e-06 to 1e+06 should be\nf:1:42: \"0\" where a number from 1 to 1e+06 should be",
		"rules:\r- name: a\r  when: nope\r  verdict: accept":                                          "f:3:9: rule a: unknown name nope",
		"limit: {key: \"\", per_second: 0, burst: 1, verdict: defer}\nrules: []":                      "f:1:14: the limit's key is empty\nf:1:30: \"0\" where a number from 1e-06 to 1e+06 should be",
		"limit: {key: a, burst: 1.5}\nrules: []":                                                      "f:1:8: the limit has no per_second\nf:1:8: the limit has no verdict\nf:1:24: \"1.5\" where a whole number should be",
		"limit: 5\nrules: []":                                                                         "f:1:8: \"5\" where a mapping should be",
		"limit: {key: a, per_second: 1, burst: 1, verdict: defer}\nrules: [{name: limit_a, when: true, verdict: accept}, {name: NO_MATCH, when: true, verdict: accept}]": "f:2:9: rule limit_a: this name is taken by what is not a rule\nf:2:55: rule NO_MATCH: this name",
	} {
		_, err := throttle.Parse("f", []byte(file))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: got %v, want %s", file, err, want)
		}
	}
}

// A file that does not decide on every report is taken, with a warning.
func TestWarnings(t *testing.T) {
	for rules, want := range map[string]string{
		"[]": "f:1:8: there are no rules, so that every report is rejected as NO_MATCH",
		`[{name: a, when: has("x"), verdict: accept}]`:                                                                            "f:1:9: rule a: this last rule does not decide on every report, so that some may be rejected as NO_MATCH",
		`[{name: a, when: true, sample: {percent: 5, below: accept, above: continue}}]`:                                           "f:1:9: rule a: this last rule does not decide on every report, so that some may be rejected as NO_MATCH",
		`[{name: a, when: true, verdict: accept}, {name: b, when: true, verdict: accept}]`:                                        "f:1:49: rule b: no report gets here, since rule a decides on all",
		`[{name: a, when: true, verdict: continue}, {name: b, when: " true ", verdict: reject}]`:                                  "",
		`[{name: a, when: has("x"), verdict: accept}, {name: b, when: true, sample: {percent: 5, below: accept, above: reject}}]`: "",
	} {
		got, err := throttle.Parse("f", []byte("rules: "+rules))
		if err != nil {
			t.Errorf("%s: %v", rules, err)
		} else if w := strings.Join(got.Warnings(), "; "); w != want {
			t.Errorf("%s: got %q, want %q", rules, w, want)
		}
	}
}

// What source means: a name, or a file.
func TestSources(t *testing.T) {
	for source, want := range map[string]string{
		"mozzila":   `no rule set named "mozzila": there are accept_all and mozilla`,
		"":          `no rule set named "": there are`,
		"none.yaml": "no such file",
		"./mozilla": "no such file",
	} {
		if _, err := throttle.Load(source); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", source, err, want)
		}
	}
	for _, source := range []string{throttle.AcceptAll, throttle.Mozilla} {
		if got := load(t, source).Warnings(); len(got) > 0 {
			t.Errorf("%s: %q", source, got)
		}
	}
}

// The example in the README is a rule file, and decides on every report.
func TestReadmeExample(t *testing.T) {
	readme, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(readme), "\n## Throttling\n")
	_, example, _ := strings.Cut(section, "```yaml\n")
	example, _, _ = strings.Cut(example, "```\n")
	rules, err := throttle.Parse("README.md", []byte(example))
	if err != nil {
		t.Fatal(err)
	}
	if w := rules.Warnings(); len(w) > 0 || len(rules.List()) < 5 {
		t.Errorf("%d rules, warnings %q", len(rules.List()), w)
	}
}
