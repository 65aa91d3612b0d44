package logs

import (
	"testing"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

func TestNothingIsLeftOfAWatchThatWasStopped(t *testing.T) {
	g, b := NewWithT(t), &Backend{watchers: map[types.NamespacedName]map[chan struct{}]struct{}{}}
	job := &v1alpha1.PooledJob{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "b"}}
	one, stopOne := b.Watch("a", "b")
	two, stopTwo := b.Watch("a", "b")
	b.changed(job)
	b.changed(toolscache.DeletedFinalStateUnknown{Obj: job})
	b.changed(&v1alpha1.PooledJob{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "c"}})
	for _, changed := range []<-chan struct{}{one, two} {
		g.Expect(changed).To(Receive())
		g.Expect(changed).NotTo(Receive(), "two changes are one reason to look")
	}
	stopOne()
	b.changed(job)
	g.Expect(one).NotTo(Receive())
	g.Expect(two).To(Receive())
	stopTwo()
	g.Expect(b.watchers).To(BeEmpty())
}
