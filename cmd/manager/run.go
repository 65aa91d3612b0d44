package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"time"

	apiruntime "k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/controllers"
	"github.com/pooledjob/pooledjob/controllers/orphan"
	"github.com/pooledjob/pooledjob/internal/hubcache"
	"github.com/pooledjob/pooledjob/internal/hubid"
)

// +kubebuilder:rbac:groups="",namespace=pooledjob-system,resources=events,verbs=create;patch
// +kubebuilder:rbac:groups=coordination.k8s.io,namespace=pooledjob-system,resources=leases,verbs=get;create;update

// leaseName is the Lease of the leader election.
const leaseName = "pooledjob-manager"

// run runs the manager until ctx is done or it cannot go on.
func run(ctx context.Context, options Options) error {
	mgr, pooledJobs, err := newManager(options)
	if err != nil {
		return err
	}
	direct, err := client.New(mgr.GetConfig(), client.Options{Scheme: mgr.GetScheme()})
	if err != nil {
		return fmt.Errorf("hub client: %w", err)
	}
	hubID, err := findHubID(ctx, &options, direct, pooledJobs)
	if err != nil {
		return err
	}
	// The pool ends after the manager: a reconcile that ends with it still records
	// what became of its requests.
	poolCtx, closePool := context.WithCancel(context.WithoutCancel(ctx))
	defer closePool()
	wait := func() {}
	if options.Controllers {
		if wait, err = controllers.Setup(poolCtx, mgr, options.forControllers(hubID, pooledJobs)); err != nil {
			return err
		}
	}
	if err := addLogs(poolCtx, mgr, pooledJobs, &options, hubID); err != nil {
		return err
	}
	defer func() {
		closePool()
		wait()
	}()
	log.Log.Info("Starting", "version", version, "hub", hubID, "namespace", options.Namespace)
	if err := mgr.Start(ctx); err != nil {
		return fmt.Errorf("running: %w", err)
	}
	return nil
}

func findHubID(ctx context.Context, options *Options, hub client.Client, pooledJobs *hubcache.Reader) (string, error) {
	if options.Controllers {
		return hubid.Ensure(ctx, hub, pooledJobs, options.Namespace)
	}
	return hubid.Await(log.IntoContext(ctx, log.Log), hub, options.Namespace)
}

// forControllers returns what the flags ask of the reconcilers and of their pool.
func (o *Options) forControllers(hubID string, pooledJobs *hubcache.Reader) controllers.Options {
	pool := o.Target
	pool.UserAgent, pool.Log = "pooledjob-manager/"+version, log.Log.WithName("connpool")
	return controllers.Options{
		Namespace:     o.Namespace,
		HubID:         hubID,
		PooledJobs:    pooledJobs,
		Workers:       o.Workers,
		Pool:          pool,
		ExpiryWarning: o.CredentialExpiryWarning,
		Orphans:       orphan.Options{Delete: o.OrphanPolicy == orphanDelete},
		Metrics:       metrics.Registry,
	}
}

func newManager(options Options) (ctrl.Manager, *hubcache.Reader, error) {
	config, err := ctrl.GetConfig()
	if err != nil {
		return nil, nil, fmt.Errorf("finding the hub's API server: %w", err)
	}
	config.QPS = -1 // the hub's own priority and fairness decides
	countOnly(config.Host)
	scheme := apiruntime.NewScheme()
	for _, add := range []func(*apiruntime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, nil, fmt.Errorf("scheme: %w", err)
		}
	}
	if options.PprofAddress != "" && options.PprofAddress != "0" {
		profileContention()
	}
	pooledJobs, err := hubcache.NewReader(config, scheme, options.Controllers)
	if err != nil {
		return nil, nil, fmt.Errorf("hub: %w", err)
	}
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:                        scheme,
		Metrics:                       server.Options{BindAddress: options.MetricsAddress},
		HealthProbeBindAddress:        options.HealthAddress,
		PprofBindAddress:              options.PprofAddress,
		LeaderElection:                options.LeaderElect && options.Controllers,
		LeaderElectionID:              leaseName,
		LeaderElectionNamespace:       options.Namespace,
		LeaderElectionReleaseOnCancel: true,
		GracefulShutdownTimeout:       &options.ShutdownTimeout,
		Cache:                         hubcache.CacheOptions(options.Namespace, pooledJobs, options.Controllers),
	})
	if err != nil {
		return nil, nil, fmt.Errorf("manager: %w", err)
	}
	return mgr, pooledJobs, addChecks(mgr)
}

// profileContention has the profiles of blocking and of mutexes, which are empty
// otherwise, sample as much as a busy manager does not notice: on average once for each
// millisecond that a goroutine was blocked, and one of 100 contended unlocks.
func profileContention() {
	runtime.SetBlockProfileRate(int(time.Millisecond))
	runtime.SetMutexProfileFraction(100)
}

func addChecks(mgr ctrl.Manager) error {
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return fmt.Errorf("health check: %w", err)
	}
	synced := func(req *http.Request) error {
		ctx, cancel := context.WithTimeout(req.Context(), time.Second)
		defer cancel()
		if !mgr.GetCache().WaitForCacheSync(ctx) {
			return errors.New("the view of the hub is not complete yet")
		}
		return nil
	}
	if err := mgr.AddReadyzCheck("hub", synced); err != nil {
		return fmt.Errorf("readiness check: %w", err)
	}
	return nil
}
