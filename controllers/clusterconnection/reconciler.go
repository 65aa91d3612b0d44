package clusterconnection

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/semaphore"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/controllers/orphan"
	"github.com/pooledjob/pooledjob/internal/hubcache"
	"github.com/pooledjob/pooledjob/internal/jobstatus"
	"github.com/pooledjob/pooledjob/internal/metrics"
	"github.com/pooledjob/pooledjob/internal/requeue"
	"github.com/pooledjob/pooledjob/internal/wakeup"
)

const (
	// Workers is how many ClusterConnections are reconciled at once.
	Workers = 8
	// jobsPause is how long the change of a PooledJob waits for others before its
	// connection is looked at, which reads the kubeconfig again.
	jobsPause = time.Second
	// countInterval is the shortest time between two refreshes of status.jobs:
	// a counter must not cost a write per job.
	countInterval = 30 * time.Second
	// maxServer and maxVersion are the API's bounds on what a target says of
	// itself, in bytes.
	maxServer  = 2048
	maxVersion = 64
)

// Reconciler connects ClusterConnections and shows their state.
type Reconciler struct {
	// Hub reads from the manager's caches and writes to the hub.
	Hub client.Client
	// PooledJobs reads PooledJobs from the hub's API server itself.
	PooledJobs *hubcache.Reader
	// Connections is the pool.
	Connections Connections
	// Wakeups bring the pool's news.
	Wakeups *wakeup.Wakeups
	// Namespace is the manager's own: the only one that Secrets are read from.
	Namespace string
	// Recorder emits Events on transitions of connections.
	Recorder events.EventRecorder
	// Clock is where the time is read.
	Clock clock.PassiveClock
	// ExpiryWarning is how long before its end a credential is warned about.
	ExpiryWarning time.Duration
	// HubID marks the remote objects of this installation.
	HubID string
	// Orphans looks for Jobs that no PooledJob stands behind.
	Orphans *orphan.Sweeper
	// Metrics are the figures, which begin and end with a ClusterConnection.
	Metrics *metrics.Recorder

	memories memories
	// renewals bounds the requests for tokens.
	renewals *semaphore.Weighted
}

// +kubebuilder:rbac:groups=pooledjob.io,resources=clusterconnections,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=pooledjob.io,resources=clusterconnections/status,verbs=patch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch
// +kubebuilder:rbac:groups="",namespace=pooledjob-system,resources=secrets,verbs=get;list;patch;watch

// SetupWithManager registers the reconciler.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	r.renewals = semaphore.NewWeighted(MaxRenewals)
	return ctrl.NewControllerManagedBy(mgr).
		Named("clusterconnection").
		For(&v1alpha1.ClusterConnection{}).
		Watches(&v1alpha1.ClusterConnection{}, handler.EnqueueRequestsFromMapFunc(r.fencedBy), builder.WithPredicates(predicate.AnnotationChangedPredicate{})).
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(r.usersOfSecret)).
		Watches(&v1alpha1.PooledJob{}, r.afterJobs(), builder.WithPredicates(predicate.Funcs{UpdateFunc: r.jobCountChanged})).
		WatchesRawSource(&r.Wakeups.Connections).
		WithOptions(controller.Options{MaxConcurrentReconciles: Workers}).
		Complete(r)
}

