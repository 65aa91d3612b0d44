package connpool

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pooledjob/pooledjob/internal/prune"
)

// newPodNews are the news of a list beside what a view shows.
func newPodNews(view *store, shares ...*atomic.Int64) *podNews {
	for len(shares) < 2 {
		shares = append(shares, &atomic.Int64{})
	}
	return &podNews{view: view, seen: map[types.UID]struct{}{}, shares: [2]*atomic.Int64{shares[0], shares[1]}}
}

// listed is what is kept of a Pod in a list that takes so much memory.
func listed(g Gomega, pod *corev1.Pod, size int) prune.Kept {
	message, err := pod.Marshal()
	g.Expect(err).NotTo(HaveOccurred())
	return prune.Kept{Message: message, Size: size}
}

func TestAListBringsWhatTheViewDoesNotShow(t *testing.T) {
	r := newStoreRig(t)
	r.options.OnChange = func(string) {}
	for name, phase := range map[string]corev1.PodPhase{"as-it-is": corev1.PodFailed, "behind": corev1.PodRunning, "gone": corev1.PodRunning} {
		r.Expect(r.pods.Add(podOf("a", name, phase))).To(Succeed())
	}
	news := newPodNews(r.store)
	for name, phase := range map[string]corev1.PodPhase{"as-it-is": corev1.PodFailed, "behind": corev1.PodSucceeded, "new": corev1.PodPending} {
		r.Expect(news.add(listed(r, podOf("a", name, phase), 1))).To(Succeed())
	}
	r.Expect(namesOfPods(news.news)).To(ConsistOf("behind", "new"))
	all := news.with(r.store.podsOf("a", "ns"))
	r.Expect(namesOfPods(all)).To(ConsistOf("as-it-is", "behind", "new"))
	for _, pod := range all {
		if pod.Name == "behind" {
			r.Expect(pod.Status.Phase).To(Equal(corev1.PodSucceeded))
		}
	}
}

func TestAListOfWhatTheViewShowsTakesNothing(t *testing.T) {
	r := newStoreRig(t)
	r.options.OnChange = func(string) {}
	news := newPodNews(r.store)
	for n := range 100 {
		pod := podOf("a", fmt.Sprint(n), corev1.PodRunning)
		r.Expect(r.pods.Add(pod.DeepCopy())).To(Succeed())
		r.Expect(news.add(listed(r, pod, maxNews))).To(Succeed())
	}
	r.Expect(news.size).To(BeZero())
	r.Expect(news.with(r.store.podsOf("a", "ns"))).To(HaveLen(100))
}

func TestTheNewsOfAListAreBounded(t *testing.T) {
	g, n := NewWithT(t), 0
	var ofConnection, ofAll atomic.Int64
	add := func(news *podNews, size int) error {
		n++
		return news.add(listed(g, podOf("a", fmt.Sprint(n), corev1.PodRunning), size))
	}
	one := newPodNews(nil)
	g.Expect(add(one, maxNews)).To(Succeed())
	g.Expect(add(one, 1)).To(MatchError(ErrTooManyPods))

	lists := []*podNews{newPodNews(nil, &ofConnection, &ofAll), newPodNews(nil, &ofConnection, &ofAll)}
	for _, news := range lists {
		g.Expect(add(news, maxNewsOfConnection/2)).To(Succeed())
	}
	late := newPodNews(nil, &ofConnection, &ofAll)
	g.Expect(add(late, freeNews)).To(Succeed(), "a few are read always")
	g.Expect(add(late, 1)).To(MatchError(ErrTooManyPods))
	late.done()
	other := newPodNews(nil, &atomic.Int64{}, &ofAll)
	g.Expect(add(other, maxNews)).To(Succeed(), "another connection has a share of its own")
	for _, news := range append(lists, other) {
		news.done()
	}
	g.Expect(ofConnection.Load() + ofAll.Load()).To(BeZero())
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
		g := NewWithT(t)
		var told atomic.Int64
		news := newRunNews(t.Context(), func(string) { told.Add(1) })
		news.tell("a", fewObjects)
		news.tell("a", 1)
		g.Expect(told.Load()).To(BeEquivalentTo(2))
		for range 10 {
			news.tell("a", 100)
		}
		g.Expect(told.Load()).To(BeEquivalentTo(2))
		<-time.After(100 * pausePerObject)
		synctest.Wait()
		g.Expect(told.Load()).To(BeEquivalentTo(3))
		news.tell("a", 1_000_000)
		<-time.After(manyPause)
		synctest.Wait()
		g.Expect(told.Load()).To(BeEquivalentTo(4))
	})
}

func TestABudgetGrowsWithTheRuns(t *testing.T) {
	g, runs := NewWithT(t), int64(0)
	b := newBudget(Options{MaxMemory: minMemory}, newPoolBudget(Options{MaxMemory: minMemory}))
	b.runs = func() int64 { return runs }
	b.add(minMemory + 2*memoryPerRun)
	g.Expect(b.check()).To(Satisfy(ExceedsLimit))
	runs = 2
	g.Expect(b.check()).To(Succeed())
}

func TestAllConnectionsTogetherAreBounded(t *testing.T) {
	const most, runs = 2 * minMemory, 1000
	options := Options{MaxMemory: most, Runs: func(string) int { return runs }}
	g, all := NewWithT(t), newPoolBudget(options)
	hostile := make([]*budget, allShare)
	for i := range hostile {
		hostile[i] = newBudget(options, all)
		hostile[i].add(most)
		g.Expect(hostile[i].check()).To(Succeed())
	}
	honest := newBudget(options, all)
	honest.runs = func() int64 { return runs }
	honest.add(runs*memoryPerRun + minMemory)
	g.Expect(all.checkOwn()).To(Satisfy(ExceedsLimit))
	g.Expect(hostile[0].check()).To(Satisfy(ExceedsLimit), "it has more than a fifth")
	g.Expect(honest.check()).To(Succeed(), "it has less beside what its runs account for")
	hostile[0].add(-most)
	hostile[0].leave()
	g.Expect(hostile[1].check()).To(Succeed())
}
