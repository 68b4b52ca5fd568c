package queuestatus

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/yagi-crash/yagi/pkg/queue"
)

// oldest returns when partition p's first report from a stream sequence on was
// stored. It asks the stream's leader (STREAM.MSG.GET): the client's own GetMsg
// would use Direct Get here, which any replica answers, also one that lags
// behind or has lost something.
func oldest(ctx context.Context, js jetstream.JetStream, p int, from uint64) (time.Time, error) {
	ask, err := json.Marshal(map[string]any{"seq": from, "next_by_subj": queue.ReadySubject(p)})
	if err != nil {
		return time.Time{}, fmt.Errorf("writing the question: %w", err)
	}
	answer, err := js.Conn().RequestWithContext(ctx, jetstream.DefaultAPIPrefix+"STREAM.MSG.GET."+queue.StreamName(p), ask)
	if err != nil {
		return time.Time{}, err
	}
	var found struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Time time.Time `json:"time"`
		} `json:"message"`
	}
	if err := json.Unmarshal(answer.Data, &found); err != nil {
		return time.Time{}, fmt.Errorf("reading the answer: %w", err)
	}
	if found.Error != nil {
		return time.Time{}, fmt.Errorf("from sequence %d on: %w", from, found.Error)
	}
	return found.Message.Time, nil
}
