package connpool

import (
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"

	"github.com/pooledjob/pooledjob/internal/prune"
)

func kept(size int) prune.Kept { return prune.Kept{Size: size} }

func newPodList(t *testing.T, turn *largeTurn) *podList {
	return &podList{ctx: t.Context(), cancel: func(error) {}, turn: turn}
}

func TestAListOfPodsEndsAtItsLimits(t *testing.T) {
	g := NewWithT(t)
	many := newPodList(t, &largeTurn{pause: time.Minute})
	for range maxListed {
		g.Expect(many.add(kept(1))).To(Succeed())
	}
	g.Expect(many.add(kept(1))).To(MatchError(ErrTooManyPods))
	large := newPodList(t, &largeTurn{pause: time.Minute})
	defer large.done()
	g.Expect(large.add(kept(maxListedSize))).To(Succeed())
	g.Expect(large.add(kept(1))).To(MatchError(ErrTooManyPods))
}

func TestOneLargeListIsReadAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a, b := NewWithT(t), &largeTurn{pause: time.Minute}, &largeTurn{pause: time.Minute}
		first, second, other := newPodList(t, a), newPodList(t, a), newPodList(t, b)
		g.Expect(first.add(kept(maxSmallList + 1))).To(Succeed())
		g.Expect(first.add(kept(1))).To(Succeed())
		g.Expect(second.add(kept(maxSmallList))).To(Succeed(), "small ones are read always")
		g.Expect(second.add(kept(1))).To(MatchError(ErrListBusy), "of the same connection")
		waited := make(chan error, 1)
		go func() { waited <- other.add(kept(maxSmallList + 1)) }()
		synctest.Wait()
		g.Expect(waited).NotTo(Receive())
		first.done()
		synctest.Wait()
		g.Expect(waited).To(Receive(BeNil()))
		other.done()
		g.Expect(second.add(kept(1))).To(Succeed())
		second.done()
	})
}

func TestALargeListIsGivenUpAfterAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cause error
		list := newPodList(t, &largeTurn{pause: time.Minute})
		list.cancel = func(err error) { cause = err }
		NewWithT(t).Expect(list.add(kept(maxSmallList + 1))).To(Succeed())
		<-time.After(largeListTime)
		synctest.Wait()
		NewWithT(t).Expect(cause).To(MatchError(errSlowLarge))
		list.done()
		again := newPodList(t, list.turn)
		NewWithT(t).Expect(again.add(kept(maxSmallList+1))).To(MatchError(errSlowLarge), "its connection has lost its turn")
		<-time.After(list.turn.pause)
		NewWithT(t).Expect(again.add(kept(1))).To(Succeed())
		again.done()
	})
}

func TestPodsCountAsLongAsAnybodyHasThem(t *testing.T) {
	g, all, line := NewWithT(t), newStreamBudget(4<<20), newStreamBudget(2<<20)
	counted := budgets{line, all}
	pods := []*corev1.Pod{{}, {}}
	for _, pod := range pods {
		g.Expect(counted.take(pod, 1<<20, 1<<20)).To(Succeed())
	}
	more := &corev1.Pod{}
	g.Expect(counted.take(more, 1, 3<<20)).To(Satisfy(ExceedsLimit))
	g.Expect(counted.take(more, 1, maxAdmitted)).To(Succeed(), "a run of a few Pods is read always")
	other := &corev1.Pod{}
	g.Expect(budgets{newStreamBudget(2 << 20), all}.take(other, 1<<20, 1<<20)).To(Succeed(), "another connection has a budget of its own")
	runtime.KeepAlive(pods)
	runtime.KeepAlive(more)
	g.Eventually(func() int64 {
		runtime.GC()
		return line.held.Load()
	}).Should(BeZero())
	g.Expect(all.held.Load()).To(BeEquivalentTo(1 << 20))
	runtime.KeepAlive(other)
}

func TestARunWithManyObjectsIsToldOfAfterAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, told := NewWithT(t), 0
		news := newRunNews(t.Context(), func(string) { told++ })
		news.tell("a", fewObjects)
		news.tell("a", 1)
		g.Expect(told).To(Equal(2))
		for range 10 {
			news.tell("a", 100)
		}
		g.Expect(told).To(Equal(2))
		<-time.After(100 * pausePerObject)
		synctest.Wait()
		g.Expect(told).To(Equal(3))
		news.tell("a", 1_000_000)
		<-time.After(manyPause)
		synctest.Wait()
		g.Expect(told).To(Equal(4))
	})
}

func TestABudgetGrowsWithTheRuns(t *testing.T) {
	g := NewWithT(t)
	all := newPoolBudget(Options{MaxMemory: minMemory})
	b := newBudget(Options{MaxMemory: minMemory}, all)
	b.add(minMemory + 2*memoryPerRun)
	g.Expect(b.check()).To(Satisfy(ExceedsLimit))
	b.setRuns(2)
	g.Expect(b.check()).To(Succeed())
	g.Expect(all.runs.Load()).To(BeEquivalentTo(2))
}

func TestAllConnectionsTogetherAreBounded(t *testing.T) {
	g, all := NewWithT(t), newPoolBudget(Options{MaxMemory: 2 * minMemory})
	hostile := make([]*budget, allShare)
	for i := range hostile {
		hostile[i] = newBudget(Options{MaxMemory: 2 * minMemory}, all)
		hostile[i].add(2 * minMemory)
		g.Expect(hostile[i].check()).To(Succeed())
	}
	honest := newBudget(Options{MaxMemory: 2 * minMemory}, all)
	honest.setRuns(1000)
	honest.add(1000 * memoryPerRun)
	g.Expect(hostile[0].check()).To(Succeed())
	honest.add(minMemory)
	g.Expect(hostile[0].check()).To(Satisfy(ExceedsLimit), "it has more than its runs account for")
	g.Expect(honest.check()).To(Succeed())
	hostile[0].add(-minMemory)
	g.Expect(hostile[1].check()).To(Succeed())
}