// Reconcile makes the pool match one ClusterConnection, and its status the pool.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	r.Orphans.Begin()
	connection := &v1alpha1.ClusterConnection{}
	if err := r.Hub.Get(ctx, req.NamespacedName, connection); err != nil {
		if apierrors.IsNotFound(err) {
			r.forget(req.Name)
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	r.Metrics.Begin(req.Name)
	if connection.DeletionTimestamp.IsZero() {
		if err := r.addFinalizer(ctx, connection); err != nil {
			return requeue.Result(0, err)
		}
	}
	users, err := r.usersOfDeleted(ctx, connection)
	if err != nil {
		return ctrl.Result{}, err
	}
	if !connection.DeletionTimestamp.IsZero() && len(users) == 0 {
		return requeue.Result(0, r.finalize(ctx, connection))
	}
	before := connection.DeepCopy()
	writer := &connectionWriter{connection: connection, now: metav1.NewTime(r.Clock.Now()), warning: r.ExpiryWarning, users: users}
	m := r.memories.get(req.Name)
	if err := r.connect(ctx, connection, m, writer); err != nil {
		return ctrl.Result{}, err
	}
	// Before the connection may be put to sleep, which a look at it would end.
	sweepAgain, sweepErr := r.Orphans.Sweep(ctx, connection)
	countAgain, err := r.countJobs(ctx, connection, m)
	if err != nil {
		return ctrl.Result{}, err
	}
	sleepAgain, err := r.sleepIfIdle(ctx, connection, m)
	if err != nil {
		return ctrl.Result{}, err
	}
	fenced, err := hubcache.IsFenced(ctx, r.Hub, connection.Status.ClusterUID)
	if err != nil {
		return ctrl.Result{}, err
	}
	writer.seal(fenced)
	if err := r.patchStatus(ctx, before, connection, m); err != nil {
		return requeue.Result(0, err)
	}
	again := requeue.Earliest(requeue.Earliest(sweepAgain, countAgain), requeue.Earliest(sleepAgain, writer.again))
	return requeue.Result(again, sweepErr)
}

// forget closes a connection that is gone, and drops what was remembered of it.
func (r *Reconciler) forget(name string) {
	r.Connections.Disconnect(name)
	r.memories.forget(name)
	r.Orphans.Forget(name)
	r.Metrics.Forget(name)
}

func (r *Reconciler) addFinalizer(ctx context.Context, connection *v1alpha1.ClusterConnection) error {
	before := connection.DeepCopy()
	if !controllerutil.AddFinalizer(connection, v1alpha1.FinalizerClusterConnection) {
		return nil
	}
	if err := r.Hub.Patch(ctx, connection, lockedPatch(before)); err != nil {
		return fmt.Errorf("adding the finalizer: %w", err)
	}
	return nil
}

// finalize lets a deleted ClusterConnection go.
func (r *Reconciler) finalize(ctx context.Context, connection *v1alpha1.ClusterConnection) error {
	r.Connections.Disconnect(connection.Name)
	before := connection.DeepCopy()
	if !controllerutil.RemoveFinalizer(connection, v1alpha1.FinalizerClusterConnection) {
		return nil
	}
	if err := r.Hub.Patch(ctx, connection, lockedPatch(before)); err != nil {
		return client.IgnoreNotFound(fmt.Errorf("removing the finalizer: %w", err))
	}
	return nil
}

// usersOfDeleted returns the PooledJobs that a deleted connection is kept for, because
// they may have something to clean up on the target: as the cache has them or, when
// it has none, the hub's API server.
func (r *Reconciler) usersOfDeleted(ctx context.Context, connection *v1alpha1.ClusterConnection) ([]string, error) {
	if connection.DeletionTimestamp.IsZero() {
		return nil, nil
	}
	var jobs v1alpha1.PooledJobList
	if err := r.Hub.List(ctx, &jobs, client.MatchingFields{hubcache.JobsByCluster: connection.Name}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing PooledJobs of the connection: %w", err)
	}
	var users []string
	for i := range jobs.Items {
		users = r.appendUser(users, &jobs.Items[i], connection.Name)
	}
	if len(users) > 0 {
		return users, nil
	}
	err := r.PooledJobs.Each(ctx, func(job *v1alpha1.PooledJob) error {
		users = r.appendUser(users, job, connection.Name)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("listing PooledJobs: %w", err)
	}
	return users, nil
}

// appendUser appends the name of a PooledJob that may have something to clean up on a cluster.
func (r *Reconciler) appendUser(users []string, job *v1alpha1.PooledJob, cluster string) []string {
	if hubcache.ClusterOf(job, r.HubID) == cluster && controllerutil.ContainsFinalizer(job, v1alpha1.FinalizerPooledJob) {
		users = append(users, job.Namespace+"/"+job.Name)
	}
	return users
}

// patchStatus writes the status if it changed, and emits an Event if Ready did.
func (r *Reconciler) patchStatus(ctx context.Context, before, after *v1alpha1.ClusterConnection, m *memory) error {
	if equality.Semantic.DeepEqual(before.Status, after.Status) {
		return nil
	}
	if err := r.Hub.Status().Patch(ctx, after, lockedPatch(before)); err != nil {
		return client.IgnoreNotFound(fmt.Errorf("writing the status: %w", err))
	}
	for _, event := range transitions(before, after) {
		ofExpiry := event.reason == v1alpha1.ReasonExpiringSoon || event.reason == v1alpha1.ReasonTokenRenewalFailed
		if ofExpiry && !m.isFirstWarning(event.reason, after.Status.CredentialsExpireAt) {
			continue
		}
		r.Recorder.Eventf(after, nil, event.kind, event.reason, "Connect", "%s", jobstatus.Truncate(event.message, jobstatus.MaxEventNote))
	}
	return nil
}

// fencedBy returns the other ClusterConnections of the cluster that one states to be fenced. (Of a
// change, the object before is mapped, too.)
func (r *Reconciler) fencedBy(ctx context.Context, changed client.Object) []reconcile.Request {
	var requests []reconcile.Request
	for _, name := range hubcache.OthersFencedBy(ctx, r.Hub, changed) {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKey{Name: name}})
	}
	return requests
}

func (r *Reconciler) usersOfSecret(ctx context.Context, secret client.Object) []reconcile.Request {
	if secret.GetNamespace() != r.Namespace {
		return nil
	}
	var list v1alpha1.ClusterConnectionList
	if err := r.Hub.List(ctx, &list, client.MatchingFields{hubcache.ConnectionsBySecret: secret.GetName()}); err != nil {
		return nil // the caches have stopped
	}
	requests := make([]reconcile.Request, 0, len(list.Items))
	for i := range list.Items {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
	}
	return requests
}

// afterJobs has the connection of a PooledJob that changed looked at, once for all that
// change within jobsPause.
func (r *Reconciler) afterJobs() handler.EventHandler {
	type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]
	later := func(q queue, jobs ...client.Object) {
		for _, job := range jobs {
			if name := hubcache.ClusterOf(job, r.HubID); name != "" {
				q.AddAfter(reconcile.Request{NamespacedName: client.ObjectKey{Name: name}}, jobsPause)
			}
		}
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) { later(q, e.Object) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) { later(q, e.ObjectOld, e.ObjectNew) },
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) { later(q, e.Object) },
	}
}

// lockedPatch returns a merge patch that fails if the object was changed by another
// since it was read.
func lockedPatch(before client.Object) client.Patch {
	return client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
}
