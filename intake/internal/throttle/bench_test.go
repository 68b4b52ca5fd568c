package throttle_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/yagi-crash/yagi/intake/internal/throttle"
	"github.com/yagi-crash/yagi/pkg/crash"
)

// What judging a report of Firefox by the Mozilla rules costs: some 150
// annotations, among them a TelemetryEnvironment of 8 kB, which only the rule on
// ESR reads. The budget is 15 us a report, in a mix of which a tenth is ESR.
func BenchmarkMozilla(b *testing.B) {
	release, nightly, esr := firefox(b, "ReleaseChannel", "release"), firefox(b, "ReleaseChannel", "nightly"), firefox(b, "ReleaseChannel", "esr")
	for name, reports := range map[string][]crash.Annotations{
		"release": {release},
		"nightly": {nightly},
		"esr":     {esr},
		"mix":     {release, release, release, release, nightly, release, release, release, release, esr},
	} {
		b.Run(name, func(b *testing.B) {
			rules := load(b, throttle.Mozilla)
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				rules.Judge(reports[n%len(reports)])
			}
		})
	}
}

// firefox returns a report of a size that is usual for Firefox, with the
// annotations given.
func firefox(tb testing.TB, pairs ...string) crash.Annotations {
	tb.Helper()
	a := texts("ProductName", "Firefox", "BuildID", "20991231000000", "Version", "140.0", "ProcessType", "content", "Throttleable", "1")
	for i := range 145 {
		a[fmt.Sprintf("Annotation%d", i)] = crash.Text(strings.Repeat("x", i))
	}
	type object map[string]any
	addons := object{}
	for i := range 75 {
		addons[fmt.Sprintf("addon%d@mozilla.org", i)] = object{"version": "1.0.1", "isSystem": true, "updateDay": 20000 + i, "name": "An add-on"}
	}
	environment, err := json.Marshal(object{
		"addons": addons,
		"system": object{"memoryMB": 16000, "os": object{"name": "Windows_NT", "version": "10.0", "windowsBuildNumber": 19045}},
	})
	if err != nil {
		tb.Fatal(err)
	}
	a["TelemetryEnvironment"] = crash.Text(string(environment))
	maps.Copy(a, texts(pairs...))
	return a
}
