package controllers

import (
	"context"
	"fmt"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/faultproxy"
)

// traffic is what goes over a line, but for watches and probes, which have no bound. It
// is counted at the target's end: what the pool says of itself would prove nothing.
type traffic struct {
	release func()

	mu       sync.Mutex
	held     chan struct{} // creations wait for its end
	underWay map[*faultproxy.Call]struct{}
	most     int
	created  []time.Time // when the creations came
}

// traffic counts from now on. Creations are held until release, which may be called
// more than once.
func (l *link) traffic() *traffic {
	t := &traffic{held: make(chan struct{}), underWay: map[*faultproxy.Call]struct{}{}}
	t.release = sync.OnceFunc(func() { close(t.held) })
	DeferCleanup(t.release)
	l.line.SetHook(t.hook)
	return t
}

func (t *traffic) hook(moment faultproxy.Moment, call *faultproxy.Call) faultproxy.Action {
	if call.Watch || call.Path == "/readyz" {
		return faultproxy.Action{}
	}
	if moment == faultproxy.After {
		t.end(call) // the client has not heard of it: what it asks next comes later
		return faultproxy.Action{}
	}
	t.begin(call)
	if isCreation(call) {
		<-t.held
	}
	return faultproxy.Action{}
}

func isCreation(call *faultproxy.Call) bool { return call.String() == "POST jobs" }

func (t *traffic) begin(call *faultproxy.Call) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.underWay[call] = struct{}{}
	t.most = max(t.most, len(t.underWay))
	if isCreation(call) {
		t.created = append(t.created, time.Now())
	}
}

func (t *traffic) end(call *faultproxy.Call) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.underWay, call)
}

// mostAtOnce returns how many requests were under way at once.
func (t *traffic) mostAtOnce() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.most
}

// densest returns how many creations came within so short a time.
func (t *traffic) densest(window time.Duration) (most int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, first := range t.created {
		n := 0
		for _, moment := range t.created[i:] {
			if moment.Sub(first) < window {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

// took returns the time from the first creation to the last.
func (t *traffic) took() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.created[len(t.created)-1].Sub(t.created[0])
}

// on has a PooledJob run on the connection of l.
func (l *link) on(job *v1alpha1.PooledJob) { job.Spec.ClusterName = l.name }

var _ = Describe("The bounds of a ClusterConnection", func() {
	const many = 10
	DescribeTable("limit the requests under way while more PooledJobs come", func(ctx context.Context, bound int32, most int) {
		w := newWorld(ctx)
		l := w.link(ctx, theTarget(ctx), "bound", func(c *v1alpha1.ClusterConnection) { c.Spec.MaxInFlight = bound })
		t := l.traffic()
		for range many {
			w.submit(ctx, l.on)
		}
		Eventually(func(g Gomega) {
			g.Expect(t.mostAtOnce()).To(Equal(most))
			g.Expect(l.figure("requests_queued")).To(BeEquivalentTo(many-most), "they know of the others")
		}).Should(Succeed())
		Consistently(t.mostAtOnce).Should(Equal(most))
		t.release()
		Eventually(l.jobs(w.name)).WithContext(ctx).Should(HaveLen(many), "all have their turn")
		Expect(t.mostAtOnce()).To(Equal(most))
	},
		Entry("maxInFlight: 1", int32(1), 1),
		Entry("maxInFlight: 3", int32(3), 3),
		Entry("none but the pool's", int32(0), many),
	)

	It("limit the requests per second while more PooledJobs come", func(ctx context.Context) {
		const several, qps = 24, 4
		densest := func(bound int32) int {
			w := newWorld(ctx)
			l := w.link(ctx, theTarget(ctx), "bound", func(c *v1alpha1.ClusterConnection) { c.Spec.QPS = bound })
			t := l.traffic()
			t.release()
			for range several {
				w.submit(ctx, l.on)
			}
			Eventually(l.jobs(w.name)).WithContext(ctx).WithTimeout(30*time.Second).Should(HaveLen(several), "all have their turn")
			AddReportEntry("creations", fmt.Sprintf("%d with spec.qps %d: in %.2f s, at most %d within a second",
				several, bound, t.took().Seconds(), t.densest(time.Second)))
			return t.densest(time.Second)
		}
		// As many may come at once as in one second, and then those of that second. A
		// process that gets no processor for a while may see more of them in a row.
		Expect(densest(qps)).To(BeNumerically("<=", 3*qps))
		Expect(densest(0)).To(BeNumerically(">", 3*qps), "there is no bound but that one")
	})
})
