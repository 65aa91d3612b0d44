package pooledjob

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/controllers/pooledjob/decision"
	"github.com/pooledjob/pooledjob/internal/binding"
	"github.com/pooledjob/pooledjob/internal/connpool"
	"github.com/pooledjob/pooledjob/internal/hubcache"
	"github.com/pooledjob/pooledjob/internal/jobspec"
	"github.com/pooledjob/pooledjob/internal/jobstatus"
	"github.com/pooledjob/pooledjob/internal/metrics"
	"github.com/pooledjob/pooledjob/internal/requeue"
	"github.com/pooledjob/pooledjob/internal/wakeup"
)

// minBackoff is the wait after a first error; it doubles up to decision.MaxRetry.
const minBackoff = 100 * time.Millisecond

func newRetries() workqueue.TypedRateLimiter[reconcile.Request] {
	return workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](minBackoff, decision.MaxRetry)
}

// Connections is what the reconciler needs of the pool.
type Connections interface {
	// Lease lends the named connection to the run of that key, or says at once why
	// it cannot.
	Lease(name, key string) (*connpool.Lease, error)
}

// Reconciler runs PooledJobs.
type Reconciler struct {
	// Hub reads from the manager's caches and writes to the hub.
	Hub client.Client
	// Live reads from the hub's API server itself, and PooledJobs does so of PooledJobs.
	Live       client.Reader
	PooledJobs *hubcache.Reader
	// Connections is the pool.
	Connections Connections
	// Wakeups bring the pool's news.
	Wakeups *wakeup.Wakeups
	// HubID marks the remote objects of this installation.
	HubID string
	// Recorder emits Events on failed runs.
	Recorder events.EventRecorder
	// Clock is where the time is read.
	Clock clock.PassiveClock
	// Workers is how many PooledJobs are reconciled at once.
	Workers int
	// Metrics are the figures.
	Metrics *metrics.Recorder

	memories   memories
	placements placements
	eventTurns turns    // to read Events of a cluster
	collecting sync.Map // clusters that delete finished Jobs all the same, and were reported
	offload    *offload
	arrivals   wakeup.Moments[types.UID] // of new PooledJobs that have no Job yet
	process    string                    // this one, among all that there ever are
}

// +kubebuilder:rbac:groups=pooledjob.io,resources=pooledjobs,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=pooledjob.io,resources=pooledjobs/status,verbs=patch
// +kubebuilder:rbac:groups="",resources=namespaces,verbs=get;list;watch

// SetupWithManager registers the reconciler.
func (r *Reconciler) SetupWithManager(ctx context.Context, mgr ctrl.Manager) error {
	jobs, err := mgr.GetCache().GetInformer(ctx, &v1alpha1.PooledJob{})
	if err != nil {
		return fmt.Errorf("informer of PooledJobs: %w", err)
	}
	if _, err := jobs.AddEventHandler(r.placements.handler()); err != nil {
		return fmt.Errorf("counting placements: %w", err)
	}
	r.process, r.placements.hubID = string(uuid.NewUUID()), r.HubID
	r.offload = newOffload(&r.Wakeups.Jobs)
	if err := mgr.Add(r.offload); err != nil {
		return fmt.Errorf("adding what waits for reconciles: %w", err)
	}
	return ctrl.NewControllerManagedBy(mgr).
		Named("pooledjob").
		For(&v1alpha1.PooledJob{}, builder.WithPredicates(r.noteArrivals())).
		Watches(&v1alpha1.ClusterConnection{}, handler.EnqueueRequestsFromMapFunc(r.jobsOfConnection), builder.WithPredicates(usabilityChanged())).
		// The access rules go by a namespace's labels.
		WatchesMetadata(&corev1.Namespace{}, handler.EnqueueRequestsFromMapFunc(r.unplacedIn), builder.WithPredicates(predicate.LabelChangedPredicate{})).
		WatchesRawSource(&r.Wakeups.Jobs).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: r.Workers,
			RateLimiter:             newRetries(),
		}).
		Complete(r)
}

