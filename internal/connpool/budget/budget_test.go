package budget

import (
	"runtime"
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"

	"github.com/pooledjob/pooledjob/internal/prune"
)

func TestPodsCountAsLongAsAnybodyHasThem(t *testing.T) {
	g, all := NewWithT(t), NewPoolForLogs(4<<20)
	line := NewForLogs(2<<20, all)
	pods := []*corev1.Pod{{}, {}}
	for _, pod := range pods {
		g.Expect(line.Take(pod, 1<<20, 1<<20)).To(Succeed())
	}
	more := &corev1.Pod{}
	g.Expect(line.Take(more, 1, 3<<20)).To(Satisfy(prune.ExceedsLimit))
	g.Expect(line.Take(more, 1, maxAdmitted)).To(Succeed(), "a run of a few Pods is read always")
	other := &corev1.Pod{}
	g.Expect(NewForLogs(2<<20, all).Take(other, 1<<20, 1<<20)).To(Succeed(), "another connection has a budget of its own")
	runtime.KeepAlive(pods)
	runtime.KeepAlive(more)
	g.Eventually(func() int64 {
		runtime.GC()
		return line.held.Load()
	}).Should(BeZero())
	g.Expect(all.held.Load()).To(BeEquivalentTo(1 << 20))
	runtime.KeepAlive(other)
}

func TestThePodsOfReadersOfManyConnectionsAreBounded(t *testing.T) {
	const most = 4 << 20
	g, all := NewWithT(t), NewPoolForLogs(most)
	all.interval = 0
	var held []*corev1.Pod
	take := func(line *Budget, size int) error {
		held = append(held, &corev1.Pod{})
		return line.Take(held[len(held)-1], size, size)
	}
	hostile, honest := NewForLogs(most, all), NewForLogs(most, all)
	g.Expect(take(hostile, most*3/4)).To(Succeed())
	g.Expect(take(honest, most/2)).To(Succeed(), "it has no more than an equal part")
	g.Expect(take(hostile, 1)).To(Satisfy(prune.ExceedsLimit), "also for a run of a few Pods")
	g.Expect(take(honest, 1)).To(Satisfy(prune.ExceedsLimit))
	for range 10 {
		g.Expect(take(NewForLogs(most, all), most/2)).To(Satisfy(prune.ExceedsLimit))
	}
	runtime.KeepAlive(held)
}

// newPart returns the budget of a connection with so many runs.
func newPart(most int, pool *Pool, runs *int64) *Budget {
	return New(most, pool, func() int64 { return *runs })
}

func TestABudgetGrowsWithTheRuns(t *testing.T) {
	const most = 1 << 20
	g, runs := NewWithT(t), int64(0)
	b := newPart(most, NewPool(most), &runs)
	b.Add(most + 2*memoryPerRun)
	g.Expect(b.Check()).To(Satisfy(prune.ExceedsLimit))
	runs = 2
	g.Expect(b.Check()).To(Succeed())
}

func TestAllConnectionsTogetherAreBounded(t *testing.T) {
	const most = 2 << 20
	g, all, none, runs := NewWithT(t), NewPool(most), int64(0), int64(1000)
	all.interval = 0
	given := make(map[int]error)
	hostile := make([]*Budget, poolFactor+1)
	for i := range hostile {
		hostile[i] = newPart(most, all, &none)
		hostile[i].Hold(i, func(why error) { given[i] = why })
		hostile[i].Add(most * 4 / 5)
		g.Expect(hostile[i].Check()).To(Succeed())
	}
	hostile[1].Add(1)
	honest := newPart(most, all, &runs)
	honest.Add(runs * memoryPerRun)
	g.Expect(honest.Check()).To(Succeed(), "what its runs account for takes nothing from others")
	g.Expect(given).To(BeEmpty())
	honest.Add(most / 5)
	g.Expect(honest.Check()).To(Succeed(), "another has more, although it says nothing")
	g.Expect(given).To(And(HaveLen(1), HaveKeyWithValue(1, Satisfy(prune.ExceedsLimit))))
	g.Expect(hostile[1].Check()).To(Satisfy(prune.ExceedsLimit), "what it still brings is refused")
	g.Expect(hostile[0].Check()).To(Succeed(), "one is enough")
	hostile[1].Add(-hostile[1].held.Load())
	hostile[1].Release(1)
	g.Expect(hostile[1].Check()).To(Succeed())
	hostile[1].Add(most)
	g.Expect(hostile[1].Check()).To(Satisfy(prune.ExceedsLimit), "it has the most again")
	g.Expect(honest.Check()).To(Succeed())
	all.leave(hostile[1])
	first, parts := all.largest()
	g.Expect(first).To(BeNil())
	g.Expect(parts).To(Equal(poolFactor + 1))
}
