// Package testdata has structs as the programs have them.
package testdata

import "time"

type unrelated int

// Config is read by the test.
type Config struct {
	// Addr is where it listens, as host:port. A port alone
	// means every address.
	//
	// It may be <none> | "off" (/__x__).
	Addr string `env:"T_ADDR" envDefault:":8000"`
	// Wait bounds the wait.
	Wait time.Duration `json:"wait" env:"T_WAIT,expand"`
	// URL has no default.
	URL string `env:"T_URL,required,notEmpty"`

	// Queue is elsewhere.
	Queue struct{}
	Inner `envPrefix:"T_"`
	// untagged is not a setting.
	untagged, second unrelated
}

// Inner has a setting that nobody explained.
type Inner struct {
	Mute bool `env:"T_MUTE"`
}

// Empty has no settings.
type Empty struct{ A, B int }
