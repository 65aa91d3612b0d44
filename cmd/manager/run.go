package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/controllers"
	"github.com/pooledjob/pooledjob/internal/connpool"
)

// +kubebuilder:rbac:groups=coordination.k8s.io,namespace=pooledjob-system,resources=leases,verbs=get;create;update
// +kubebuilder:rbac:groups=events.k8s.io,namespace=pooledjob-system,resources=events,verbs=create;patch

// leaseName is the Lease of the leader election.
const leaseName = "pooledjob-manager"

// run runs the manager until ctx is done or it cannot go on.
func run(ctx context.Context, options Options) error {
	mgr, err := newManager(options)
	if err != nil {
		return err
	}
	direct, err := client.New(mgr.GetConfig(), client.Options{Scheme: mgr.GetScheme()})
	if err != nil {
		return fmt.Errorf("hub client: %w", err)
	}
	hubID, err := controllers.HubID(ctx, direct, options.Namespace)
	if err != nil {
		return err
	}
	if err := controllers.AddIndexes(ctx, mgr.GetFieldIndexer()); err != nil {
		return err
	}
	// The pool ends after the manager: reconciles that are under way at the end
	// still have their connections.
	poolCtx, closePool := context.WithCancel(context.WithoutCancel(ctx))
	wakeups := controllers.NewWakeups(mgr.GetClient())
	pool := connpool.New(poolCtx, connpool.Options{
		Selector:  v1alpha1.LabelHub + "=" + hubID,
		KeyLabel:  v1alpha1.LabelUID,
		OnState:   wakeups.ConnectionChanged,
		OnChange:  wakeups.RemoteChanged,
		UserAgent: "pooledjob-manager/" + version,
		Log:       log.Log.WithName("connpool"),
	})
	defer func() {
		closePool()
		pool.Wait()
	}()
	if err := addReconcilers(mgr, pool, wakeups, hubID, options); err != nil {
		return err
	}
	log.Log.Info("Starting", "version", version, "hub", hubID, "namespace", options.Namespace)
	return mgr.Start(ctx)
}

func newManager(options Options) (ctrl.Manager, error) {
	config, err := ctrl.GetConfig()
	if err != nil {
		return nil, fmt.Errorf("finding the hub's API server: %w", err)
	}
	config.QPS = -1 // the hub's own priority and fairness decides
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("scheme: %w", err)
		}
	}
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:                        scheme,
		Metrics:                       server.Options{BindAddress: options.MetricsAddress},
		HealthProbeBindAddress:        options.HealthAddress,
		LeaderElection:                options.LeaderElect,
		LeaderElectionID:              leaseName,
		LeaderElectionNamespace:       options.Namespace,
		LeaderElectionReleaseOnCancel: true,
		GracefulShutdownTimeout:       &options.ShutdownTimeout,
		Cache:                         cacheOptions(options.Namespace),
	})
	if err != nil {
		return nil, fmt.Errorf("manager: %w", err)
	}
	return mgr, addChecks(mgr)
}

// cacheOptions keep Secrets of the manager's namespace only, and of namespaces
// nothing but their labels.
func cacheOptions(namespace string) cache.Options {
	return cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Secret{}: {Namespaces: map[string]cache.Config{namespace: {}}},
			&metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}}: {
				Transform: keepLabels,
			},
		},
	}
}

func keepLabels(obj any) (any, error) {
	if m, ok := obj.(*metav1.PartialObjectMetadata); ok {
		m.Annotations, m.ManagedFields = nil, nil
	}
	return obj, nil
}

func addChecks(mgr ctrl.Manager) error {
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return fmt.Errorf("health check: %w", err)
	}
	synced := func(req *http.Request) error {
		ctx, cancel := context.WithTimeout(req.Context(), time.Second)
		defer cancel()
		if !mgr.GetCache().WaitForCacheSync(ctx) {
			return fmt.Errorf("the view of the hub is not complete yet")
		}
		return nil
	}
	if err := mgr.AddReadyzCheck("hub", synced); err != nil {
		return fmt.Errorf("readiness check: %w", err)
	}
	return nil
}

func addReconcilers(mgr ctrl.Manager, pool *connpool.Pool, wakeups *controllers.Wakeups, hubID string, options Options) error {
	recorder := mgr.GetEventRecorder("pooledjob")
	connections := &controllers.ClusterConnectionReconciler{
		Hub: mgr.GetClient(), Connections: pool, Wakeups: wakeups, Namespace: options.Namespace, Recorder: recorder, Now: time.Now,
	}
	if err := connections.SetupWithManager(mgr); err != nil {
		return fmt.Errorf("ClusterConnection reconciler: %w", err)
	}
	jobs := &controllers.PooledJobReconciler{
		Hub: mgr.GetClient(), Live: mgr.GetAPIReader(), Connections: pool, Wakeups: wakeups,
		HubID: hubID, Recorder: recorder, Now: time.Now, Workers: options.Workers,
	}
	if err := jobs.SetupWithManager(mgr); err != nil {
		return fmt.Errorf("PooledJob reconciler: %w", err)
	}
	return nil
}
