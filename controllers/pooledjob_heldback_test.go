package controllers

import (
	"bytes"
	"context"
	"io"
	"strings"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/controllers/pooledjob/decision"
	"github.com/pooledjob/pooledjob/test/faultproxy"
	"github.com/pooledjob/pooledjob/test/fixtures"
)

// flood is bookmarks of 1 MiB without an end, until it is stopped.
type flood struct {
	bookmark []byte
	rest     bytes.Reader // of the bookmark that is being sent
	sent     atomic.Int64 // bytes
	stopped  atomic.Bool
}

// newFlood returns one of bookmarks with a resourceVersion.
func newFlood(resourceVersion string) *flood {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		ResourceVersion: resourceVersion, Annotations: map[string]string{"large": strings.Repeat("x", 1<<20)},
	}}
	return &flood{bookmark: fixtures.Event(watch.Bookmark, pod)}
}

// Read implements io.Reader.
func (f *flood) Read(into []byte) (int, error) {
	if f.rest.Len() == 0 {
		if f.stopped.Load() {
			return 0, io.EOF
		}
		f.rest.Reset(f.bookmark)
	}
	n, err := f.rest.Read(into)
	f.sent.Add(int64(n))
	return n, err
}

var _ = Describe("Runs whose Jobs go while the target sends more than is read", func() {
	It("wait until the view shows their Pods, and ask the target no more meanwhile", func(ctx context.Context) {
		const runs = 20
		w := newWorld(ctx)
		l := w.link(ctx, theTarget(ctx), "line")
		pending := make([]*v1alpha1.PooledJob, runs)
		for i := range pending {
			pending[i] = w.submit(ctx, func(j *v1alpha1.PooledJob) { j.Spec.ClusterName = l.name })
		}
		// A watch that has sent an event is resumed where it was, and not by a list.
		other := w.submit(ctx, func(j *v1alpha1.PooledJob) { j.Spec.ClusterName = l.name })
		start(ctx, remoteOf(ctx, other))
		eventually(ctx, other).Should(havePhase(v1alpha1.PooledJobRunning))
		var list corev1.PodList
		Expect(target.List(ctx, &list, client.InNamespace(w.name))).To(Succeed())
		late, requests, jobWatches := newFlood(list.ResourceVersion), atomic.Int32{}, atomic.Int32{}
		l.line.SetHook(func(moment faultproxy.Moment, call *faultproxy.Call) faultproxy.Action {
			switch {
			case moment == faultproxy.After && call.String() == "WATCH jobs":
				jobWatches.Add(1)
			case moment == faultproxy.After && call.String() == "WATCH pods" && late.sent.Load() == 0:
				return faultproxy.Action{First: late}
			case moment == faultproxy.Before && (call.String() == "GET jobs" || call.String() == "LIST pods"):
				requests.Add(1)
			}
			return faultproxy.Action{}
		})
		l.line.EndWatches()
		Eventually(jobWatches.Load).WithContext(ctx).ShouldNot(BeZero(), "else a list shows what goes")
		Eventually(late.sent.Load).WithContext(ctx).WithTimeout(time.Minute).Should(BeNumerically(">", 80<<20), "what is read at once is read")

		// One of them completes, and all that shows it is an event behind the flood.
		completed := remoteOf(ctx, pending[0])
		pod := createPod(ctx, completed)
		endPod(ctx, pod, 0, "")
		letPodsGo(ctx, completed)
		Expect(target.Delete(ctx, pod, client.GracePeriodSeconds(0))).To(Succeed())
		for _, job := range pending {
			Expect(target.Delete(ctx, remoteOf(ctx, job), client.PropagationPolicy(metav1.DeletePropagationBackground))).To(Succeed())
		}
		Eventually(requests.Load).WithContext(ctx).Should(BeEquivalentTo(runs), "each Job is proven absent")
		Consistently(requests.Load).WithContext(ctx).WithTimeout(2 * decision.PodsPause).Should(BeEquivalentTo(runs))
		for _, job := range pending {
			Expect(latest(job)(Default, ctx)).To(havePhase(v1alpha1.PooledJobPending))
		}

		late.stopped.Store(true)
		eventually(ctx, pending[0]).Should(haveCondition(v1alpha1.ConditionFailed, metav1.ConditionTrue, v1alpha1.ReasonRemoteJobEndUnknown))
		for _, job := range pending[1:] {
			eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionFailed, metav1.ConditionTrue, v1alpha1.ReasonRemoteJobDeleted))
		}
	})
})
