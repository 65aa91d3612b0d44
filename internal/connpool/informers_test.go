package connpool

import (
	"context"
	"fmt"
	"testing"

	. "github.com/onsi/gomega"
	"golang.org/x/time/rate"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/internal/connpool/budget"
	"github.com/pooledjob/pooledjob/internal/connpool/store"
)

// testInformers returns informers without a session. They tell of runs by told.
func testInformers(told func(string)) *informers {
	labels := store.NewLabels("our.example/hub=hub", "our.example/run")
	const most = 16 << 20
	counted := budget.New(most, budget.NewPool(most), func() int64 { return 0 })
	news := newRunNews(context.Background(), told, rate.NewLimiter(rate.Inf, 1))
	return &informers{options: Options{}.WithDefaults(), budget: counted, store: store.New(labels, counted), news: news}
}

// metaOf returns the metadata of an object of a run.
func metaOf(key, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "ns", Name: name, UID: "uid", Labels: map[string]string{"our.example/run": key}}
}

func TestTheFirstListTellsNothing(t *testing.T) {
	g, told := NewWithT(t), 0
	i := testInformers(func(string) { told++ })
	jobs := i.informer(store.KindJob, nil)
	g.Expect(jobs.synced).NotTo(BeClosed())
	packed, err := jobs.Transformer()(&batchv1.Job{ObjectMeta: metaOf("a", "one")}) // as a reflector does that lists by a watch
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(jobs.Replace([]any{packed}, "1")).To(Succeed())
	g.Expect(told).To(BeZero(), "the view is told to be Ready")
	g.Expect(jobs.synced).To(BeClosed())
	g.Expect(i.store.Job("ns", "one")).NotTo(BeNil())
	g.Expect(jobs.Replace([]any{&corev1.Service{}}, "1")).NotTo(Succeed())

	g.Expect(jobs.Add(&batchv1.Job{ObjectMeta: metaOf("b", "two")})).To(Succeed())
	g.Expect(told).To(Equal(1))
	g.Expect(jobs.Replace(nil, "2")).To(Succeed())
	g.Expect(told).To(Equal(3), "both are gone")
}

func TestWhatIsTooMuchIsNotToldOf(t *testing.T) {
	g, told, failed := NewWithT(t), 0, 0
	i := testInformers(func(string) { told++ })
	i.failed = func(error) { failed++ }
	pods := i.informer(store.KindPod, nil)
	g.Expect(pods.Replace(nil, "1")).To(Succeed())
	var err error
	for n := 0; failed == 0; n++ {
		told = 0
		err = pods.Add(&corev1.Pod{ObjectMeta: metaOf(fmt.Sprint(n), fmt.Sprint(n))})
	}
	g.Expect(err).To(Satisfy(ExceedsLimit))
	g.Expect(told).To(BeZero())
}
