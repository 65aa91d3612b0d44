package hubcache

import (
	"testing"

	. "github.com/onsi/gomega"
	toolscache "k8s.io/client-go/tools/cache"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

func TestPooledJobsAreCountedByConnection(t *testing.T) {
	g, tally := NewWithT(t), &Tally{hubID: "hub", counts: map[string]int{}}
	at := func(cluster string) *v1alpha1.PooledJob {
		return &v1alpha1.PooledJob{Spec: v1alpha1.PooledJobSpec{ClusterName: cluster}}
	}
	for _, cluster := range []string{"a", "a", "b", ""} {
		tally.add(at(cluster), 1)
	}
	expect := func(all, a, b int) {
		g.Expect([]int{tally.Of(""), tally.Of("a"), tally.Of("b")}).To(Equal([]int{all, a, b}))
	}
	expect(4, 2, 1)
	tally.move(at("a"), at("b"))
	tally.move(at(""), at("b"))
	tally.move(at("b"), at("b"))
	expect(4, 1, 3)
	tally.add(toolscache.DeletedFinalStateUnknown{Obj: at("a")}, -1)
	tally.add(at("b"), -1)
	expect(2, 0, 2)
	g.Expect(tally.counts).To(HaveLen(1), "a connection without PooledJobs is kept")
}
