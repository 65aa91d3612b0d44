package pooledjob

import (
	"context"
	"errors"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/pooledjob/pooledjob/controllers/pooledjob/decision"
	"github.com/pooledjob/pooledjob/internal/wakeup"
)

// offloadRig is an offload whose reconcile the test holds in its hands.
type offloadRig struct {
	*offload
	work    workqueue.TypedRateLimitingInterface[reconcile.Request]
	started chan *reconcileTask
	release chan struct{}
	// cancelled is closed when the context of the reconcile is done.
	cancelled chan struct{}
	result    ctrl.Result
	err       error
}

var offloadRequest = reconcile.Request{NamespacedName: types.NamespacedName{Namespace: "ns", Name: "a"}}

func newOffloadRig(t *testing.T) *offloadRig {
	r := &offloadRig{started: make(chan *reconcileTask, 10), release: make(chan struct{}), cancelled: make(chan struct{})}
	r.work = workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](time.Millisecond, time.Millisecond))
	t.Cleanup(r.work.ShutDown)
	q := &wakeup.Queue{}
	if err := q.Start(t.Context(), r.work); err != nil {
		t.Fatal(err)
	}
	r.offload = newOffload(q)
	r.after = 10 * time.Millisecond
	return r
}

// reconcile waits for the test, for a target if it is told so.
func (r *offloadRig) reconcile(forTarget bool) reconcile.Func {
	return func(ctx context.Context, request reconcile.Request) (ctrl.Result, error) {
		context.AfterFunc(ctx, func() { close(r.cancelled) })
		r.mu.Lock()
		task := r.running[request]
		r.mu.Unlock()
		task.waiting.Store(forTarget)
		r.started <- task
		<-r.release
		task.waiting.Store(false)
		return r.result, r.err
	}
}

func (r *offloadRig) begin(forTarget bool) chan error {
	ended := make(chan error, 1)
	go func() {
		_, err := r.do(context.Background(), offloadRequest, r.reconcile(forTarget))
		ended <- err
	}()
	return ended
}

func TestOffloadKeepsAWorkerThatDoesNotWaitForATarget(t *testing.T) {
	g, r := NewWithT(t), newOffloadRig(t)
	r.err = errors.New("as it came")
	ended := r.begin(false)
	g.Eventually(r.started).Should(Receive())
	g.Consistently(ended, 200*time.Millisecond).ShouldNot(Receive())
	close(r.release)
	g.Eventually(ended).Should(Receive(MatchError("as it came")))
	g.Expect(r.work.Len()).To(BeZero(), "the worker puts it back, nobody else")
	g.Expect(r.running).To(BeEmpty())
}

func TestOffloadFreesAWorkerThatWaitsForATarget(t *testing.T) {
	g, r := NewWithT(t), newOffloadRig(t)
	ended := r.begin(true)
	g.Eventually(ended).Should(Receive(BeNil()), "a silent target holds the worker")
	g.Eventually(r.started).Should(Receive())

	// The object comes up again: it must not be reconciled twice at a time.
	g.Eventually(r.begin(true)).Should(Receive(BeNil()))
	g.Consistently(r.started, 100*time.Millisecond).ShouldNot(Receive())
	g.Expect(r.work.Len()).To(BeZero())
	close(r.release)
	g.Eventually(r.work.Len).Should(Equal(1), "what came up meanwhile is lost")
	r.all.Wait()
	g.Expect(r.running).To(BeEmpty())
}

func TestOffloadHandsTheOutcomeToTheQueue(t *testing.T) {
	for name, test := range map[string]struct {
		result ctrl.Result
		err    error
		again  bool
	}{
		"done":         {},
		"look again":   {result: ctrl.Result{RequeueAfter: time.Millisecond}, again: true},
		"failed":       {err: errors.New("no"), again: true},
		"both at once": {result: ctrl.Result{RequeueAfter: time.Hour}, err: errors.New("no"), again: true},
	} {
		t.Run(name, func(t *testing.T) {
			g, r := NewWithT(t), newOffloadRig(t)
			r.result, r.err = test.result, test.err
			g.Eventually(r.begin(true)).Should(Receive(BeNil()))
			close(r.release)
			r.all.Wait()
			if test.again {
				g.Eventually(r.work.Len).Should(Equal(1))
			} else {
				g.Consistently(r.work.Len, 50*time.Millisecond).Should(BeZero())
			}
		})
	}
}

// A worker that is let go tells the queue that all went well; a target that keeps
// failing must be left alone longer and longer all the same.
func TestOffloadBacksOff(t *testing.T) {
	g, r := NewWithT(t), newOffloadRig(t)
	close(r.release)
	r.err = errors.New("no")
	for failures := range 3 {
		r.after = time.Hour // the worker waits
		task := &reconcileTask{request: offloadRequest, done: make(chan struct{}), err: r.err, detached: true}
		r.finish(t.Context(), task)
		g.Expect(r.retries.NumRequeues(offloadRequest)).To(Equal(failures + 1))
	}
	r.finish(t.Context(), &reconcileTask{request: offloadRequest, done: make(chan struct{}), detached: true})
	g.Expect(r.retries.NumRequeues(offloadRequest)).To(BeZero())
	var waits []time.Duration
	for range 100 {
		waits = append(waits, r.retries.When(offloadRequest))
	}
	g.Expect(waits[0]).To(Equal(minBackoff))
	g.Expect(waits[3]).To(Equal(8 * minBackoff))
	g.Expect(waits[16:]).To(HaveEach(decision.MaxRetry))
}

func TestOffloadSurvivesAPanic(t *testing.T) {
	g, r := NewWithT(t), newOffloadRig(t)
	_, err := r.do(t.Context(), offloadRequest, func(context.Context, reconcile.Request) (ctrl.Result, error) { panic("oh") })
	g.Expect(err).To(MatchError(ContainSubstring("panic: oh")))
	g.Expect(r.running).To(BeEmpty())
}

func TestOffloadedReconcileOutlivesTheWorkersContext(t *testing.T) {
	g, r := NewWithT(t), newOffloadRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := r.do(ctx, offloadRequest, r.reconcile(true))
	g.Expect(err).NotTo(HaveOccurred())
	cancel()
	g.Consistently(r.cancelled, 50*time.Millisecond).ShouldNot(BeClosed())
	close(r.release)
	g.Eventually(r.cancelled).Should(BeClosed(), "its context leaks")
}

func TestOffloadEndsWithTheManager(t *testing.T) {
	g, r := NewWithT(t), newOffloadRig(t)
	g.Eventually(r.begin(true)).Should(Receive(BeNil()))
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	go func() { stopped <- r.Start(ctx) }()
	cancel()
	g.Eventually(r.cancelled).Should(BeClosed())
	g.Consistently(stopped, 100*time.Millisecond).ShouldNot(Receive(), "a reconcile that is under way is left behind")
	close(r.release)
	g.Eventually(stopped).Should(Receive(BeNil()))
}
