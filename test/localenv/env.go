package localenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/fixtures"
	"github.com/pooledjob/pooledjob/test/localcluster"
)

const (
	// Namespace is the manager's.
	Namespace = "pooledjob-system"

	// ManagerUser is whom the manager acts as on the hub.
	ManagerUser = "system:serviceaccount:" + Namespace + ":pooledjob-manager"
	// LogsUser is whom a process acts as on the hub that serves only logs.
	LogsUser = "system:serviceaccount:" + Namespace + ":pooledjob-logs"
	// TargetUser is whom it acts as on the targets.
	TargetUser = "pooledjob"

	targetRole = "pooledjob-target"
)

// Options say what to start.
type Options struct {
	// Targets is the number of target clusters; they are named target-1 and so
	// on, and the hub has a kubeconfig Secret of that name for each.
	Targets int
	// Dir receives kubeconfigs, logs and state. It must be empty or absent.
	Dir string
	// NoManager leaves it to the caller to launch managers.
	NoManager bool
	// ManagerProgram is the manager's file; without it that of `make build`.
	ManagerProgram string
	// RealNodes gives each target a node that runs Pods as they are, in place of two
	// simulated ones; localcluster.RealNodeProblem reports whether that can be had.
	RealNodes bool
	// Simulated has the targets only store objects: the caller plays their controllers.
	Simulated bool
	// Profiles has the managers serve profiles; see [Manager.Profile].
	Profiles bool
	// Logs has the managers serve the log API, and the hub pass requests on to the
	// environment's.
	Logs bool
	// Audit has the API servers write down requests.
	Audit bool
	// TargetFlags are further flags of the targets' API servers, without dashes.
	TargetFlags map[string]string
	// Kubeconfig makes the kubeconfig by which the manager, as that user, reaches the
	// hub or a target; without it the cluster's own. It is called while the
	// environment starts, and for the hub at each launch of a manager.
	Kubeconfig func(ctx context.Context, cluster *Cluster, user string) ([]byte, error)
	// Progress, if not nil, receives a line for each step.
	Progress io.Writer
}

// Env is a running hub with its targets and a manager.
type Env struct {
	// Hub and Targets are the clusters.
	Hub     *Cluster
	Targets []*Cluster
	// Root is the folder of the repository.
	Root string

	options Options
	manager *Manager
}

// Cluster is a cluster with what is needed to work with it.
type Cluster struct {
	*localcluster.Cluster
	// Client acts as administrator.
	Client client.Client
	// KubeconfigPath is a file with the administrator's kubeconfig.
	KubeconfigPath string
}

// Start starts everything, and returns when the manager is ready. After an error
// nothing is left running.
func Start(ctx context.Context, options Options) (*Env, error) {
	root, err := localcluster.ModuleRoot()
	if err != nil {
		return nil, err
	}
	if options.Kubeconfig == nil {
		options.Kubeconfig = func(_ context.Context, cluster *Cluster, user string) ([]byte, error) {
			return cluster.KubeconfigFor(user)
		}
	}
	if options.ManagerProgram == "" {
		options.ManagerProgram = filepath.Join(root, "bin", "manager")
	}
	e := &Env{Root: root, options: options}
	if err := e.start(ctx); err != nil {
		return nil, errors.Join(err, e.Stop())
	}
	return e, nil
}

func (e *Env) start(ctx context.Context) error {
	e.progress("starting one hub and %d targets", e.options.Targets)
	if err := e.startClusters(ctx); err != nil {
		return err
	}
	e.progress("installing CRDs and roles on the hub, and an identity for the manager on each target")
	if err := e.installHub(ctx); err != nil {
		return fmt.Errorf("installing on the hub: %w", err)
	}
	for _, target := range e.Targets {
		if err := e.installTarget(ctx, target); err != nil {
			return fmt.Errorf("installing on %s: %w", target.Name(), err)
		}
	}
	if e.options.NoManager {
		return nil
	}
	e.progress("starting the manager")
	return e.StartManager(ctx)
}

// Stop ends the manager and the clusters.
func (e *Env) Stop() error {
	errs := []error{e.StopManager()}
	for _, cluster := range append(e.Targets, e.Hub) {
		if cluster != nil {
			errs = append(errs, cluster.Stop())
		}
	}
	return errors.Join(errs...)
}

// WaitConnected waits until every ClusterConnection is Ready.
func (e *Env) WaitConnected(ctx context.Context) error {
	err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		var list v1alpha1.ClusterConnectionList
		if err := e.Hub.Client.List(ctx, &list); err != nil {
			return false, err
		}
		notReady := func(c v1alpha1.ClusterConnection) bool {
			return !meta.IsStatusConditionTrue(c.Status.Conditions, v1alpha1.ConditionReady)
		}
		return !slices.ContainsFunc(list.Items, notReady), nil
	})
	if err != nil {
		return fmt.Errorf("waiting for the connections; see `kubectl get clusterconnections`: %w", err)
	}
	return nil
}

func (e *Env) progress(format string, args ...any) {
	if e.options.Progress != nil {
		fmt.Fprintf(e.options.Progress, format+"\n", args...)
	}
}