// Reconcile brings one PooledJob a step further.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	return r.offload.do(ctx, req, r.reconcile)
}

func (r *Reconciler) reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	wokenAt := r.Wakeups.TakeWoken(req.NamespacedName) // before anything is read: what comes later is news
	job := &v1alpha1.PooledJob{}
	if err := r.Hub.Get(ctx, req.NamespacedName, job); err != nil {
		if apierrors.IsNotFound(err) {
			r.memories.forget(req.NamespacedName)
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	job = r.memories.latest(job)
	_, bound, intact := jobspec.RunOf(r.HubID, job).Bound(binding.Intent{})
	if job.DeletionTimestamp.IsZero() && jobstatus.Finished(&job.Status) && (intact || !bound || job.Status.JobRef.UID == "") {
		return r.expire(ctx, job) // it must not wake a connection that is idle
	}
	s, lease, err := r.gather(ctx, job)
	if err != nil {
		return ctrl.Result{}, err
	}
	run := &run{
		Reconciler: r, Snapshot: s, lease: lease,
		before: job.Status.DeepCopy(), writer: jobstatus.NewWriter(job, s.Time), wokenAt: wokenAt,
	}
	decision := decision.Decide(s)
	logf.FromContext(ctx).V(1).Info("Decided", "rule", decision.Rule, "action", decision.Verb.String(), "cluster", s.Cluster)
	after, err := run.act(ctx, decision)
	wait, writeErr := run.writeStatus(ctx)
	return asResult(requeue.Earliest(after, wait), cmp.Or(err, writeErr))
}

// asResult returns requeue.Result, but a conflict on the target is a failure.
func asResult(after time.Duration, err error) (ctrl.Result, error) {
	var failed *targetError
	if errors.As(err, &failed) {
		return ctrl.Result{}, err
	}
	return requeue.Result(after, err)
}

// jobsOfConnection returns the PooledJobs that need a connection, those that need any, and those
// whose cluster it states to be fenced, whichever connection they have. (Of a change, the
// object before is mapped, too.)
func (r *Reconciler) jobsOfConnection(ctx context.Context, changed client.Object) []reconcile.Request {
	requests := append(hubcache.FindJobs(ctx, r.Hub, client.MatchingFields{hubcache.JobsInNeed: changed.GetName()}),
		hubcache.FindJobs(ctx, r.Hub, client.MatchingFields{hubcache.JobsInNeed: hubcache.AnyCluster})...)
	for _, name := range hubcache.OthersFencedBy(ctx, r.Hub, changed) {
		requests = append(requests, hubcache.FindJobs(ctx, r.Hub, client.MatchingFields{hubcache.JobsInNeed: name})...)
	}
	return requests
}

// unplacedIn returns the PooledJobs of a namespace that wait for a cluster to be chosen.
func (r *Reconciler) unplacedIn(ctx context.Context, namespace client.Object) []reconcile.Request {
	return hubcache.FindJobs(ctx, r.Hub, client.MatchingFields{hubcache.JobsInNeed: hubcache.AnyCluster}, client.InNamespace(namespace.GetName()))
}

// noteArrivals passes everything. It notes when this process sees a new PooledJob, before
// that can be reconciled: its creationTimestamp has whole seconds, by another clock. Those
// that are there when the reconciler starts are not new.
func (r *Reconciler) noteArrivals() predicate.Predicate {
	return predicate.Funcs{
		CreateFunc: func(e event.CreateEvent) bool {
			if !e.IsInInitialList {
				r.arrivals.Note(e.Object.GetUID(), r.Clock.Now())
			}
			return true
		},
		DeleteFunc: func(e event.DeleteEvent) bool {
			r.arrivals.Take(e.Object.GetUID())
			return true
		},
	}
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
