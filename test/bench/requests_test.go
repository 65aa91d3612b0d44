package main

import (
	"io"
	"maps"
	"testing"

	. "github.com/onsi/gomega"
)

// inBudget is what the manager asks for ten jobs when all is well.
var inBudget = audited{
	"hub patch pooledjobs": 20, "hub patch pooledjobs/status": 20,
	"target create jobs": 10, "target delete jobs": 10, "target get jobs": 10,
}

func TestTheBudgetIsKept(t *testing.T) {
	for name, test := range map[string]struct {
		change map[string]int
		fails  bool
	}{
		"all is well":                           {},
		"a few Pods are slow":                   {change: map[string]int{"hub patch pooledjobs/status": 2, "target list pods": 1}},
		"each job costs a status more":          {change: map[string]int{"hub patch pooledjobs/status": 10}, fails: true},
		"a job has no intent":                   {change: map[string]int{"hub patch pooledjobs": -1}, fails: true},
		"two Jobs were asked for of one":        {change: map[string]int{"target create jobs": 1}, fails: true},
		"each job is read":                      {change: map[string]int{"hub get pooledjobs": 10}, fails: true},
		"nothing was counted at all":            {change: negative(inBudget), fails: true},
		"each Pod is looked for":                {change: map[string]int{"target list pods": 10}, fails: true},
		"something else is written for one job": {change: map[string]int{"target patch jobs": 1}, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			counted := maps.Clone(inBudget)
			for kind, n := range test.change {
				counted[kind] += n
			}
			b := &bench{results: &Results{}, out: io.Discard}
			b.addRequests(counted, 10)
			expected := BeEmpty()
			if test.fails {
				expected = Not(expected)
			}
			NewWithT(t).Expect(b.results.Violations).To(expected)
		})
	}
}

func negative(counted audited) map[string]int {
	less := map[string]int{}
	for kind, n := range counted {
		less[kind] = -n
	}
	return less
}

func TestWritesAreThoseThatChangeSomething(t *testing.T) {
	counted := audited{"hub patch pooledjobs": 2, "hub get pooledjobs": 5, "target create jobs": 1, "target list pods": 3}
	NewWithT(t).Expect(counted.writes()).To(Equal(3))
}

func TestWhatIsNoNumberFailsTheRun(t *testing.T) {
	g, r := NewWithT(t), &Results{}
	zero := 0.0
	r.add("s", "n", "v", "u", 1/zero)
	r.add("s", "n", "v", "u", zero/zero)
	r.add("s", "n", "v", "u", 1)
	g.Expect(r.Violations).To(HaveLen(2))
}
