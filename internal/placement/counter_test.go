package placement

import (
	"fmt"
	"math/rand/v2"
	"testing"

	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/types"
)

func TestPlaceChoosesTheConnectionWithTheFewestRuns(t *testing.T) {
	g, c := NewWithT(t), Counter{}
	all := []Candidate{{Name: "c"}, {Name: "b"}, {Name: "a"}, {Name: "0-closed", Closed: true}, {Name: "0-down", Unusable: "Unreachable"}}
	for run, want := range []string{"a", "b", "c", "a"} {
		g.Expect(c.Place(types.UID(fmt.Sprint(run)), all).Name).To(Equal(want))
	}
	g.Expect(c.Place("0", all).Name).To(Equal("b"), "it is counted on one only")
	g.Expect([]int{c.Runs("a"), c.Runs("b"), c.Runs("c")}).To(Equal([]int{1, 2, 1}))
}

// Whatever is placed, counted and forgotten in whatever order: the counts are those of the runs that
// are known, and each choice is one of the least.
func TestTheCountsAreThoseOfTheRuns(t *testing.T) {
	random, g := rand.New(rand.NewPCG(1, 2)), NewWithT(t)
	names := []string{"a", "b", "c"}
	var c Counter
	on := map[types.UID]string{}
	runs := func(connection string) (n int) {
		for _, other := range on {
			if other == connection {
				n++
			}
		}
		return n
	}
	for step := range 20_000 {
		run := types.UID(fmt.Sprint(random.IntN(40)))
		switch random.IntN(4) {
		case 0:
			got := c.Place(run, []Candidate{{Name: "a"}, {Name: "b"}, {Name: "c"}}).Name
			for _, other := range names {
				least := runs(other) < runs(got) || (runs(other) == runs(got) && other < got)
				g.Expect(least).To(BeFalse(), "step %d: placed on %s, and %s has %d", step, got, other, runs(other))
			}
			on[run] = got
		case 1:
			on[run] = names[random.IntN(len(names))]
			c.Count(run, on[run])
		default:
			c.Forget(run)
			delete(on, run)
		}
		for _, name := range names {
			g.Expect(c.Runs(name)).To(Equal(runs(name)), "step %d: %s", step, name)
		}
	}
}
