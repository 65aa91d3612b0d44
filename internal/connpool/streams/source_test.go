package streams

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/internal/connpool/pause"
	"github.com/pooledjob/pooledjob/internal/connpool/store"
)

// sourceRig is a podSource whose callbacks are recorded.
type sourceRig struct {
	*podSource
	failures []error
	canceled bool

	mu   sync.Mutex
	told []int // how many Pods each time
}

func newSourceRig() *sourceRig {
	r := &sourceRig{}
	r.podSource = &podSource{
		pods: map[string]*sizedPod{},
		changed: func() {
			if pods, known := r.present(); known {
				r.note(len(pods))
			}
		},
		failed: func(err error) { r.failures = append(r.failures, err) },
		cancel: func() { r.canceled = true },
	}
	return r
}

func (r *sourceRig) note(pods int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told = append(r.told, pods)
}

// news returns how many Pods were told of each time.
func (r *sourceRig) news() []int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.told)
}

func sized(name string, size int) *sizedPod {
	return &sizedPod{Pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: "uid"}, Status: corev1.PodStatus{Phase: corev1.PodRunning}}, size: size}
}

func many(n, size int) (list []any) {
	for i := range n {
		list = append(list, sized(fmt.Sprint(i), size))
	}
	return list
}

func TestFollowersAreToldOfFewPodsAtOnceAndOfManyAfterAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, r := NewWithT(t), newSourceRig()
		g.Expect(r.Replace(many(pause.FewObjects, 1), "1")).To(Succeed())
		g.Expect(r.news()).To(Equal([]int{pause.FewObjects}))
		for i := range 10 {
			g.Expect(r.Add(sized(fmt.Sprint("more-", i), 1))).To(Succeed())
		}
		pods, known := r.present()
		g.Expect(known).To(BeTrue())
		g.Expect(pods).To(HaveLen(pause.FewObjects+10), "who comes now is told of all")
		g.Expect(r.news()).To(HaveLen(1))
		<-time.After(followPause)
		synctest.Wait()
		g.Expect(r.news()).To(Equal([]int{pause.FewObjects, pause.FewObjects + 10}))
		g.Expect(r.Delete(sized("more-0", 1))).To(Succeed())
		<-time.After(followPause)
		synctest.Wait()
		g.Expect(r.news()).To(Equal([]int{pause.FewObjects, pause.FewObjects + 10, pause.FewObjects + 9}))
	})
}

func TestFollowersAreNotToldOfNoPodsWhenThereAreTooMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, r := NewWithT(t), newSourceRig()
		g.Expect(r.Replace(many(100, 1), "1")).To(Succeed())
		g.Expect(r.Add(sized("fat", maxLogList))).To(Succeed())
		<-time.After(followPause)
		synctest.Wait()
		g.Expect(r.news()).To(BeEmpty())
		g.Expect(r.failures).To(ConsistOf(MatchError(store.ErrTooManyPods)))
		g.Expect(r.canceled).To(BeTrue())
		_, known := r.present()
		g.Expect(known).To(BeFalse())
		g.Expect(r.Replace(many(2, 1), "2")).To(Succeed())
		g.Expect(r.news()).To(Equal([]int{2}))
	})
}
