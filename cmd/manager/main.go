// Command manager is the PooledJob operator: one process that keeps one connection
// to each target cluster and runs PooledJobs there.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/manager/signals"
)

// version is the version of the manager; set with -ldflags -X.
var version = "dev"

// namespaceEnv is where a Pod finds its namespace, by the downward API.
const namespaceEnv = "POD_NAMESPACE"

// Options are the manager's flags.
type Options struct {
	// Namespace is the manager's own: of the kubeconfig Secrets, the hub ID and
	// the leader election's Lease.
	Namespace string
	// MetricsAddress and HealthAddress are the addresses to listen on; "0"
	// disables the metrics.
	MetricsAddress, HealthAddress string
	// LeaderElect makes several managers of one hub take turns.
	LeaderElect bool
	// Workers is how many PooledJobs are reconciled at once.
	Workers int
	// ShutdownTimeout bounds the time for reconciles to end after a signal.
	ShutdownTimeout time.Duration

	logging zap.Options
}

func (o *Options) addFlags(flags *flag.FlagSet) {
	flags.StringVar(&o.Namespace, "namespace", os.Getenv(namespaceEnv),
		"The manager's own namespace, where kubeconfig Secrets are. Defaults to $"+namespaceEnv+".")
	flags.StringVar(&o.MetricsAddress, "metrics-bind-address", ":8080", "Address of the metrics endpoint; 0 disables it.")
	flags.StringVar(&o.HealthAddress, "health-probe-bind-address", ":8081", "Address of /healthz and /readyz.")
	flags.BoolVar(&o.LeaderElect, "leader-elect", false, "Let one of several managers act at a time. Needed with more than one replica.")
	flags.IntVar(&o.Workers, "workers", 256, "How many PooledJobs are reconciled at once.")
	flags.DurationVar(&o.ShutdownTimeout, "shutdown-timeout", 20*time.Second, "How long reconciles may take to end after a signal.")
	o.logging.BindFlags(flags)
}

func (o *Options) validate() error {
	if o.Namespace == "" {
		return errors.New("the manager does not know its namespace: set --namespace or $" + namespaceEnv)
	}
	if o.Workers < 1 {
		return fmt.Errorf("--workers is %d; it must be at least 1", o.Workers)
	}
	return nil
}

func main() {
	var options Options
	options.addFlags(flag.CommandLine)
	flag.Parse()
	log.SetLogger(zap.New(zap.UseFlagOptions(&options.logging)))
	if err := start(signals.SetupSignalHandler(), options); err != nil {
		log.Log.Error(err, "The manager has stopped")
		os.Exit(1)
	}
}

func start(ctx context.Context, options Options) error {
	if err := options.validate(); err != nil {
		return err
	}
	return run(ctx, options)
}
