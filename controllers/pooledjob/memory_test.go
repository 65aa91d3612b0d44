package pooledjob

import (
	"fmt"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/controllers/pooledjob/decision"
)

// version returns a PooledJob as some version of it was.
func version(resourceVersion string, attempt int32) *v1alpha1.PooledJob {
	return &v1alpha1.PooledJob{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "a", UID: "the-first", ResourceVersion: resourceVersion},
		Status:     v1alpha1.PooledJobStatus{Attempt: attempt},
	}
}

// wroteVersion remembers that a version was written over another.
func (m *memories) wroteVersion(over string, written *v1alpha1.PooledJob) {
	m.update(written, func(m *decision.Memory) { m.Written, m.WrittenOver = written, append(m.WrittenOver, over) })
}

func TestACacheThatIsLateDoesNotCount(t *testing.T) {
	g, m := NewWithT(t), &memories{}
	g.Expect(m.latest(version("1", 0)).ResourceVersion).To(Equal("1"), "nothing was written")
	m.wroteVersion("1", version("2", 0))
	m.wroteVersion("2", version("3", 0))
	for _, late := range []string{"1", "2", "1"} {
		g.Expect(m.latest(version(late, 0)).ResourceVersion).To(Equal("3"), "the cache shows %s", late)
	}
	g.Expect(m.latest(version("4", 0)).ResourceVersion).To(Equal("4"), "somebody else has written since")
	g.Expect(m.get(version("4", 0)).Written).To(BeNil(), "it is kept for ever")
	g.Expect(m.get(version("4", 0)).WrittenOver).To(BeNil())
}

func TestWhatWasWrittenIsNotShared(t *testing.T) {
	g, m := NewWithT(t), &memories{}
	m.wroteVersion("1", version("2", 0))
	m.latest(version("1", 0)).Status.Attempt = 7
	g.Expect(m.latest(version("1", 0)).Status.Attempt).To(BeZero())
}

func TestACacheThatIsLateDoesNotBringAnAttemptBack(t *testing.T) {
	g, m := NewWithT(t), &memories{}
	m.update(version("1", 0), func(m *decision.Memory) { m.Current = true })
	m.wroteVersion("1", version("2", 1))
	late := m.latest(version("1", 0))
	g.Expect(late.Status.Attempt).To(BeEquivalentTo(1))
	g.Expect(m.get(late).Current).To(BeFalse(), "that was of the attempt before")
}

func TestWhatWasWrittenOfAnotherObjectDoesNotCount(t *testing.T) {
	g, m := NewWithT(t), &memories{}
	m.wroteVersion("1", version("2", 0))
	again := version("1", 0)
	again.UID = types.UID("the-second")
	g.Expect(m.latest(again)).To(BeIdenticalTo(again))
}

func TestWhatWasWrittenDoesNotOutliveAConflict(t *testing.T) {
	g, m := NewWithT(t), &memories{}
	m.wroteVersion("1", version("2", 0))
	m.outdated(client.ObjectKeyFromObject(version("1", 0)))
	g.Expect(m.latest(version("1", 0)).ResourceVersion).To(Equal("1"), "the hub was restored")
}

func TestWhatIsGoneTakesNoMoreThanItMay(t *testing.T) {
	g, m := NewWithT(t), &memories{}
	fat := func(number, size int) []*corev1.Pod {
		pods := make([]*corev1.Pod, number)
		for i := range pods {
			pods[i] = &corev1.Pod{Status: corev1.PodStatus{Message: strings.Repeat("m", size)}}
		}
		return pods
	}
	gone := func(name string, pods []*corev1.Pod) decision.Memory {
		job := &v1alpha1.PooledJob{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name)}}
		return m.update(job, func(m *decision.Memory) { m.Gone.Job, m.Gone.Pods, m.Gone.PodsMissing = &batchv1.Job{}, pods, false })
	}
	small := gone("small", fat(100, 100))
	g.Expect(small.Gone.Pods).To(HaveLen(100))
	g.Expect(small.Gone.PodsMissing).To(BeFalse())
	large := gone("large", fat(1000, 4<<10))
	g.Expect(large.Gone.Job).NotTo(BeNil())
	g.Expect(large.Gone.Pods).To(BeEmpty(), "they are more than one run may have")
	g.Expect(large.Gone.PodsMissing).To(BeTrue())
	full := false
	for n := 0; n < 100 && !full; n++ {
		full = gone(fmt.Sprint(n), fat(100, 4<<10)).Gone.PodsMissing
	}
	g.Expect(full).To(BeTrue())
	g.Expect(m.gone).To(BeNumerically("<=", maxGone))
	for name := range m.byKey {
		m.forget(name)
	}
	g.Expect(m.gone).To(BeZero())
}
