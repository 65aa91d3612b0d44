// Package logs is what the log API needs of the hub and of the targets: which Job a PooledJob has,
// the way to its cluster, and a certificate that the hub's API server trusts.
//
// It reads PooledJobs and ClusterConnections, and the kubeconfigs of these, and writes none of
// them: it may run in a process of its own, with rights of its own.
package logs

import (
	"context"
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/connpool"
	"github.com/pooledjob/pooledjob/internal/connpool/streams"
	"github.com/pooledjob/pooledjob/internal/hubcache"
	"github.com/pooledjob/pooledjob/internal/jobstatus"
	"github.com/pooledjob/pooledjob/internal/logserver"
)

// +kubebuilder:rbac:groups=pooledjob.io,resources=clusterconnections;pooledjobs,verbs=get;list;watch
// +kubebuilder:rbac:groups="",namespace=pooledjob-system,resources=configmaps,verbs=get
// +kubebuilder:rbac:groups="",namespace=pooledjob-system,resources=secrets,verbs=get;list;watch

// Backend is the log API's way to the hub and to the targets. It writes no PooledJob, works in
// every replica, and so has connections of its own.
type Backend struct {
	hub        client.Reader // answers from the manager's cache
	pooledJobs *hubcache.Reader
	namespace  string
	streams    *streams.Streams

	mu       sync.Mutex
	watchers map[types.NamespacedName]map[chan struct{}]struct{}
}

var _ logserver.Backend = (*Backend)(nil)

// Options say how the log API reaches the hub and the targets.
type Options struct {
	// Namespace is the manager's own.
	Namespace string
	// HubID marks the remote objects of this installation.
	HubID string
	// PooledJobs is the source of the manager's cache.
	PooledJobs *hubcache.Reader
	// Pool are the settings of connections.
	Pool connpool.Options
	// Metrics is where the figures are registered; nil is nowhere.
	Metrics prometheus.Registerer
}

// streamOptions returns those of the connections for logs.
func streamOptions(o Options) streams.Options {
	pool := o.Pool.WithDefaults()
	return streams.Options{
		Selector: v1alpha1.LabelHub + "=" + o.HubID, KeyLabel: v1alpha1.LabelUID, Transport: pool.Transport(),
		ProbeTimeout: pool.ProbeTimeout, RequestTimeout: pool.RequestTimeout, MinBackoff: pool.MinBackoff, MaxBackoff: pool.MaxBackoff,
	}
}

// NewBackend makes the backend of the log API. Its connections live until ctx is done.
func NewBackend(ctx context.Context, mgr ctrl.Manager, options Options) (*Backend, error) {
	b := &Backend{
		hub: mgr.GetClient(), pooledJobs: options.PooledJobs, namespace: options.Namespace,
		streams: streams.New(ctx, streamOptions(options)), watchers: map[types.NamespacedName]map[chan struct{}]struct{}{},
	}
	if options.Metrics != nil {
		if err := options.Metrics.Register(b.streams); err != nil {
			return nil, fmt.Errorf("metrics: %w", err)
		}
	}
	informer, err := mgr.GetCache().GetInformer(ctx, &v1alpha1.PooledJob{})
	if err != nil {
		return nil, fmt.Errorf("the cache of PooledJobs: %w", err)
	}
	_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    b.changed,
		UpdateFunc: func(_, obj any) { b.changed(obj) },
		DeleteFunc: b.changed,
	})
	if err != nil {
		return nil, fmt.Errorf("the cache of PooledJobs: %w", err)
	}
	return b, nil
}

// changed wakes those who watch a PooledJob.
func (b *Backend) changed(obj any) {
	if gone, ok := obj.(toolscache.DeletedFinalStateUnknown); ok {
		obj = gone.Obj
	}
	job, ok := obj.(*v1alpha1.PooledJob)
	if !ok {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for watcher := range b.watchers[client.ObjectKeyFromObject(job)] {
		select {
		case watcher <- struct{}{}:
		default: // it will look anyway
		}
	}
}

// Watch implements logserver.Backend.
func (b *Backend) Watch(namespace, name string) (changed <-chan struct{}, stop func()) {
	key, watcher := types.NamespacedName{Namespace: namespace, Name: name}, make(chan struct{}, 1)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.watchers[key] == nil {
		b.watchers[key] = map[chan struct{}]struct{}{}
	}
	b.watchers[key][watcher] = struct{}{}
	return watcher, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.watchers[key], watcher)
		if len(b.watchers[key]) == 0 {
			delete(b.watchers, key)
		}
	}
}

// Run implements logserver.Backend.
func (b *Backend) Run(ctx context.Context, namespace, name string) (logserver.Run, error) {
	job, err := b.pooledJobs.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name})
	switch {
	case apierrors.IsNotFound(err):
		return logserver.Run{}, err
	case err != nil:
		return logserver.Run{}, apierrors.NewServiceUnavailable(fmt.Sprintf("the manager cannot read PooledJob %q: %v", name, err))
	}
	run := logserver.Run{
		UID: string(job.UID), Connection: job.Status.ClusterName, ClusterUID: job.Status.ClusterUID,
		Ended: jobstatus.Finished(&job.Status), State: stateOf(job),
	}
	if run.Ended {
		run.Speaker, run.Stopped = job.Status.Result.PodName, wasStopped(job)
	}
	if ref := job.Status.JobRef; jobstatus.Dispatched(&job.Status) {
		run.Namespace, run.JobUID = ref.Namespace, string(ref.UID)
	}
	return run, nil
}

// wasStopped reports whether a run ended because it was stopped.
func wasStopped(job *v1alpha1.PooledJob) bool {
	failed := meta.FindStatusCondition(job.Status.Conditions, v1alpha1.ConditionFailed)
	return failed != nil && (failed.Reason == v1alpha1.ReasonCancelled || failed.Reason == batchv1.JobReasonDeadlineExceeded)
}

// stateOf returns a sentence about the state of a run.
func stateOf(job *v1alpha1.PooledJob) string {
	if len(job.Status.Conditions) == 0 {
		return "The manager has not seen it yet."
	}
	for _, kind := range []string{v1alpha1.ConditionComplete, v1alpha1.ConditionFailed} {
		if c := meta.FindStatusCondition(job.Status.Conditions, kind); c != nil && c.Status == metav1.ConditionTrue {
			return fmt.Sprintf("It is %s (%s): %s", job.Status.Phase, c.Reason, c.Message)
		}
	}
	for _, kind := range []string{v1alpha1.ConditionAccepted, v1alpha1.ConditionDispatched} {
		if c := meta.FindStatusCondition(job.Status.Conditions, kind); c != nil && c.Status != metav1.ConditionTrue {
			return fmt.Sprintf("It is %s (%s): %s", job.Status.Phase, c.Reason, c.Message)
		}
	}
	return fmt.Sprintf("It is %s.", job.Status.Phase)
}

// Open implements logserver.Backend.
func (b *Backend) Open(ctx context.Context, run logserver.Run) (logserver.Target, error) {
	way := &target{backend: b, run: run}
	if _, err := way.identityNow(ctx); err != nil {
		return nil, err
	}
	connection := &v1alpha1.ClusterConnection{}
	if err := b.hub.Get(ctx, client.ObjectKey{Name: run.Connection}, connection); err == nil &&
		meta.IsStatusConditionFalse(connection.Status.Conditions, v1alpha1.ConditionReachable) {
		// The leader knows by its probes what it would take us long to find out.
		return nil, apierrors.NewServiceUnavailable(fmt.Sprintf("the cluster of ClusterConnection %q is not reachable; its conditions say why", run.Connection))
	}
	return way, nil
}
