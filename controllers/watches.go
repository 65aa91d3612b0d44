package controllers

import (
	"context"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// Wakeups carry news from the pool to the reconcilers' work queues. The pool's
// callbacks must not block; adding to a work queue does not.
//
// News that comes before a reconciler has started is dropped: it reconciles every
// object when it starts.
type Wakeups struct {
	hub         client.Reader // answers from a cache with addIndexes
	now         func() time.Time
	connections queue
	jobs        queue
	// woken is since when there is news of each PooledJob that no reconcile has seen.
	woken moments[types.NamespacedName]
}

// connectionChanged wakes a ClusterConnection and exactly its PooledJobs that need it;
// those not for other words about the same state, which each of them would write.
func (w *Wakeups) connectionChanged(name string, onlyWords bool) {
	w.connections.add(types.NamespacedName{Name: name})
	if onlyWords {
		return
	}
	w.wakeJobs(client.MatchingFields{jobsInNeed: name})
}

// remoteChanged wakes the PooledJob of that UID.
func (w *Wakeups) remoteChanged(uid string) {
	if uid != "" {
		w.wakeJobs(client.MatchingFields{jobsByUID: uid})
	}
}

func (w *Wakeups) wakeJobs(which client.MatchingFields) {
	if !w.jobs.started() {
		return
	}
	now := w.now()
	for _, name := range findJobs(context.Background(), w.hub, which) {
		w.woken.note(name.NamespacedName, now) // first: the reconcile that follows takes it
		w.jobs.add(name.NamespacedName)
	}
}

// findJobs lists PooledJobs in a cache, as requests. A cache that is not running
// yet has nothing to wake.
func findJobs(ctx context.Context, hub client.Reader, which ...client.ListOption) []reconcile.Request {
	var list v1alpha1.PooledJobList
	if err := hub.List(ctx, &list, append(which, client.UnsafeDisableDeepCopy)...); err != nil {
		logf.FromContext(ctx).V(1).Info("PooledJobs could not be woken", "which", which, "reason", err.Error())
		return nil
	}
	requests := make([]reconcile.Request, 0, len(list.Items))
	for i := range list.Items {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
	}
	return requests
}

// queue is a controller's source that others add to.
type queue struct {
	target atomic.Pointer[workqueue.TypedRateLimitingInterface[reconcile.Request]]
}

// Start implements source.Source.
func (q *queue) Start(_ context.Context, target workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	q.target.Store(&target)
	return nil
}

func (q *queue) started() bool { return q.target.Load() != nil }

func (q *queue) add(name types.NamespacedName) {
	if target := q.target.Load(); target != nil {
		(*target).Add(reconcile.Request{NamespacedName: name})
	}
}

// addAfter adds an object after a while; 0 is not at all.
func (q *queue) addAfter(request reconcile.Request, after time.Duration) {
	if target := q.target.Load(); target != nil && after > 0 {
		(*target).AddAfter(request, after)
	}
}