// startClusters starts all clusters at once.
func (e *Env) startClusters(ctx context.Context) error {
	type started struct {
		index   int
		cluster *Cluster
		err     error
	}
	results := make(chan started)
	for i := range e.options.Targets + 1 {
		go func() {
			options := localcluster.Options{Name: "hub", Audit: e.options.Audit}
			if i > 0 {
				options = e.targetOptions(i, e.options.RealNodes)
			}
			cluster, err := e.startCluster(ctx, options)
			results <- started{i, cluster, err}
		}()
	}
	e.Targets = make([]*Cluster, e.options.Targets)
	var errs []error
	for range e.options.Targets + 1 {
		r := <-results
		errs = append(errs, r.err)
		if r.index == 0 {
			e.Hub = r.cluster
		} else {
			e.Targets[r.index-1] = r.cluster
		}
	}
	return errors.Join(errs...)
}

func (e *Env) targetOptions(number int, realNode bool) localcluster.Options {
	options := localcluster.Options{
		Name: fmt.Sprintf("target-%d", number), Workloads: !e.options.Simulated, Audit: e.options.Audit, APIServerFlags: e.options.TargetFlags,
	}
	switch {
	case e.options.Simulated:
	case realNode:
		options.RealNode = true
	default:
		options.Nodes = 2
	}
	return options
}

func (e *Env) startCluster(ctx context.Context, options localcluster.Options) (*Cluster, error) {
	options.Dir = filepath.Join(e.options.Dir, options.Name)
	cluster, err := localcluster.Start(ctx, options)
	if err != nil {
		return nil, err
	}
	started := &Cluster{Cluster: cluster, KubeconfigPath: filepath.Join(e.options.Dir, options.Name+".kubeconfig")}
	kubeconfig, err := cluster.Kubeconfig()
	if err == nil {
		err = os.WriteFile(started.KubeconfigPath, kubeconfig, 0o600)
	}
	if err == nil {
		started.Client, err = NewClient(cluster)
	}
	return started, err
}

// NewClient returns a client of a cluster's administrator that knows our types.
func NewClient(cluster *localcluster.Cluster) (client.Client, error) {
	c, err := client.New(cluster.Config(), client.Options{Scheme: fixtures.Scheme()})
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	return c, nil
}

// installHub applies what config/default has, but for the Deployment: the manager
// is a process here.
func (e *Env) installHub(ctx context.Context) error {
	crds := envtest.CRDInstallOptions{Paths: []string{filepath.Join(e.Root, "config", "crd")}, ErrorIfPathMissing: true}
	if _, err := envtest.InstallCRDs(e.Hub.Config(), crds); err != nil {
		return fmt.Errorf("CRDs: %w", err)
	}
	if err := e.awaitServed(ctx); err != nil {
		return fmt.Errorf("CRDs: %w", err)
	}
	files := []string{filepath.Join(e.Root, "config", "manager", "namespace.yaml")}
	roles, err := filepath.Glob(filepath.Join(e.Root, "config", "rbac", "*.yaml"))
	if err != nil {
		return fmt.Errorf("roles: %w", err)
	}
	for _, file := range append(files, roles...) {
		if filepath.Base(file) == "kustomization.yaml" {
			continue
		}
		if err := Apply(ctx, e.Hub.Client, file); err != nil {
			return err
		}
	}
	if !e.options.Logs {
		return nil
	}
	return e.installLogs(ctx)
}

// awaitServed waits until the hub answers from its watch caches for what the CRDs define: while it
// makes them, which may be after a CRD is Established, it answers watches with 429.
func (e *Env) awaitServed(ctx context.Context) error {
	const patience = 30 * time.Second
	fromCache := &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: "0"}}
	var last error
	err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		last = errors.Join(e.Hub.Client.List(ctx, &v1alpha1.PooledJobList{}, fromCache), e.Hub.Client.List(ctx, &v1alpha1.ClusterConnectionList{}, fromCache))
		return last == nil, nil
	})
	return errors.Join(err, last)
}

// installTarget makes the identity that the manager uses on a target, and gives the
// hub its kubeconfig.
func (e *Env) installTarget(ctx context.Context, target *Cluster) error {
	if err := Apply(ctx, target.Client, filepath.Join(e.Root, "config", "target", "role.yaml")); err != nil {
		return err
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: targetRole},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: targetRole},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: TargetUser}},
	}
	if err := target.Client.Create(ctx, binding); err != nil {
		return fmt.Errorf("binding the role: %w", err)
	}
	for _, name := range []string{"team-a", "batch"} {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if err := target.Client.Create(ctx, namespace); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("creating namespace %s: %w", name, err)
		}
	}
	kubeconfig, err := e.options.Kubeconfig(ctx, target, TargetUser)
	if err != nil {
		return err
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: target.Name()},
		Data:       map[string][]byte{"kubeconfig": kubeconfig},
	}
	if err := e.Hub.Client.Create(ctx, secret); err != nil {
		return fmt.Errorf("creating the kubeconfig Secret: %w", err)
	}
	return nil
}
