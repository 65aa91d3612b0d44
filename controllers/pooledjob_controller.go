package controllers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/jobspec"
	"github.com/pooledjob/pooledjob/internal/jobstatus"
)

const (
	// writeInterval is the shortest time between two writes of a PooledJob that
	// is not finished: what happens in between is written together.
	writeInterval = time.Second
	// countersInterval is the same for a status of which only counters and
	// times changed. A Job's counters move several times within the seconds of
	// its start and of its end, and the writes that follow carry them.
	countersInterval = 10 * time.Second
	// minBackoff is the wait after a first error; it doubles up to maxRetry.
	minBackoff = 100 * time.Millisecond
)

// PooledJobReconciler runs PooledJobs.
type PooledJobReconciler struct {
	// Hub reads from the manager's caches and writes to the hub.
	Hub client.Client
	// Live reads from the hub's API server itself.
	Live client.Reader
	// Connections is the pool.
	Connections Connections
	// Wakeups bring the pool's news.
	Wakeups *Wakeups
	// HubID marks the remote objects of this installation.
	HubID string
	// Recorder emits Events on failed runs.
	Recorder events.EventRecorder
	// Now is the clock.
	Now func() time.Time
	// Workers is how many PooledJobs are reconciled at once.
	Workers int

	memories   memories
	placements placements
	offload    *offload
	process    string // this one, among all that there ever are
}

// +kubebuilder:rbac:groups=pooledjob.io,resources=pooledjobs,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=pooledjob.io,resources=pooledjobs/status,verbs=patch
// +kubebuilder:rbac:groups="",resources=namespaces,verbs=get;list;watch

// SetupWithManager registers the reconciler.
func (r *PooledJobReconciler) SetupWithManager(ctx context.Context, mgr ctrl.Manager) error {
	jobs, err := mgr.GetCache().GetInformer(ctx, &v1alpha1.PooledJob{})
	if err != nil {
		return fmt.Errorf("informer of PooledJobs: %w", err)
	}
	if _, err := jobs.AddEventHandler(r.placements.handler()); err != nil {
		return fmt.Errorf("counting placements: %w", err)
	}
	r.process, r.placements.hubID = string(uuid.NewUUID()), r.HubID
	r.offload = newOffload(&r.Wakeups.jobs)
	if err := mgr.Add(r.offload); err != nil {
		return fmt.Errorf("adding what waits for reconciles: %w", err)
	}
	return ctrl.NewControllerManagedBy(mgr).
		Named("pooledjob").
		For(&v1alpha1.PooledJob{}).
		Watches(&v1alpha1.ClusterConnection{}, handler.EnqueueRequestsFromMapFunc(r.jobsOfConnection), builder.WithPredicates(usabilityChanged())).
		// The access rules go by a namespace's labels.
		WatchesMetadata(&corev1.Namespace{}, handler.EnqueueRequestsFromMapFunc(r.unplacedIn), builder.WithPredicates(predicate.LabelChangedPredicate{})).
		WatchesRawSource(&r.Wakeups.jobs).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: r.Workers,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](minBackoff, maxRetry),
		}).
		Complete(r)
}

// Reconcile brings one PooledJob a step further.
func (r *PooledJobReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	return r.offload.do(ctx, req, r.reconcile)
}

