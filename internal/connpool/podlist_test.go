package connpool

import (
	"fmt"
	"runtime"
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"

	"github.com/pooledjob/pooledjob/internal/prune"
)

// newPodList is a list of the Pods of run a beside what a view shows.
func newPodList(view *store) *podList {
	return &podList{view: view, keyLabel: "our.example/run", key: "a", namespace: "ns", shown: map[*record]struct{}{}, long: &pendingList{budget: loneBudget(packOptions)}}
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
	for name, phase := range map[string]corev1.PodPhase{"as-it-is": corev1.PodFailed, "behind": corev1.PodRunning, "gone": corev1.PodRunning, "goes": corev1.PodFailed} {
		r.Expect(r.pods.Add(podOf("a", name, phase))).To(Succeed())
	}
	made := madePods{}
	before := r.store.podsOf("a", "ns", made)
	list := newPodList(r.store)
	for name, phase := range map[string]corev1.PodPhase{"as-it-is": corev1.PodFailed, "behind": corev1.PodSucceeded, "goes": corev1.PodFailed, "new": corev1.PodPending} {
		r.Expect(list.add(listed(r, podOf("a", name, phase), 1))).To(Succeed())
	}
	r.Expect(list.add(listed(r, podOf("b", "of-another-run", corev1.PodFailed), 1))).To(Succeed())
	r.Expect(namesOfPods(list.unseen)).To(ConsistOf("behind", "new"))
	r.Expect(r.pods.Delete(podOf("a", "goes", corev1.PodFailed))).To(Succeed())
	all := list.pods(made)
	r.Expect(namesOfPods(all)).To(ConsistOf("as-it-is", "behind", "goes", "new"), "also what has left the view since")
	for _, pod := range all {
		switch pod.Name {
		case "behind":
			r.Expect(pod.Status.Phase).To(Equal(corev1.PodSucceeded))
		case "as-it-is", "goes":
			r.Expect(before).To(ContainElement(BeIdenticalTo(pod)), "it is not made twice")
		}
	}
}

func TestAListOfWhatTheViewShowsTakesLittle(t *testing.T) {
	r := newStoreRig(t)
	r.options.OnChange = func(string) {}
	list := newPodList(r.store)
	for n := range 100 {
		pod := podOf("a", fmt.Sprint(n), corev1.PodRunning)
		r.Expect(r.pods.Add(pod.DeepCopy())).To(Succeed())
		r.Expect(list.add(listed(r, pod, maxUnseen))).To(Succeed())
	}
	r.Expect(list.size).To(Equal(100 * itemCost))
	r.Expect(list.pods(madePods{})).To(HaveLen(100))
}

func TestAListComesToItsEndWhateverIsInIt(t *testing.T) {
	r := newStoreRig(t)
	r.options.OnChange = func(string) {}
	shown := podOf("a", "shown", corev1.PodRunning)
	r.Expect(r.pods.Add(shown.DeepCopy())).To(Succeed())
	for name, pod := range map[string]*corev1.Pod{"shown": shown, "of another run": podOf("b", "other", corev1.PodRunning), "without anything": {}} {
		list, kept := newPodList(r.store), listed(r, pod, 1)
		var err error
		for n := 0; err == nil && n <= maxUnseen/itemCost; n++ {
			err = list.add(kept)
		}
		r.Expect(err).To(MatchError(ErrTooManyPods), name)
	}
}

func TestAListIsLongOnlyWhenItCountsInABudget(t *testing.T) {
	g, n := NewWithT(t), 0
	add := func(list *podList, size int) error {
		n++
		return list.add(listed(g, podOf("a", fmt.Sprint(n), corev1.PodRunning), size-itemCost))
	}
	short, long := newPodList(nil), newPodList(nil)
	short.long = nil
	g.Expect(add(short, shortList)).To(Succeed())
	g.Expect(add(short, itemCost)).To(MatchError(errLongList))
	g.Expect(add(long, maxUnseen)).To(Succeed())
	g.Expect(add(long, itemCost)).To(MatchError(ErrTooManyPods))
}

func TestALongListCountsInTheBudgetOfItsConnection(t *testing.T) {
	g, options := NewWithT(t), packOptions
	options.MaxMemory = 1 << 20
	budget := loneBudget(options)
	list := newPodList(nil)
	list.long = &pendingList{budget: budget}
	// A list that is still coming may take half as much again as what is held.
	g.Expect(list.add(listed(g, podOf("a", "first", corev1.PodRunning), 3<<19-itemCost))).To(Succeed())
	g.Expect(budget.held.Load()).To(BeEquivalentTo(3 << 19))
	g.Expect(list.add(listed(g, podOf("a", "second", corev1.PodRunning), 1))).To(And(Satisfy(ExceedsLimit), Not(MatchError(ErrTooManyPods))))
	list.long.close()
	g.Expect(budget.held.Load()).To(BeZero())
}

