package connpool

import (
	"context"
	"fmt"
	"runtime"
	"runtime/pprof"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

var _ = Describe("A connection that is closed", func() {
	It("leaves no socket and no answer", func(ctx context.Context) {
		p, r := newProxy(cluster.Config().Host), newRig()
		lease := r.connect(ctx, target, adminConfig(p))
		r.pool.Disconnect(target)
		Eventually(ctx, p.open).Should(BeZero())
		expectClosed(ctx, lease)
		_, ok := r.pool.Status(target)
		Expect(ok).To(BeFalse())
		_, err := r.pool.Lease(target, "")
		Expect(err).To(MatchError(ErrClosed))
		job := r.createJob(ctx)
		Consistently(ctx, r.changesOf(job.Name)).Should(BeZero())
		Expect(p.open()).To(BeZero())
		Expect(p.dialled()).To(Equal(1))
		Expect(r.transitions()).To(Equal([]State{Ready}))
	})

	It("by another identity under its name leaves no socket either", func(ctx context.Context) {
		first, second, r := newProxy(cluster.Config().Host), newProxy(cluster.Config().Host), newRig()
		lease := r.connect(ctx, target, adminConfig(first))
		r.pool.Connect(target, adminConfig(second))
		Eventually(ctx, r.stateOf(target)).Should(Equal(Ready))
		Eventually(ctx, first.open).Should(BeZero())
		Expect(second.open()).To(Equal(1))
		expectClosed(ctx, lease)
		Expect(r.lease(target).ReadClusterUID(ctx)).To(Equal(clusterUID))
	})

	It("lets a call end that is under way, and starts no other", func(ctx context.Context) {
		p, r := newProxy(cluster.Config().Host), newRig()
		lease := r.connect(ctx, target, adminConfig(p))
		p.hold()
		ended := make(chan error, 1)
		go func() {
			_, err := lease.GetJob(ctx, "default", "job")
			ended <- err
		}()
		Consistently(ctx, ended).WithTimeout(200 * time.Millisecond).ShouldNot(Receive())
		r.pool.Disconnect(target)
		expectClosed(ctx, lease)
		Consistently(ctx, ended).WithTimeout(200 * time.Millisecond).ShouldNot(Receive())
		p.release()
		Eventually(ctx, ended).Should(Receive(Satisfy(apierrors.IsNotFound)), "what the target said is lost")
		Eventually(ctx, p.open).Should(BeZero())
	})

	It("does not let a call take for ever", func(ctx context.Context) {
		p, r := newProxy(cluster.Config().Host), newRig(func(o *Options) { o.RequestTimeout = time.Second })
		lease := r.connect(ctx, target, adminConfig(p))
		p.hold()
		ended := make(chan error, 1)
		go func() {
			_, err := lease.GetJob(ctx, "default", "job")
			ended <- err
		}()
		r.pool.Disconnect(target)
		Eventually(ctx, ended).Should(Receive(HaveOccurred()))
		Eventually(ctx, p.open).Should(BeZero())
	})

	It("is not dialled for a call that was about to start", func(ctx context.Context) {
		p, r := newProxy(cluster.Config().Host), newRig()
		lease := r.connect(ctx, target, adminConfig(p))
		late := lease.session.transport // as a call has it that found the session alive
		r.pool.Disconnect(target)
		Eventually(ctx, p.open).Should(BeZero())
		Expect(late.core.RESTClient().Get().AbsPath(readyPath).Do(ctx).Error()).To(MatchError(ErrNotSent))
		Expect(p.dialled()).To(Equal(1))
	})

	It("leaves no goroutine, also after many", func(ctx context.Context) {
		p, r := newProxy(cluster.Config().Host), newRig()
		before := runtime.NumGoroutine()
		for i := range 20 {
			name := fmt.Sprint("target-", i%3)
			r.connect(ctx, name, adminConfig(p))
			r.pool.Disconnect(name)
		}
		Eventually(ctx, p.open).Should(BeZero())
		Eventually(ctx, runtime.NumGoroutine).Should(BeNumerically("<=", before), goroutines)
	})

	It("when the pool's context ends, has ended when Wait returns", func(ctx context.Context) {
		p, r := newProxy(cluster.Config().Host), newRig()
		lease := r.connect(ctx, target, adminConfig(p))
		r.pool.Connect("gone", Config{Identity: Identity{Server: "https://" + closedAddress()}})
		Eventually(ctx, r.stateOf("gone")).Should(Equal(Unreachable))
		waited := make(chan struct{})
		go func() {
			r.pool.Wait()
			close(waited)
		}()
		Consistently(ctx, waited).WithTimeout(200 * time.Millisecond).ShouldNot(BeClosed())
		r.stop()
		Eventually(ctx, waited).Should(BeClosed())
		Eventually(ctx, p.open).WithTimeout(time.Second).Should(BeZero())
		expectClosed(ctx, lease)
		r.pool.Connect("late", adminConfig(p))
		_, ok := r.pool.Status("late")
		Expect(ok).To(BeFalse(), "a pool that has ended connects")
	})
})

// goroutines are the stacks of all.
func goroutines() string {
	var stacks strings.Builder
	Expect(pprof.Lookup("goroutine").WriteTo(&stacks, 1)).To(Succeed())
	return stacks.String()
}