func (r *PooledJobReconciler) reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	job := &v1alpha1.PooledJob{}
	if err := r.Hub.Get(ctx, req.NamespacedName, job); err != nil {
		if apierrors.IsNotFound(err) {
			r.memories.forget(req.NamespacedName)
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	_, bound, intact := jobspec.BoundBy(job, r.HubID, jobspec.Intent{})
	if job.DeletionTimestamp.IsZero() && jobstatus.Finished(&job.Status) && (intact || !bound || job.Status.JobRef.UID == "") {
		return r.expire(ctx, job) // it must not wake a connection that is idle
	}
	s, lease, err := r.gather(ctx, job)
	if err != nil {
		return ctrl.Result{}, err
	}
	run := &run{
		PooledJobReconciler: r, snapshot: s, lease: lease,
		before: job.Status.DeepCopy(), writer: jobstatus.NewWriter(job, s.now),
	}
	after, err := run.act(ctx, decide(s))
	wait, writeErr := run.writeStatus(ctx)
	return asResult(earliest(after, wait), cmp.Or(err, writeErr))
}

// asResult turns a lost race on the hub into another look: whoever won has changed
// the object, and the cache will show it.
func asResult(after time.Duration, err error) (ctrl.Result, error) {
	var failed *targetError
	if apierrors.IsConflict(err) && !errors.As(err, &failed) {
		return ctrl.Result{RequeueAfter: time.Second}, nil
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: after}, nil
}

// writeStatus writes the status if it changed: a final one at once, any other when
// enough time has passed since the last write. It returns the time until then.
func (r *run) writeStatus(ctx context.Context) (wait time.Duration, err error) {
	if r.released || equality.Semantic.DeepEqual(*r.before, r.job.Status) {
		return 0, nil
	}
	finished := jobstatus.Finished(&r.job.Status)
	interval := countersInterval
	if tellsMore(r.before, &r.job.Status) {
		interval = writeInterval
	}
	if left := r.memory.writtenAt.Add(interval).Sub(r.now); left > 0 && !finished {
		return left, nil
	}
	before := r.job.DeepCopy()
	before.Status = *r.before
	written := r.job.DeepCopy()
	if err := r.Hub.Status().Patch(ctx, written, lockedPatch(before)); err != nil {
		return 0, client.IgnoreNotFound(fmt.Errorf("writing the status: %w", err))
	}
	r.remember(func(m *memory) { m.writtenAt = r.now })
	if finished && !jobstatus.Finished(r.before) {
		r.announceFailure()
	}
	return 0, nil
}

// tellsMore tells whether a status says something new that somebody waits for, as
// against other counters or the end of a trouble.
func tellsMore(before, after *v1alpha1.PooledJobStatus) bool {
	return !equality.Semantic.DeepEqual(before.Conditions, after.Conditions) ||
		(after.Result.Reason != "" && after.Result.Reason != before.Result.Reason)
}

// announceFailure emits an Event for a run that has failed.
func (r *run) announceFailure() {
	failed := meta.FindStatusCondition(r.job.Status.Conditions, v1alpha1.ConditionFailed)
	if failed != nil {
		r.Recorder.Eventf(r.job, nil, corev1.EventTypeWarning, failed.Reason, "Run", "%s", jobstatus.Truncate(failed.Message, maxEventNote))
	}
}

// jobsOfConnection are the PooledJobs that need a connection, those that need any, and those
// whose cluster it states to be fenced, whichever connection they have. (Of a change, the
// object before is mapped, too.)
func (r *PooledJobReconciler) jobsOfConnection(ctx context.Context, changed client.Object) []reconcile.Request {
	requests := append(findJobs(ctx, r.Hub, client.MatchingFields{jobsInNeed: changed.GetName()}),
		findJobs(ctx, r.Hub, client.MatchingFields{jobsInNeed: anyCluster})...)
	fenced := changed.GetAnnotations()[v1alpha1.AnnotationFenced]
	var all v1alpha1.ClusterConnectionList
	if fenced == "" || r.Hub.List(ctx, &all, client.UnsafeDisableDeepCopy) != nil {
		return requests
	}
	for i := range all.Items {
		if other := &all.Items[i]; other.Name != changed.GetName() && other.Status.ClusterUID == fenced {
			requests = append(requests, findJobs(ctx, r.Hub, client.MatchingFields{jobsInNeed: other.Name})...)
		}
	}
	return requests
}

// unplacedIn are the PooledJobs of a namespace that wait for a cluster to be chosen.
func (r *PooledJobReconciler) unplacedIn(ctx context.Context, namespace client.Object) []reconcile.Request {
	return findJobs(ctx, r.Hub, client.MatchingFields{jobsInNeed: anyCluster}, client.InNamespace(namespace.GetName()))
}

// usabilityChanged passes what may let waiting PooledJobs go on, or changes what
// they wait for.
func usabilityChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok := e.ObjectOld.(*v1alpha1.ClusterConnection)
		after, ok2 := e.ObjectNew.(*v1alpha1.ClusterConnection)
		if !ok || !ok2 {
			return false
		}
		was := meta.FindStatusCondition(before.Status.Conditions, v1alpha1.ConditionReady)
		is := meta.FindStatusCondition(after.Status.Conditions, v1alpha1.ConditionReady)
		return before.Generation != after.Generation ||
			!maps.Equal(before.Labels, after.Labels) ||
			before.Annotations[v1alpha1.AnnotationFenced] != after.Annotations[v1alpha1.AnnotationFenced] ||
			(was == nil) != (is == nil) ||
			(was != nil && (was.Status != is.Status || was.Reason != is.Reason))
	}}
}
