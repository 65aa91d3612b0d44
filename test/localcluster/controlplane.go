package localcluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

const (
	// startAttempts is how often a control plane is tried: a port that was free
	// when it was chosen can be taken when the program comes to listen on it.
	startAttempts = 3

	// stopTimeout is how long etcd and the API server may take to end before
	// they are killed.
	stopTimeout = 10 * time.Second

	portTaken = "address already in use"
)

// startControlPlane starts etcd and the API server on free ports and waits until
// both are healthy.
func (c *Cluster) startControlPlane(ctx context.Context) error {
	var err error
	for attempt := range startAttempts {
		var retry bool
		if retry, err = c.tryControlPlane(ctx, attempt); err == nil || !retry {
			return err
		}
		if stopErr := c.plane.Stop(); stopErr != nil {
			return errors.Join(err, stopErr)
		}
	}
	return err
}

// tryControlPlane starts etcd and the API server once. retry tells that another
// attempt, with other ports, may do better.
func (c *Cluster) tryControlPlane(ctx context.Context, attempt int) (retry bool, err error) {
	state := filepath.Join(c.dir, fmt.Sprintf("state-%d", attempt))
	c.plane = &envtest.ControlPlane{
		Etcd: &envtest.Etcd{
			Path:        c.programPath(Etcd),
			DataDir:     filepath.Join(state, string(Etcd)),
			StopTimeout: stopTimeout,
		},
		APIServer: &envtest.APIServer{
			Path:        c.programPath(APIServer),
			CertDir:     filepath.Join(state, string(APIServer)),
			StopTimeout: stopTimeout,
		},
	}
	for _, dir := range []string{c.plane.Etcd.DataDir, c.plane.APIServer.CertDir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return false, fmt.Errorf("creating the cluster's state: %w", err)
		}
	}
	if c.realNode {
		c.configureKubeletClient()
	}
	if err := c.configureAggregation(); err != nil {
		return false, err
	}
	c.configureControlPlane()
	if err := c.configureAudit(); err != nil {
		return false, err
	}
	if retry, err := c.startEtcd(ctx); err != nil {
		return retry, err
	}
	c.plane.APIServer.EtcdURL = c.plane.Etcd.URL
	return c.startAPIServer(ctx)
}

func (c *Cluster) startEtcd(ctx context.Context) (retry bool, err error) {
	log, err := openLog(c.logPath(Etcd))
	if err != nil {
		return false, err
	}
	defer log.Close() // the program has its own copy
	server := c.plane.Etcd
	server.Out, server.Err = log, log
	server.StartTimeout = timeLeft(ctx)
	return judgeStart(ctx, server.Start(), log.Name())
}

func (c *Cluster) startAPIServer(ctx context.Context) (retry bool, err error) {
	log, err := openLog(c.logPath(APIServer))
	if err != nil {
		return false, err
	}
	defer log.Close() // the program has its own copy
	server := c.plane.APIServer
	server.Out, server.Err = log, log
	server.StartTimeout = timeLeft(ctx)
	return judgeStart(ctx, server.Start(), log.Name())
}

// judgeStart completes the error of a start, which may also have been cancelled
// in the meantime: envtest knows no context.
func judgeStart(ctx context.Context, err error, log string) (retry bool, _ error) {
	if ctx.Err() != nil {
		return false, errors.Join(ctx.Err(), err)
	}
	if err == nil {
		return false, nil
	}
	quote := quoteLog(log)
	return strings.Contains(quote, portTaken), fmt.Errorf("%w%s", err, quote)
}

// configureControlPlane sets the flags that envtest's defaults lack or that
// differ from them.
func (c *Cluster) configureControlPlane() {
	// The state is thrown away: flushing it to disk only costs time.
	c.plane.Etcd.Configure().
		Set("unsafe-no-fsync", "true").
		Set("log-level", "warn")

	flags := c.plane.APIServer.Configure().
		Set("authorization-mode", "RBAC").
		Set("profiling", "false").
		// The API server refuses to publish a loopback address as its endpoint.
		Set("endpoint-reconciler-type", "none")
	if c.workloads {
		// No node lifecycle controller runs that would take the not-ready taint
		// off a node. The service account admission stays on: Pods get tokens.
		flags.Set("disable-admission-plugins", "TaintNodesByCondition")
	} else {
		// No controller makes the service accounts without which Pods are refused.
		flags.Set("disable-admission-plugins", "TaintNodesByCondition,ServiceAccount")
	}
	for name, value := range c.apiServerFlags {
		flags.Set(name, value)
	}
}

// newUser signs a client certificate and returns a configuration that uses it.
func (c *Cluster) newUser(name string, groups ...string) (*rest.Config, error) {
	// envtest's authority counts serial numbers without a lock.
	c.signing.Lock()
	defer c.signing.Unlock()
	user, err := c.plane.AddUser(envtest.User{Name: name, Groups: groups}, &rest.Config{QPS: clientQPS, Burst: clientBurst})
	if err != nil {
		return nil, fmt.Errorf("signing a client certificate for %q: %w", name, err)
	}
	return user.Config(), nil
}

// timeLeft returns the time until the context's deadline, which Start always sets.
func timeLeft(ctx context.Context) time.Duration {
	deadline, _ := ctx.Deadline()
	return max(time.Until(deadline), time.Millisecond)
}
