// Command manager is the PooledJob operator: one process that keeps one connection
// to each target cluster and runs PooledJobs there.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	stdlog "log"
	"os"
	"time"

	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/manager/signals"

	"github.com/pooledjob/pooledjob/internal/connpool"
	"github.com/pooledjob/pooledjob/internal/logserver"
)

// version is the version of the manager; set with -ldflags -X.
var version = "dev"

// namespaceEnv is where a Pod finds its namespace, by the downward API.
const namespaceEnv = "POD_NAMESPACE"

// The orphan policies.
const (
	orphanReport = "Report"
	orphanDelete = "Delete"
)

// Options are the manager's flags.
type Options struct {
	// Namespace is the manager's own: of the kubeconfig Secrets, the hub ID and
	// the leader election's Lease.
	Namespace string
	// MetricsAddress and HealthAddress are the addresses to listen on; "0"
	// disables the metrics.
	MetricsAddress, HealthAddress string
	// PprofAddress is the address to serve profiles of this process on; "0" disables
	// that.
	PprofAddress string
	// LogsAddress is the address to serve logs on; "0" disables that.
	LogsAddress string
	// Logs bounds the logs that are served at a time.
	Logs logserver.Limits
	// Controllers runs PooledJobs; without it the process serves logs only.
	Controllers bool
	// LeaderElect makes several managers of one hub take turns.
	LeaderElect bool
	// Workers is how many PooledJobs are reconciled at once.
	Workers int
	// ShutdownTimeout bounds the time for reconciles to end after a signal.
	ShutdownTimeout time.Duration
	// CredentialExpiryWarning is how long before its end a credential is warned
	// about.
	CredentialExpiryWarning time.Duration
	// OrphanPolicy says what is done about Jobs on targets that no PooledJob stands
	// behind: orphanReport or orphanDelete.
	OrphanPolicy string
	// Target are the settings of the connections to the targets.
	Target connpool.Options

	logging zap.Options
}

func (o *Options) addFlags(flags *flag.FlagSet) {
	flags.StringVar(&o.Namespace, "namespace", os.Getenv(namespaceEnv),
		"The manager's own namespace, where kubeconfig Secrets are. Defaults to $"+namespaceEnv+".")
	flags.StringVar(&o.MetricsAddress, "metrics-bind-address", ":8080", "Address of the metrics endpoint; 0 disables it.")
	flags.StringVar(&o.HealthAddress, "health-probe-bind-address", ":8081", "Address of /healthz and /readyz.")
	flags.StringVar(&o.PprofAddress, "pprof-bind-address", "0",
		"Address of /debug/pprof/, such as 127.0.0.1:6060; 0 disables it. It asks nobody who they are.")
	flags.StringVar(&o.LogsAddress, "logs-bind-address", "0", "Address of the log API, such as :8443; 0 disables it.")
	flags.IntVar(&o.Logs.PerUser, "logs-per-user", 100, "How many logs one user may read or follow at once, in each replica.")
	flags.IntVar(&o.Logs.PerNamespace, "logs-per-namespace", 150, "How many logs of the PooledJobs of one namespace may be read or followed at once, in each replica.")
	flags.IntVar(&o.Logs.Total, "logs-total", 400, "How many logs may be read or followed at once, in each replica.")
	flags.IntVar(&o.Logs.PerConnection, "logs-per-connection", 200, "How many logs of one ClusterConnection may be read or followed at once, in each replica.")
	flags.BoolVar(&o.Controllers, "controllers", true, "Run PooledJobs. Without it the process serves the log API only.")
	flags.BoolVar(&o.LeaderElect, "leader-elect", false, "Let one of several managers act at a time. Needed with more than one replica.")
	flags.IntVar(&o.Workers, "workers", 256, "How many PooledJobs are reconciled at once.")
	flags.DurationVar(&o.ShutdownTimeout, "shutdown-timeout", 20*time.Second, "How long reconciles may take to end after a signal.")
	flags.DurationVar(&o.CredentialExpiryWarning, "credential-expiry-warning", 7*24*time.Hour,
		"How long before its end a credential is warned about.")
	flags.StringVar(&o.OrphanPolicy, "orphan-policy", orphanReport,
		"What is done about Jobs on targets that have this hub's ID and no PooledJob: Report or Delete.")
	o.addTargetFlags(flags)
	o.logging.BindFlags(flags)
}

