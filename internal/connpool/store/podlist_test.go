package store

import (
	"fmt"
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"

	"github.com/pooledjob/pooledjob/internal/connpool/budget"
	"github.com/pooledjob/pooledjob/internal/prune"
)

// podListBeside returns a list of the Pods of run a beside what a view shows.
func podListBeside(view *Store) *PodList {
	return NewPodList(view, packLabels, "a", "ns", budget.NewPending(loneBudget()))
}

// listed returns what is kept of a Pod in a list that takes so much memory.
func listed(g Gomega, pod *corev1.Pod, size int) prune.Kept {
	message, err := pod.Marshal()
	g.Expect(err).NotTo(HaveOccurred())
	return prune.Kept{Message: message, Size: size}
}

func TestAListBringsWhatTheViewDoesNotShow(t *testing.T) {
	r := newStoreRig(t)
	for name, phase := range map[string]corev1.PodPhase{"as-it-is": corev1.PodFailed, "behind": corev1.PodRunning, "gone": corev1.PodRunning, "goes": corev1.PodFailed} {
		r.Expect(r.pods.Add(podOf("a", name, phase))).To(Succeed())
	}
	made := MadePods{}
	before := r.store.PodsOf("a", "ns", made)
	list := podListBeside(r.store)
	for name, phase := range map[string]corev1.PodPhase{"as-it-is": corev1.PodFailed, "behind": corev1.PodSucceeded, "goes": corev1.PodFailed, "new": corev1.PodPending} {
		r.Expect(list.Add(listed(r, podOf("a", name, phase), 1))).To(Succeed())
	}
	r.Expect(list.Add(listed(r, podOf("b", "of-another-run", corev1.PodFailed), 1))).To(Succeed())
	r.Expect(namesOfPods(list.unseen)).To(ConsistOf("behind", "new"))
	r.Expect(r.pods.Delete(podOf("a", "goes", corev1.PodFailed))).To(Succeed())
	all := list.Pods(made)
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
	list := podListBeside(r.store)
	for n := range 100 {
		pod := podOf("a", fmt.Sprint(n), corev1.PodRunning)
		r.Expect(r.pods.Add(pod.DeepCopy())).To(Succeed())
		r.Expect(list.Add(listed(r, pod, maxUnseen))).To(Succeed())
	}
	r.Expect(list.size).To(Equal(100 * ItemCost))
	r.Expect(list.Pods(MadePods{})).To(HaveLen(100))
}

func TestAListComesToItsEndWhateverIsInIt(t *testing.T) {
	r := newStoreRig(t)
	shown := podOf("a", "shown", corev1.PodRunning)
	r.Expect(r.pods.Add(shown.DeepCopy())).To(Succeed())
	for name, pod := range map[string]*corev1.Pod{"shown": shown, "of another run": podOf("b", "other", corev1.PodRunning), "without anything": {}} {
		list, kept := podListBeside(r.store), listed(r, pod, 1)
		var err error
		for n := 0; err == nil && n <= maxUnseen/ItemCost; n++ {
			err = list.Add(kept)
		}
		r.Expect(err).To(MatchError(ErrTooManyPods), name)
	}
}

func TestAListIsLongOnlyWhenItCountsInABudget(t *testing.T) {
	g, n := NewWithT(t), 0
	add := func(list *PodList, size int) error {
		n++
		return list.Add(listed(g, podOf("a", fmt.Sprint(n), corev1.PodRunning), size-ItemCost))
	}
	short, long := podListBeside(nil), podListBeside(nil)
	short.long = nil
	g.Expect(add(short, shortList)).To(Succeed())
	g.Expect(add(short, ItemCost)).To(MatchError(ErrLongList))
	g.Expect(add(long, maxUnseen)).To(Succeed())
	g.Expect(add(long, ItemCost)).To(MatchError(ErrTooManyPods))
}

func TestALongListCountsInTheBudgetOfItsConnection(t *testing.T) {
	const most = 1 << 20
	g, counted := NewWithT(t), budget.New(most, budget.NewPool(most), func() int64 { return 0 })
	list := podListBeside(nil)
	list.long = budget.NewPending(counted)
	// A list that is still coming may take half as much again as what is held.
	g.Expect(list.Add(listed(g, podOf("a", "first", corev1.PodRunning), 3<<19-ItemCost))).To(Succeed())
	g.Expect(counted.Held()).To(BeEquivalentTo(3 << 19))
	g.Expect(list.Add(listed(g, podOf("a", "second", corev1.PodRunning), 1))).To(And(MatchError(ErrNoRoom), Not(Satisfy(prune.ExceedsLimit))))
	list.long.Close()
	g.Expect(counted.Held()).To(BeZero())
}