func TestPodsCountAsLongAsAnybodyHasThem(t *testing.T) {
	g, all := NewWithT(t), newStreamPool(4<<20)
	line := newStreamBudget(2<<20, all)
	pods := []*corev1.Pod{{}, {}}
	for _, pod := range pods {
		g.Expect(line.take(pod, 1<<20, 1<<20)).To(Succeed())
	}
	more := &corev1.Pod{}
	g.Expect(line.take(more, 1, 3<<20)).To(Satisfy(ExceedsLimit))
	g.Expect(line.take(more, 1, maxAdmitted)).To(Succeed(), "a run of a few Pods is read always")
	other := &corev1.Pod{}
	g.Expect(newStreamBudget(2<<20, all).take(other, 1<<20, 1<<20)).To(Succeed(), "another connection has a budget of its own")
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
	g, all := NewWithT(t), newStreamPool(most)
	all.interval = 0
	var held []*corev1.Pod
	take := func(line *budget, size int) error {
		held = append(held, &corev1.Pod{})
		return line.take(held[len(held)-1], size, size)
	}
	hostile, honest := newStreamBudget(most, all), newStreamBudget(most, all)
	g.Expect(take(hostile, most*3/4)).To(Succeed())
	g.Expect(take(honest, most/2)).To(Succeed(), "it has no more than an equal part")
	g.Expect(take(hostile, 1)).To(Satisfy(ExceedsLimit), "also for a run of a few Pods")
	g.Expect(take(honest, 1)).To(Satisfy(ExceedsLimit))
	for range 10 {
		g.Expect(take(newStreamBudget(most, all), most/2)).To(Satisfy(ExceedsLimit))
	}
	runtime.KeepAlive(held)
}

// newPart is the budget of a connection with so many runs.
func newPart(o Options, pool *poolBudget, runs *int64) *budget {
	return newBudget(o, pool, func() int64 { return *runs })
}

func TestABudgetGrowsWithTheRuns(t *testing.T) {
	g, runs, options := NewWithT(t), int64(0), Options{MaxMemory: minMemory}
	b := newPart(options, newPoolBudget(options), &runs)
	b.add(minMemory + 2*memoryPerRun)
	g.Expect(b.check()).To(Satisfy(ExceedsLimit))
	runs = 2
	g.Expect(b.check()).To(Succeed())
}

func TestAllConnectionsTogetherAreBounded(t *testing.T) {
	const most = 2 * minMemory
	options := Options{MaxMemory: most}
	g, all, none, runs := NewWithT(t), newPoolBudget(options), int64(0), int64(1000)
	all.interval = 0
	given := make(map[int]error)
	hostile := make([]*budget, poolFactor+1)
	for i := range hostile {
		hostile[i] = newPart(options, all, &none)
		hostile[i].hold(i, func(why error) { given[i] = why })
		hostile[i].add(most * 4 / 5)
		g.Expect(hostile[i].check()).To(Succeed())
	}
	hostile[1].add(1)
	honest := newPart(options, all, &runs)
	honest.add(runs * memoryPerRun)
	g.Expect(honest.check()).To(Succeed(), "what its runs account for takes nothing from others")
	g.Expect(given).To(BeEmpty())
	honest.add(most / 5)
	g.Expect(honest.check()).To(Succeed(), "another has more, although it says nothing")
	g.Expect(given).To(And(HaveLen(1), HaveKeyWithValue(1, Satisfy(ExceedsLimit))))
	g.Expect(hostile[1].check()).To(Satisfy(ExceedsLimit), "what it still brings is refused")
	g.Expect(hostile[0].check()).To(Succeed(), "one is enough")
	hostile[1].add(-hostile[1].held.Load())
	hostile[1].letGo(1)
	g.Expect(hostile[1].check()).To(Succeed())
	hostile[1].add(most)
	g.Expect(hostile[1].check()).To(Satisfy(ExceedsLimit), "it has the most again")
	g.Expect(honest.check()).To(Succeed())
	all.leave(hostile[1])
	first, parts := all.look()
	g.Expect(first).To(BeNil())
	g.Expect(parts).To(Equal(poolFactor + 1))
}
