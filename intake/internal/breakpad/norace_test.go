//go:build !race

package breakpad

const instrumented, smaller = 1, 1
