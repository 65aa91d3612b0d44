package controllers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/controllers/clusterconnection"
	"github.com/pooledjob/pooledjob/controllers/orphan"
	"github.com/pooledjob/pooledjob/controllers/pooledjob"
	"github.com/pooledjob/pooledjob/internal/connpool"
	"github.com/pooledjob/pooledjob/internal/hubcache"
	"github.com/pooledjob/pooledjob/internal/metrics"
	"github.com/pooledjob/pooledjob/internal/wakeup"
)

// Options say how the reconcilers work.
type Options struct {
	// Namespace is the manager's own.
	Namespace string
	// HubID marks the remote objects of this installation; see hubid.Ensure.
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
	Orphans orphan.Options
	// Metrics is where the figures are registered; nil is nowhere.
	Metrics prometheus.Registerer
	// Clock is where the time is read; nil is the system's.
	Clock clock.PassiveClock
}

// Setup adds the reconcilers to a manager that was made with CacheOptions. Their
// pool lives until ctx is done; wait blocks until it has closed every connection.
func Setup(ctx context.Context, mgr ctrl.Manager, options Options) (wait func(), err error) {
	if options.Clock == nil {
		options.Clock = clock.RealClock{}
	}
	if err := hubcache.AddIndexes(ctx, mgr.GetFieldIndexer(), options.HubID); err != nil {
		return nil, err
	}
	uids, err := hubcache.IndexUIDs(ctx, mgr.GetCache())
	if err != nil {
		return nil, err
	}
	wakeups := wakeup.New(mgr.GetClient(), uids, options.Clock)
	options.Pool.Selector = v1alpha1.LabelHub + "=" + options.HubID
	options.Pool.KeyLabel = v1alpha1.LabelUID
	options.Pool.OnState = wakeups.ConnectionChanged
	options.Pool.OnChange = wakeups.RemoteChanged
	tally, err := hubcache.NewTally(ctx, mgr.GetCache(), options.HubID)
	if err != nil {
		return nil, err
	}
	options.Pool.Runs = tally.Of
	pool := connpool.New(ctx, options.Pool)
	figures := metrics.New(options.PooledJobs)
	if options.Metrics != nil {
		if err := errors.Join(options.Metrics.Register(pool), figures.Register(options.Metrics)); err != nil {
			return nil, fmt.Errorf("metrics: %w", err)
		}
	}
	recorder := mgr.GetEventRecorder("pooledjob")

	connections := &clusterconnection.Reconciler{
		Hub: mgr.GetClient(), PooledJobs: options.PooledJobs, Connections: pool, Wakeups: wakeups,
		Namespace: options.Namespace, Recorder: recorder, Clock: options.Clock, ExpiryWarning: options.ExpiryWarning,
		HubID: options.HubID, Metrics: figures,
		Orphans: &orphan.Sweeper{
			Hub: mgr.GetClient(), UIDs: uids, PooledJobs: options.PooledJobs, Connections: pool, HubID: options.HubID,
			Options: options.Orphans.WithDefaults(), Recorder: recorder, Metrics: figures, Clock: options.Clock,
		},
	}
	if err := connections.SetupWithManager(mgr); err != nil {
		return nil, fmt.Errorf("ClusterConnection reconciler: %w", err)
	}
	jobs := &pooledjob.Reconciler{
		Hub: mgr.GetClient(), Live: mgr.GetAPIReader(), PooledJobs: options.PooledJobs, Connections: pool, Wakeups: wakeups,
		HubID: options.HubID, Recorder: recorder, Clock: options.Clock, Workers: options.Workers, Metrics: figures,
	}
	if err := jobs.SetupWithManager(ctx, mgr); err != nil {
		return nil, fmt.Errorf("PooledJob reconciler: %w", err)
	}
	return pool.Wait, nil
}
