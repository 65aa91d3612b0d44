package localcluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

// startTimeout bounds a start. A cluster takes some seconds; several at once on
// a small machine take longer.
const startTimeout = 2 * time.Minute

// Cluster is a running cluster. Its methods may be called concurrently.
type Cluster struct {
	name           string
	dir            string
	temporary      bool // dir is ours to remove
	assets         string
	workloads      bool
	realNode       bool
	audit          bool
	apiServerFlags map[string]string

	plane   *envtest.ControlPlane
	node    *realNode // nil without one
	signing sync.Mutex
	admin   *rest.Config

	running    sync.Mutex // held while programs are started or stopped
	processes  []*process // those not started by envtest
	serverDown bool       // the API server was stopped alone
	etcdDown   bool       // etcd was stopped alone
	paused     []int      // processes that stand still
	ended      bool
	endErr     error
}

// Start starts a cluster and returns when it can be used. The context, and a
// limit of two minutes, bound the start only: the cluster runs until Stop. When
// Start fails, nothing of the cluster is left but the logs in Options.Dir.
func Start(ctx context.Context, options Options) (*Cluster, error) {
	options, err := options.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := tieToThisProcess(); err != nil {
		return nil, err
	}
	c := &Cluster{
		name:           options.Name,
		assets:         options.AssetsDir,
		workloads:      options.Workloads,
		realNode:       options.RealNode,
		audit:          options.Audit,
		apiServerFlags: options.APIServerFlags,
	}
	if err := c.createDir(options.Dir); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := c.start(ctx, options.Nodes); err != nil {
		// The cause of a failed stop is most likely the error of the start.
		return nil, errors.Join(fmt.Errorf("starting cluster %s: %w", c.name, err), c.shutDown())
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context, nodes int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if c.realNode {
		var err error
		if c.node, err = c.newRealNode(ctx); err != nil {
			return err
		}
	}
	if err := c.startControlPlane(ctx); err != nil {
		return err
	}
	admin, err := c.newUser("admin", adminGroup)
	if err != nil {
		return err
	}
	c.admin = admin
	if c.workloads {
		if err := c.startWorkloads(); err != nil {
			return err
		}
	}
	if c.realNode {
		if err := c.startRealNode(ctx); err != nil {
			return err
		}
	}
	return c.waitUntilUsable(ctx, nodes)
}

// Name returns the cluster's name from the Options.
func (c *Cluster) Name() string { return c.name }

// Dir returns the folder with the cluster's state, and with one log per program in
// its subfolder logs.
func (c *Cluster) Dir() string { return c.dir }

// Stop ends all of the cluster's processes and removes its temporary folder. It
// returns an error that names what is left, or that a program had crashed before.
// Further calls return the same.
func (c *Cluster) Stop() error {
	c.running.Lock()
	defer c.running.Unlock()
	if c.ended {
		return c.endErr
	}
	c.ended = true
	var errs []error
	for _, p := range c.processes {
		errs = append(errs, p.crashed())
	}
	if err := errors.Join(append(errs, c.shutDown())...); err != nil {
		c.endErr = fmt.Errorf("stopping cluster %s: %w", c.name, err)
	}
	return c.endErr
}

// shutDown ends whatever has been started.
func (c *Cluster) shutDown() error {
	errs := []error{c.resumeAll()}
	for _, p := range c.processes {
		errs = append(errs, p.kill())
	}
	if c.plane != nil {
		errs = append(errs, c.plane.Stop())
	}
	if c.temporary {
		if err := os.RemoveAll(c.dir); err != nil {
			errs = append(errs, fmt.Errorf("removing the cluster's folder: %w", err))
		}
	}
	return errors.Join(errs...)
}

// createDir makes the cluster's folder, a temporary one if none is given.
func (c *Cluster) createDir(given string) error {
	var err error
	if given == "" {
		c.temporary = true
		c.dir, err = os.MkdirTemp("", c.name+"-")
	} else {
		c.dir, err = emptyDir(given)
	}
	if err != nil {
		return fmt.Errorf("creating the folder of cluster %s: %w", c.name, err)
	}
	if err := os.Mkdir(c.logDir(), 0o755); err != nil {
		return fmt.Errorf("creating the folder of cluster %s: %w", c.name, err)
	}
	return nil
}

// emptyDir creates the folder. Files of an earlier cluster are refused: its
// certificates and state would not fit the new one.
func emptyDir(given string) (string, error) {
	dir, err := filepath.Abs(given)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	if len(entries) > 0 {
		return "", fmt.Errorf("%s is not empty: empty it or set another Options.Dir", dir)
	}
	return dir, nil
}

func (c *Cluster) logDir() string { return filepath.Join(c.dir, "logs") }

func (c *Cluster) logPath(program Program) string {
	return filepath.Join(c.logDir(), string(program)+".log")
}

func (c *Cluster) programPath(program Program) string {
	return filepath.Join(c.assets, string(program))
}
