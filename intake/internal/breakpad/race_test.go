//go:build race

package breakpad

const (
	// instrumented is how many times slower the race detector makes Go code than assembly,
	// which it leaves alone.
	instrumented = 20
	// smaller is by how much hostile bodies are smaller then.
	smaller = 8
)
