package queuestatus

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"
)

// varz is the part of a server's /varz that tells how JetStream syncs (its
// /jsz has the same, but not the server's name). nats-server leaves sync_always
// out when it is false, and always has a sync_interval, by default of two
// minutes (server/jetstream.go, JetStreamConfig): with neither it does not tell.
type varz struct {
	ServerName string `json:"server_name"`
	JetStream  struct {
		Config struct {
			SyncAlways   bool          `json:"sync_always"`
			SyncInterval time.Duration `json:"sync_interval"` // in nanoseconds
		} `json:"config"`
	} `json:"jetstream"`
}

// readSyncs returns what it could not find out.
func (s *Status) readSyncs(ctx context.Context, monitors []string) []error {
	s.Sync = make([]Sync, len(monitors))
	return each(len(monitors), func(i int) (err error) {
		if s.Sync[i], err = readSync(ctx, monitors[i]); err != nil {
			return fmt.Errorf("how the server at %s syncs: %w", s.Sync[i].Address, because(ctx, err))
		}
		return nil
	})
}

// readSync asks a monitoring address. With an error the mode is unknown.
func readSync(ctx context.Context, monitor string) (Sync, error) {
	out := Sync{Mode: SyncUnknown}
	address, err := url.Parse(monitor)
	if err != nil {
		return out, errors.New("its monitoring address is not a URL")
	}
	out.Address = address.Host
	var page varz
	if err := readJSON(ctx, address.JoinPath("varz"), &page); err != nil {
		return out, err
	}
	out.Server = page.ServerName
	switch js := page.JetStream.Config; {
	case js.SyncAlways:
		out.Mode = SyncAlways
	case js.SyncInterval > 0:
		out.Mode, out.IntervalSeconds = SyncInterval, seconds(js.SyncInterval)
	default:
		return out, errors.New("it does not say (is JetStream enabled there?)")
	}
	return out, nil
}
