package intake

import (
	"sync"

	"github.com/nats-io/nats.go/jetstream"
)

// tails knows the last message that each partition has acknowledged to this process, and
// so notices one that has lost what it had acknowledged: the sequences that it gives out
// go back. So it is with a disk that kept less than it said, or was restored from a copy;
// also with a stream that was made anew. The server does not notice it, and who reads
// the stream sees no gap.
type tails struct {
	mu sync.Mutex
	of map[int]tail
}

// tail is where a partition has come to.
type tail struct {
	sequence uint64
	returns  int // how often it has gone back
}

// now is asked before a message is sent to partition p.
func (t *tails) now(p int) tail {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.of[p]
}

// acknowledged is told of the ack of that message, and returns how many messages are
// lost: at the least, since others may have taken their places already. Of several
// messages whose acks show it, one is told.
func (t *tails) acknowledged(p int, before tail, ack *jetstream.PubAck) uint64 {
	if ack.Duplicate { // the sequence is that of the first one
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of == nil {
		t.of = map[int]tail{}
	}
	now := t.of[p]
	switch {
	case ack.Sequence > before.sequence && now.returns == before.returns:
		t.of[p] = tail{max(now.sequence, ack.Sequence), now.returns}
	case now.returns == before.returns:
		t.of[p] = tail{ack.Sequence, now.returns + 1}
		return before.sequence - ack.Sequence + 1
	}
	return 0
}