// addTargetFlags adds the settings of connections, with the pool's defaults; why
// those are what they are is said at connpool.Options.
func (o *Options) addTargetFlags(flags *flag.FlagSet) {
	o.Target = connpool.Options{}.WithDefaults()
	for _, f := range []struct {
		value       *time.Duration
		name, usage string
	}{
		{&o.Target.DialTimeout, "target-dial-timeout", "How long making a TCP connection to a target may take."},
		{&o.Target.TLSHandshakeTimeout, "target-tls-handshake-timeout", "How long the TLS handshake with a target may take."},
		{&o.Target.PingInterval, "target-ping-interval", "How long a connection may be silent before it is pinged."},
		{&o.Target.PingTimeout, "target-ping-timeout", "How long the answer to a ping may take before the connection is closed."},
		{&o.Target.ProbeInterval, "target-probe-interval", "The time between two probes of a target's /readyz."},
		{&o.Target.ProbeTimeout, "target-probe-timeout", "How long a probe may take. After three failures in a row the target is Unreachable."},
		{&o.Target.RequestTimeout, "target-request-timeout", "How long a request to a target other than a watch may take."},
	} {
		flags.DurationVar(f.value, f.name, *f.value, f.usage)
	}
	flags.IntVar(&o.Target.MaxInFlight, "target-max-in-flight", o.Target.MaxInFlight,
		"How many requests to one target may be under way at once, at most 90. spec.maxInFlight of a ClusterConnection wins.")
	flags.IntVar(&o.Target.MaxMemory, "target-max-memory-bytes", o.Target.MaxMemory,
		"How much memory the Jobs and Pods of one target may take, in bytes, beside 4 KiB for each of its PooledJobs. All targets together may take four times this number, beside 4 KiB for each PooledJob. A Job with its Pod counts about 800.")
	flags.IntVar(&o.Target.QPS, "target-qps", o.Target.QPS,
		"How many requests may be sent to one target per second; 0 is no bound. spec.qps of a ClusterConnection wins.")
}

func (o *Options) validate() error {
	if !o.Controllers && o.LogsAddress == "0" {
		return errors.New("--controllers is false and --logs-bind-address is 0: there is nothing to do")
	}
	if o.Namespace == "" {
		return errors.New("the manager does not know its namespace: set --namespace or $" + namespaceEnv)
	}
	if o.Workers < 1 {
		return fmt.Errorf("--workers is %d; it must be at least 1", o.Workers)
	}
	if err := o.Logs.Validate(); err != nil {
		return err
	}
	if o.CredentialExpiryWarning < 0 {
		return fmt.Errorf("--credential-expiry-warning is %s; it must not be negative", o.CredentialExpiryWarning)
	}
	if o.OrphanPolicy != orphanReport && o.OrphanPolicy != orphanDelete {
		return fmt.Errorf("--orphan-policy is %q; it must be %s or %s", o.OrphanPolicy, orphanReport, orphanDelete)
	}
	if err := o.Target.Validate(); err != nil {
		return fmt.Errorf("the --target flags: %w", err)
	}
	return nil
}

func main() {
	var options Options
	options.addFlags(flag.CommandLine)
	flag.Parse()
	log.SetLogger(zap.New(zap.UseFlagOptions(&options.logging)))
	klog.SetLogger(log.Log.WithName("kubernetes")) // its libraries' log
	stdlog.SetOutput(newStdlog())
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
