package queuestatus

import (
	"strings"
	"testing"
)

// having is what a server has: n1 leads and n2 has all of it.
func having(server string, messages, bytes, first, last uint64) copyOf {
	return copyOf{
		Copy:   Copy{Server: server, Leads: server == "n1", Messages: messages, Bytes: bytes, FirstSequence: first, LastSequence: last},
		leader: "n1", caughtUp: map[string]bool{"n2": true}, folder: "/data/" + server,
	}
}

func servers(all ...copyOf) map[string]copyOf {
	m := map[string]copyOf{}
	for _, c := range all {
		m[c.Server] = c
	}
	return m
}

// What one server had in both looks and the other had in neither is lost; what
// goes through the servers one after the other is not.
func TestLosses(t *testing.T) {
	behind := having("n1", 50, 500, 1, 50)
	behind.caughtUp = map[string]bool{}
	elsewhere := having("n2", 40, 400, 1, 50)
	elsewhere.leader = "n3"
	for name, c := range map[string]struct {
		then, now [2]copyOf // n1 and n2
		want      string
	}{
		"the same": {
			[2]copyOf{having("n1", 50, 500, 1, 50), having("n2", 50, 500, 1, 50)},
			[2]copyOf{having("n1", 50, 500, 1, 50), having("n2", 50, 500, 1, 50)},
			"",
		},
		"empty, once purged and once new": {
			[2]copyOf{having("n1", 0, 0, 0, 0), having("n2", 0, 0, 1, 0)},
			[2]copyOf{having("n1", 0, 0, 0, 0), having("n2", 0, 0, 1, 0)},
			"",
		},
		"on the move, the replica asked before the leader": {
			[2]copyOf{having("n1", 50, 500, 11, 60), having("n2", 50, 500, 1, 50)},
			[2]copyOf{having("n1", 50, 500, 31, 80), having("n2", 50, 500, 21, 70)},
			"",
		},
		"on the move, the leader asked before the replica": {
			[2]copyOf{having("n1", 50, 500, 1, 50), having("n2", 50, 500, 11, 60)},
			[2]copyOf{having("n1", 50, 500, 21, 70), having("n2", 50, 500, 31, 80)},
			"",
		},
		"on the move, and one in between is lost": {
			[2]copyOf{having("n1", 50, 500, 11, 60), having("n2", 49, 490, 1, 50)},
			[2]copyOf{having("n1", 50, 500, 31, 80), having("n2", 49, 490, 21, 70)},
			"server n2 has 39 messages and n1, its leader, 40 up to the same sequence: a replica has lost data",
		},
		"in between": {
			[2]copyOf{having("n1", 42, 420, 1, 42), having("n2", 41, 410, 1, 42)},
			[2]copyOf{having("n1", 42, 420, 1, 42), having("n2", 41, 410, 1, 42)},
			"server n2 has 41 messages and n1, its leader, 42 up to the same sequence: a replica has lost data; with the others up, stop n2, move /data/n2 away",
		},
		"in between, by the leader": {
			[2]copyOf{having("n1", 41, 410, 1, 42), having("n2", 42, 420, 1, 42)},
			[2]copyOf{having("n1", 41, 410, 1, 42), having("n2", 42, 420, 1, 42)},
			"server n1, its leader, has 41 messages and n2 42 up to the same sequence: the leader has lost data; with the others up, stop n1,",
		},
		"at the front": {
			[2]copyOf{having("n1", 50, 500, 1, 50), having("n2", 34, 340, 17, 50)},
			[2]copyOf{having("n1", 50, 500, 1, 50), having("n2", 34, 340, 17, 50)},
			"server n2 has 34 messages and n1, its leader, 50 up to the same sequence: a replica",
		},
		"at the front, by the leader": {
			[2]copyOf{having("n1", 34, 340, 17, 50), having("n2", 50, 500, 1, 50)},
			[2]copyOf{having("n1", 34, 340, 17, 50), having("n2", 50, 500, 1, 50)},
			"server n1, its leader, has 34 messages and n2 50 up to the same sequence: the leader",
		},
		"at the end": {
			[2]copyOf{having("n1", 50, 500, 1, 50), having("n2", 40, 400, 1, 40)},
			[2]copyOf{having("n1", 50, 500, 1, 50), having("n2", 40, 400, 1, 40)},
			"server n2 has messages up to sequence 40 and n1, its leader, up to 50: a replica",
		},
		"at the end, and it comes": {
			[2]copyOf{having("n1", 50, 500, 1, 50), having("n2", 40, 400, 1, 40)},
			[2]copyOf{having("n1", 50, 500, 1, 50), having("n2", 45, 450, 1, 45)},
			"",
		},
		"at the end, as the leader knows": {
			[2]copyOf{behind, having("n2", 40, 400, 1, 40)},
			[2]copyOf{behind, having("n2", 40, 400, 1, 40)},
			"",
		},
		"bytes": {
			[2]copyOf{having("n1", 50, 500, 1, 50), having("n2", 50, 490, 1, 50)},
			[2]copyOf{having("n1", 50, 500, 1, 50), having("n2", 50, 490, 1, 50)},
			"server n2 has 490 bytes and n1, its leader, 500 in the same messages: a replica",
		},
		"between elections": {
			[2]copyOf{having("n1", 50, 500, 1, 50), elsewhere},
			[2]copyOf{having("n1", 50, 500, 1, 50), elsewhere},
			"",
		},
	} {
		got := losses(servers(c.then[:]...), servers(c.now[:]...))
		switch {
		case c.want == "" && len(got) > 0:
			t.Errorf("%s: %v", name, got)
		case c.want != "" && (len(got) != 1 || !strings.HasPrefix(got[0].String(), c.want)):
			t.Errorf("%s: got %v, want %s...", name, got, c.want)
		}
	}
}
