package queue

import "testing"

func TestOlder(t *testing.T) {
	for version, want := range map[string]bool{
		"2.15.2": false, "2.15.3": false, "2.16.0": false, "3.0.0": false, "2.15.2-preview.1": false, "2.15.10": false,
		"2.15.1": true, "2.9.10": true, "2.14.9": true, "1.99.99": true, "": true, "nightly": true,
	} {
		if got := older(version, MinServerVersion); got != want {
			t.Errorf("%q is older than %s: %t, want %t", version, MinServerVersion, got, want)
		}
	}
}
