package main

import (
	"context"
	"fmt"
	"net"

	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/pooledjob/pooledjob/controllers/logs"
	"github.com/pooledjob/pooledjob/internal/hubcache"
	"github.com/pooledjob/pooledjob/internal/logserver"
)

// addLogs adds the log API, if there is to be one. Its connections live until ctx is done.
func addLogs(ctx context.Context, mgr ctrl.Manager, pooledJobs *hubcache.Reader, options *Options, hubID string) error {
	if options.LogsAddress == "0" {
		return nil
	}
	hub, err := kubernetes.NewForConfig(mgr.GetConfig())
	if err != nil {
		return fmt.Errorf("hub client: %w", err)
	}
	settings := options.forControllers(hubID, pooledJobs)
	backend, err := logs.NewBackend(ctx, mgr, logs.Options{
		Namespace: options.Namespace, HubID: hubID, PooledJobs: pooledJobs, Pool: settings.Pool, Metrics: metrics.Registry,
	})
	if err != nil {
		return err
	}
	certificate := logs.NewServingCertificate(mgr.GetClient(), mgr.GetAPIReader(), options.Namespace, clock.RealClock{})
	if err := mgr.Add(certificate); err != nil {
		return fmt.Errorf("the log API's certificate: %w", err)
	}
	server, err := logserver.New(backend, logserver.Options{
		Hub: hub, Certificate: certificate.Certificate, Log: log.Log.WithName("logs"),
		Limits: options.Logs,
	})
	if err != nil {
		return fmt.Errorf("the log API: %w", err)
	}
	if err := metrics.Registry.Register(server); err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	if err := mgr.Add(&logsRunnable{server: server, address: options.LogsAddress, ready: certificate.Ready()}); err != nil {
		return fmt.Errorf("the log API: %w", err)
	}
	return nil
}

// logsRunnable serves logs in every replica.
type logsRunnable struct {
	server  *logserver.Server
	address string
	ready   <-chan struct{} // nobody is let in before that
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (*logsRunnable) NeedLeaderElection() bool { return false }

// Start implements manager.Runnable.
func (r *logsRunnable) Start(ctx context.Context) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", r.address)
	if err != nil {
		return fmt.Errorf("--logs-bind-address: %w", err)
	}
	select {
	case <-r.ready:
	case <-ctx.Done():
	}
	return r.server.Serve(ctx, listener)
}
