package transport

// state is what a connection is doing. One whose state is below busy may be
// evicted.
type state int

const (
	fresh     state = iota // no byte has arrived
	head                   // a head is unfinished
	announced              // a head is there, and next to nothing of its body
	answered               // the answer is written, the request's body is not read to its end
	idle                   // kept alive, no byte of the next request has arrived
	busy                   // a request is in progress
	gone                   // closed, its slot given back
)

// String returns the state as the metrics have it.
func (s state) String() string {
	return [...]string{"fresh", "head", "announced", "answered", "idle", "busy", "gone"}[s]
}

// list is connections in the order in which they came to a state. A connection is
// in one list at most; being in it costs no allocation.
type list struct {
	first, last *Conn
	n           int
}

func (l *list) push(c *Conn) {
	c.prev, c.next = l.last, nil
	if l.last == nil {
		l.first = c
	} else {
		l.last.next = c
	}
	l.last = c
	l.n++
}

func (l *list) remove(c *Conn) {
	if c.prev == nil {
		l.first = c.next
	} else {
		c.prev.next = c.next
	}
	if c.next == nil {
		l.last = c.prev
	} else {
		c.next.prev = c.prev
	}
	c.prev, c.next = nil, nil
	l.n--
}
