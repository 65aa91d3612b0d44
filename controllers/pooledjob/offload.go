package pooledjob

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/pooledjob/pooledjob/internal/connpool"
	"github.com/pooledjob/pooledjob/internal/wakeup"
)

// offloadAfter is how long a worker waits for a target. Most answer in a fraction of
// it.
const offloadAfter = 500 * time.Millisecond

// offload frees workers from targets that do not answer. All targets share the
// workers; a few that fall silent together would hold them all until they are known
// to be unreachable, and nothing would go on elsewhere. So a reconcile that waits for
// a target for longer than offloadAfter goes on without its worker. The pool bounds
// how many there can be for one target.
//
// No PooledJob is reconciled twice at the same time: one that comes up again
// meanwhile is put back when the first has ended.
type offload struct {
	queue *wakeup.Queue
	after time.Duration
	// retries is of those that failed without their worker. The queue's own cannot be asked: for it a
	// worker that was let go has succeeded.
	retries workqueue.TypedRateLimiter[reconcile.Request]

	mu      sync.Mutex
	running map[reconcile.Request]*reconcileTask
	stopped bool
	all     sync.WaitGroup
}

// reconcileTask is a reconcile that is under way.
type reconcileTask struct {
	request reconcile.Request
	cancel  context.CancelFunc
	done    chan struct{}
	waiting atomic.Bool // for a target
	result  ctrl.Result
	err     error
	// Guarded by offload.mu.
	detached bool // no worker waits for it
	again    bool // its object came up meanwhile
}

func newOffload(queue *wakeup.Queue) *offload {
	return &offload{
		queue: queue, after: offloadAfter, retries: newRetries(),
		running: map[reconcile.Request]*reconcileTask{},
	}
}

// do reconciles, or leaves that to the reconcile of the same object that is under
// way.
func (o *offload) do(ctx context.Context, request reconcile.Request, f reconcile.Func) (ctrl.Result, error) {
	task := o.start(ctx, request, f)
	if task == nil {
		return ctrl.Result{}, nil
	}
	patience := time.NewTicker(o.after)
	defer patience.Stop()
	for {
		select {
		case <-task.done:
			return task.result, task.err
		case <-patience.C:
			if task.waiting.Load() && o.detach(task) {
				return ctrl.Result{}, nil
			}
		}
	}
}

// start starts a reconcile; it does not if there is one of the same object, or when
// the manager stops.
func (o *offload) start(ctx context.Context, request reconcile.Request, f reconcile.Func) *reconcileTask {
	o.mu.Lock()
	defer o.mu.Unlock()
	if other := o.running[request]; other != nil {
		other.again = true
		return nil
	}
	if o.stopped {
		return nil
	}
	// That of the worker is not its to keep: it may go on without the worker.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	task := &reconcileTask{request: request, cancel: cancel, done: make(chan struct{})}
	o.running[request] = task
	o.all.Go(func() {
		defer cancel()
		task.run(ctx, f)
		o.finish(ctx, task)
	})
	return task
}

func (t *reconcileTask) run(ctx context.Context, f reconcile.Func) {
	defer func() {
		// As a worker does; here it would end the process.
		if p := recover(); p != nil {
			t.err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	t.result, t.err = f(connpool.WithWaiting(ctx, &t.waiting), t.request)
}

// detach lets the worker of a task go, unless the task has ended.
func (o *offload) detach(task *reconcileTask) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	task.detached = o.running[task.request] == task
	return task.detached
}

// finish hands the outcome to the worker or, if it is gone, to the queue.
func (o *offload) finish(ctx context.Context, task *reconcileTask) {
	after := task.result.RequeueAfter
	o.mu.Lock()
	delete(o.running, task.request)
	detached, again := task.detached, task.again
	if detached && task.err != nil {
		after = o.retries.When(task.request)
	} else {
		o.retries.Forget(task.request)
	}
	o.mu.Unlock()
	close(task.done)
	if !detached {
		return // nobody else could start meanwhile: the worker holds the object
	}
	if task.err != nil {
		logf.FromContext(ctx).Error(task.err, "Reconciler error")
	}
	o.queue.AddAfter(task.request, after)
	if again {
		o.queue.Add(task.request.NamespacedName)
	}
}

// Start cancels the reconciles that are under way when the manager stops, and waits for them. It
// implements manager.Runnable.
func (o *offload) Start(ctx context.Context) error {
	<-ctx.Done()
	o.mu.Lock()
	o.stopped = true
	for _, task := range o.running {
		task.cancel()
	}
	o.mu.Unlock()
	o.all.Wait()
	return nil
}
