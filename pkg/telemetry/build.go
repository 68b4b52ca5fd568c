package telemetry

import (
	"cmp"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Build says which code is running, in the fields of Dockerflow's version.json
// (https://github.com/mozilla-services/Dockerflow/blob/main/docs/version_object.md).
// A field is empty when nothing told.
type Build struct {
	// Source is the repository's URL.
	Source string `json:"source"`
	// Version is the release, such as "v1.2.0".
	Version string `json:"version"`
	// Commit is the full hash of the commit.
	Commit string `json:"commit"`
	// Build is the URL of the CI job that made the program.
	Build string `json:"build"`
}

// ReadBuild reads version.json beside the executable, where an image has it,
// and takes what that does not say from what the Go linker recorded.
func ReadBuild() Build {
	program, _ := os.Executable()
	linked, _ := debug.ReadBuildInfo()
	return readBuild(program, linked)
}

// readBuild makes do without the file, and without a linker's record (nil): a
// program must start whatever they say.
func readBuild(program string, linked *debug.BuildInfo) Build {
	var b Build
	text, err := os.ReadFile(filepath.Join(filepath.Dir(program), "version.json"))
	if err != nil || json.Unmarshal(text, &b) != nil {
		b = Build{}
	}
	b.Source = cmp.Or(b.Source, "https://github.com/yagi-crash/yagi")
	if linked == nil {
		return b
	}
	b.Version = cmp.Or(b.Version, linked.Main.Version)
	for _, s := range linked.Settings {
		if s.Key == "vcs.revision" {
			b.Commit = cmp.Or(b.Commit, s.Value)
		}
	}
	return b
}

// NewRegistry returns a metrics registry that holds the Go runtime, the
// process, and yagi_build_info.
func NewRegistry(build Build) *prometheus.Registry {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "yagi_build_info",
		Help:        "Always 1; its labels say which build is running.",
		ConstLabels: prometheus.Labels{"version": build.Version, "commit": build.Commit},
	})
	info.Set(1)
	reg := prometheus.NewRegistry()
	reg.MustRegister(
		info,
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return reg
}
