// Package wakeup puts the news of the pool and of the hub into the work queues of the reconcilers.
package wakeup

import (
	"context"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/pooledjob/pooledjob/internal/hubcache"
)

// Wakeups carry news from the pool to the reconcilers' work queues. The pool's
// callbacks must not block; adding to a work queue does not.
//
// News that comes before a reconciler has started is dropped: it reconciles every
// object when it starts.
type Wakeups struct {
	hub   client.Reader // answers from a cache with hubcache.AddIndexes
	uids  *hubcache.UIDs
	clock clock.PassiveClock
	// Connections and Jobs are the queues of ClusterConnections and PooledJobs.
	Connections, Jobs Queue
	// woken is since when there is news of each PooledJob that no reconcile has seen.
	woken Moments[types.NamespacedName]
}

// New returns Wakeups for the reconcilers of a hub, which answers from a cache with hubcache.AddIndexes
// and uids.
func New(hub client.Reader, uids *hubcache.UIDs, clock clock.PassiveClock) *Wakeups {
	return &Wakeups{hub: hub, uids: uids, clock: clock}
}

// ConnectionChanged wakes a ClusterConnection and exactly its PooledJobs that need it;
// those not for other words about the same state, which each of them would write.
func (w *Wakeups) ConnectionChanged(name string, onlyWords bool) {
	w.Connections.Add(types.NamespacedName{Name: name})
	if onlyWords {
		return
	}
	if w.Jobs.started() {
		for _, job := range hubcache.FindJobs(context.Background(), w.hub, client.MatchingFields{hubcache.JobsInNeed: name}) {
			w.wakeJob(job.NamespacedName)
		}
	}
}

// RemoteChanged wakes the PooledJob of that UID.
func (w *Wakeups) RemoteChanged(uid string) {
	if w.Jobs.started() {
		if job := w.uids.Find(types.UID(uid)); job != nil {
			w.wakeJob(client.ObjectKeyFromObject(job))
		}
	}
}

func (w *Wakeups) wakeJob(name types.NamespacedName) {
	w.woken.Note(name, w.clock.Now()) // first: the reconcile that follows takes it
	w.Jobs.Add(name)
}

// TakeWoken returns since when there is news of a PooledJob that no reconcile has seen, zero if there is
// none. The reconcile that calls it sees it.
func (w *Wakeups) TakeWoken(name types.NamespacedName) time.Time { return w.woken.Take(name) }

// Queue is a controller's source that others add to.
type Queue struct {
	target atomic.Pointer[workqueue.TypedRateLimitingInterface[reconcile.Request]]
}

// Start implements source.Source.
func (q *Queue) Start(_ context.Context, target workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	q.target.Store(&target)
	return nil
}

func (q *Queue) started() bool { return q.target.Load() != nil }

// Add adds an object at once.
func (q *Queue) Add(name types.NamespacedName) {
	if target := q.target.Load(); target != nil {
		(*target).Add(reconcile.Request{NamespacedName: name})
	}
}

// AddAfter adds an object after a while; 0 is not at all.
func (q *Queue) AddAfter(request reconcile.Request, after time.Duration) {
	if target := q.target.Load(); target != nil && after > 0 {
		(*target).AddAfter(request, after)
	}
}
