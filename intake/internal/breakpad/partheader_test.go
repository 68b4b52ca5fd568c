package breakpad

import (
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Names in the spelling of RFC 8187 are read, though RFC 7578 forbids them.
func TestExtendedNames(t *testing.T) {
	const told = "part that is named by name* instead of name"
	for name, c := range map[string]struct {
		disposition string
		want        got
	}{
		"decoded":            {`name*=UTF-8'de'K%C3%B6ln%2b`, got{Annotations: map[string]string{"Köln+": `"1"`}, Notes: []string{told}}},
		"another charset":    {`name*=iso-8859-1''K%F6ln`, got{Annotations: map[string]string{"Köln": `"1"`}, Notes: []string{told}}},
		"the plain one wins": {`name*=utf-8''x; name=y`, got{Annotations: map[string]string{"y": `"1"`}}},
		"no charset":         {`name*=x`, got{Notes: []string{told}}},
		"a charset too few":  {`name*=''x`, got{Notes: []string{told}}},
		"a bad escape":       {`name*=utf-8''%fx`, got{Notes: []string{told}}},
		"not in its charset": {`name*=utf-8''%ff`, got{Annotations: map[string]string{"\uFFFD": `"1"`}, Notes: []string{told, "part whose name is not UTF-8: \uFFFD"}}},
		"a file name makes it a file": {`name=log; filename*=utf-8''log.txt`, got{
			Dumps: map[string]string{"log": "1"}, Notes: []string{"unknown content type: log text/plain"},
		}},
	} {
		body := field("a", "1") + lines("--B", "Content-Disposition: form-data; "+c.disposition, "", "1", "") + end
		report, err := parse(request(formData, "", strings.NewReader(body), -1), DefaultLimits())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want := got{Annotations: map[string]string{"a": `"1"`}, Dumps: map[string]string{}, Notes: c.want.Notes, Payload: "multipart"}
		maps.Copy(want.Annotations, c.want.Annotations)
		maps.Copy(want.Dumps, c.want.Dumps)
		if diff := cmp.Diff(want, flat(report)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
