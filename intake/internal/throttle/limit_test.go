package throttle_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/yagi-crash/yagi/intake/internal/throttle"
	"github.com/yagi-crash/yagi/pkg/crash"
)

const limited = `
aliases: {ProductName: [prod]}
limit: {key: ProductName, per_second: 2, burst: 3, verdict: defer}
rules:
  - {name: out, when: has("out"), verdict: reject}
  - {name: all, when: true, verdict: accept}
`

// clock is a time that tests set.
type clock struct{ time.Time }

func (c *clock) now() time.Time { return c.Time }

func limitedRules(t *testing.T, c *clock, options ...throttle.Option) *throttle.Rules {
	t.Helper()
	rules, err := throttle.Parse("f", []byte(limited), append(options, throttle.WithClock(c.now))...)
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

// judged is what becomes of so many reports.
func judged(rules *throttle.Rules, n int, pairs ...string) map[string]int {
	all := map[string]int{}
	for range n {
		all[rules.Judge(texts(pairs...)).Rule]++
	}
	return all
}

// Of each product so many are kept at once, and so many a second from then on.
// What the rules do not keep is not counted.
func TestLimit(t *testing.T) {
	tally := &counts{}
	c := &clock{time.Unix(1e9, 0)}
	rules := limitedRules(t, c, throttle.WithTally(tally))
	expect := func(want map[string]int, n int, pairs ...string) {
		t.Helper()
		if got := judged(rules, n, pairs...); !cmp.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	expect(map[string]int{"out": 10}, 10, "ProductName", "App", "out", "1")
	expect(map[string]int{"all": 3, "limit_ProductName": 1}, 4, "ProductName", "App")
	if got, want := rules.Judge(texts("ProductName", "App")), (throttle.Ruling{Outcome: crash.Defer, Rule: "limit_ProductName"}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if last := tally.verdict[len(tally.verdict)-1]; last != "limit_ProductName defer" {
		t.Errorf("counted %s", last)
	}
	expect(map[string]int{"all": 3, "limit_ProductName": 2}, 5, "prod", "Other")
	c.Time = c.Add(500 * time.Millisecond)
	expect(map[string]int{"all": 1, "limit_ProductName": 9}, 10, "ProductName", "App")
	c.Time = c.Add(time.Hour)
	expect(map[string]int{"all": 3, "limit_ProductName": 7}, 10, "ProductName", "App")

	// The same limit in a changed file goes on from there.
	rules = limitedRules(t, c, throttle.WithCountsOf(rules))
	expect(map[string]int{"limit_ProductName": 10}, 10, "ProductName", "App")
	if rules.Judge(texts("ProductName", "New")).Rule != "all" {
		t.Error("another product is beyond the limit")
	}
}

// However many values there are, memory is bounded: the one that was not seen for
// longest is forgotten.
func TestLimitForgetsTheOldest(t *testing.T) {
	rules := limitedRules(t, &clock{time.Unix(1e9, 0)})
	judged(rules, 4, "ProductName", "first")
	judged(rules, 4, "ProductName", "second")
	others := func(from, to int) {
		for n := from; n < to; n++ {
			judged(rules, 1, "ProductName", strconv.Itoa(n))
		}
	}
	others(0, 9_999)
	if got := judged(rules, 1, "ProductName", "second"); got["limit_ProductName"] != 1 {
		t.Error("one of 10,000 products is forgotten")
	}
	if got := judged(rules, 1, "ProductName", "first"); got["all"] != 1 {
		t.Error("10,001 products are known")
	}
	others(10_000, 19_990)
	if got := judged(rules, 1, "ProductName", "second"); got["limit_ProductName"] != 1 {
		t.Error("a product is forgotten that others were seen before")
	}
}

// Two sets of rules that are the same never differ, though both sample.
func TestJudgeBothDrawsOnce(t *testing.T) {
	parse := func(first string) *throttle.Rules {
		rules, err := throttle.Parse("f", []byte(`rules:
  - {name: `+first+`, when: true, sample: {percent: 50, below: continue, above: reject}}
  - {name: half, when: true, sample: {percent: 50, below: accept, above: reject}}`))
		if err != nil {
			t.Fatal(err)
		}
		return rules
	}
	live, same, other := parse("a"), parse("a"), parse("b")
	differ := 0
	for range 1000 {
		if ruling, shadow := throttle.JudgeBoth(live, same, nil); ruling != shadow {
			t.Fatalf("%v and %v", ruling, shadow)
		}
		if ruling, shadow := throttle.JudgeBoth(live, other, nil); ruling.Outcome != shadow.Outcome {
			differ++
		}
	}
	if differ == 0 {
		t.Error("rules of different names draw the same")
	}
}
