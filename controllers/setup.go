package controllers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/connpool"
	"github.com/pooledjob/pooledjob/internal/hubcache"
	"github.com/pooledjob/pooledjob/internal/jobstatus"
)

// Options say how the reconcilers work.
type Options struct {
	// Namespace is the manager's own.
	Namespace string
	// HubID marks the remote objects of this installation; see HubID.
	HubID string
	// Workers is how many PooledJobs are reconciled at once, at least 1.
	Workers int
	// Pool are the pool's settings; what news it brings, of what, and of how many runs, is set
	// by Setup.
	Pool connpool.Options
	// PooledJobs is the source of the manager's cache, as given to CacheOptions.
	PooledJobs *hubcache.Reader
	// ExpiryWarning is how long before its end a credential is warned about.
	ExpiryWarning time.Duration
	// Orphans say what is done about Jobs that no PooledJob stands behind.
	Orphans OrphanOptions
	// Metrics is where the figures are registered; nil is nowhere.
	Metrics prometheus.Registerer
	// Now is the clock; nil is the system's.
	Now func() time.Time
}

// Setup adds the reconcilers to a manager that was made with CacheOptions. Their
// pool lives until ctx is done; wait blocks until it has closed every connection.
func Setup(ctx context.Context, mgr ctrl.Manager, options Options) (wait func(), err error) {
	if options.Now == nil {
		options.Now = time.Now
	}
	if err := addIndexes(ctx, mgr.GetFieldIndexer(), options.HubID); err != nil {
		return nil, err
	}
	wakeups := &Wakeups{hub: mgr.GetClient(), now: options.Now}
	options.Pool.Selector = v1alpha1.LabelHub + "=" + options.HubID
	options.Pool.KeyLabel = v1alpha1.LabelUID
	options.Pool.OnState = wakeups.connectionChanged
	options.Pool.OnChange = wakeups.remoteChanged
	tally, err := newRunTally(ctx, mgr, options.HubID)
	if err != nil {
		return nil, err
	}
	options.Pool.Runs = tally.of
	pool := connpool.New(ctx, options.Pool)
	figures := newMetrics(options.PooledJobs)
	if options.Metrics != nil {
		if err := errors.Join(options.Metrics.Register(pool), figures.register(options.Metrics)); err != nil {
			return nil, fmt.Errorf("metrics: %w", err)
		}
	}
	recorder := mgr.GetEventRecorder("pooledjob")

	connections := &ClusterConnectionReconciler{
		Hub: mgr.GetClient(), PooledJobs: options.PooledJobs, Connections: pool, Wakeups: wakeups,
		Namespace: options.Namespace, Recorder: recorder, Now: options.Now, ExpiryWarning: options.ExpiryWarning,
		HubID: options.HubID, Orphans: options.Orphans.withDefaults(), Metrics: figures,
	}
	if err := connections.SetupWithManager(mgr); err != nil {
		return nil, fmt.Errorf("ClusterConnection reconciler: %w", err)
	}
	jobs := &PooledJobReconciler{
		Hub: mgr.GetClient(), Live: mgr.GetAPIReader(), PooledJobs: options.PooledJobs, Connections: pool, Wakeups: wakeups,
		HubID: options.HubID, Recorder: recorder, Now: options.Now, Workers: options.Workers, Metrics: figures,
	}
	if err := jobs.SetupWithManager(ctx, mgr); err != nil {
		return nil, fmt.Errorf("PooledJob reconciler: %w", err)
	}
	return pool.Wait, nil
}

// CacheOptions make a manager keep no more of the hub than the reconcilers need:
// Secrets of its own namespace only, of namespaces nothing but their labels, and
// PooledJobs without templates, as the reader has them. Where no reconcilers run, only their
// names are kept.
func CacheOptions(namespace string, pooledJobs *hubcache.Reader, reconciles bool) cache.Options {
	transform := slim
	if !reconciles {
		transform = keepNames
	}
	return cache.Options{
		DefaultTransform: transform,
		NewInformer: func(source toolscache.ListerWatcher, example apiruntime.Object, resync time.Duration, indexers toolscache.Indexers) toolscache.SharedIndexInformer {
			if _, ok := example.(*v1alpha1.PooledJob); ok {
				source = pooledJobs.ListerWatcher()
			}
			return toolscache.NewSharedIndexInformer(source, example, resync, indexers)
		},
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Secret{}: {Namespaces: map[string]cache.Config{namespace: {}}},
			&metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}}: {
				Transform: keepLabels,
			},
		},
	}
}

// NewHubReader returns the source of the cache's PooledJobs. dispatches tells that their Jobs are
// created here, so that templates are kept until then.
func NewHubReader(config *rest.Config, scheme *apiruntime.Scheme, dispatches bool) (*hubcache.Reader, error) {
	return hubcache.NewReader(config, scheme, func(job *v1alpha1.PooledJob) bool {
		return dispatches && job.Status.JobRef.UID == "" && !jobstatus.Finished(&job.Status)
	})
}

// keepNames is slim, but keeps of a PooledJob only what those need to know that wait for its changes.
func keepNames(obj any) (any, error) {
	job, ok := obj.(*v1alpha1.PooledJob)
	if !ok {
		return slim(obj)
	}
	return &v1alpha1.PooledJob{
		TypeMeta:   job.TypeMeta,
		ObjectMeta: metav1.ObjectMeta{Namespace: job.Namespace, Name: job.Name, UID: job.UID, ResourceVersion: job.ResourceVersion},
	}, nil
}

func keepLabels(obj any) (any, error) {
	if m, ok := obj.(*metav1.PartialObjectMetadata); ok {
		m.Annotations, m.ManagedFields = nil, nil
	}
	return obj, nil
}
