package connpool

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"runtime/pprof"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/pooledjob/pooledjob/internal/connpool/budget"
	"github.com/pooledjob/pooledjob/internal/connpool/store"
)

var _ = Describe("A connection that is closed", func() {
	It("leaves no socket, gives no lease, and reports no more changes", func(ctx context.Context) {
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

	It("leaves no socket when another identity replaces it under its name", func(ctx context.Context) {
		first, second, r := newProxy(cluster.Config().Host), newProxy(cluster.Config().Host), newRig()
		lease := r.connect(ctx, target, adminConfig(first))
		r.pool.Connect(target, adminConfig(second))
		Eventually(ctx, r.stateOf(target)).Should(Equal(Ready))
		Eventually(ctx, first.open).Should(BeZero())
		Expect(second.open()).To(Equal(1))
		expectClosed(ctx, lease)
		Expect(r.lease(target).ReadClusterUID(ctx)).To(Equal(clusterUID))
	})

	It("lets a call that is under way end, and refuses new calls", func(ctx context.Context) {
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

	It("ends a call that hangs after RequestTimeout", func(ctx context.Context) {
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

	It("dials no more for a call that was about to start, which fails with ErrNotSent", func(ctx context.Context) {
		p, r := newProxy(cluster.Config().Host), newRig()
		lease := r.connect(ctx, target, adminConfig(p))
		late := lease.session.transport // as a call has it that found the session alive
		r.pool.Disconnect(target)
		Eventually(ctx, p.open).Should(BeZero())
		Expect(late.Core.RESTClient().Get().AbsPath(readyPath).Do(ctx).Error()).To(MatchError(ErrNotSent))
		Expect(p.dialled()).To(Equal(1))
	})

	It("leaves no goroutine after 20 connections were made and closed", func(ctx context.Context) {
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

	It("leaves no goroutine of watches whose first objects exceeded the memory limit", func(ctx context.Context) {
		s := newAPIServer()
		r := newRig(func(o *Options) { o.MaxMemory, o.LimitPause = minMemory, 300*time.Millisecond })
		job := func(i int) *batchv1.Job {
			return &batchv1.Job{ObjectMeta: metav1.ObjectMeta{
				Namespace: "default", Name: fmt.Sprintf("%0200d", i), UID: types.UID(fmt.Sprintf("%060d", i)),
				Labels: map[string]string{runLabel: r.run, keyLabel: fmt.Sprintf("%060d", i)},
			}}
		}
		// They take a tenth more than there is room for: a list that is still coming may take half as
		// much again, so that they are refused only when all are there.
		one, err := store.New(r.pool.labels, budget.New(minMemory, budget.NewPool(minMemory), func() int64 { return 0 })).Record(job(0))
		Expect(err).NotTo(HaveOccurred())
		var first strings.Builder
		for i := range minMemory / one.Size() * 11 / 10 {
			first.WriteString(eventOf(watch.Added, job(i)))
		}
		first.WriteString(bookmarkOf(&batchv1.Job{}, 2, initialEventsEnd))
		first.WriteString(bookmarkOf(&batchv1.Job{}, 3, nil)) // which nobody reads
		s.answer(jobsPath, func(w http.ResponseWriter, q *http.Request) {
			w.Header().Set("Content-Type", kruntime.ContentTypeProtobuf)
			fmt.Fprint(w, first.String())
			_ = http.NewResponseController(w).Flush()
			<-q.Context().Done()
		})
		figures := r.registry()
		before := runtime.NumGoroutine()
		r.pool.Connect(target, s.config("token"))
		Eventually(ctx, func() int { return len(s.listed()) }).Should(BeNumerically(">", 6), "it is tried again and again")
		Eventually(ctx, r.stateOf(target)).Should(Equal(LimitExceeded))
		Eventually(ctx, figures).Should(HaveKeyWithValue("watches{target}", 0.0))
		r.pool.Disconnect(target)
		Eventually(ctx, runtime.NumGoroutine).Should(BeNumerically("<=", before), goroutines)
	})

	It("ends with the pool's context, after which Wait returns and Connect does nothing", func(ctx context.Context) {
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

// goroutines returns the stacks of all.
func goroutines() string {
	var stacks strings.Builder
	Expect(pprof.Lookup("goroutine").WriteTo(&stacks, 1)).To(Succeed())
	return stacks.String()
}
