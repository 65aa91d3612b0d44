package chaos

import (
	"context"
	"os"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/faultproxy"
	"github.com/pooledjob/pooledjob/test/fixtures"
	"github.com/pooledjob/pooledjob/test/localcluster"
	"github.com/pooledjob/pooledjob/test/localenv"
)

// The namespaces: that of the hub, and those of the targets.
const (
	team  = "team-a"
	batch = "batch"
	// late does not exist when a storm begins, never never does.
	late  = "late"
	never = "never"
)

const (
	firstToken = "token-0"
	// ourHub is the hub's ID.
	ourHub = "chaos-hub"
)

// cluster is a hub or a target with its proxy. Its client goes past the proxy.
type cluster struct {
	*localenv.Cluster
	client client.WithWatch
	proxy  *faultproxy.Proxy
}

// target is a cluster that runs Jobs.
type target struct {
	*cluster
	truth   *truth
	foreign *foreign
	// token is the one in the hub's Secret.
	token string
	// collects is when finished Jobs are collected there, troubles when the way is disturbed.
	collects collecting
	troubles spans
}

// world is what the suite started.
var world struct {
	env     *localenv.Env
	hub     *cluster
	targets []*target
	said    *sayings
	ledger  *ledger
	// troubles is when the manager does not run, or is disturbed as a whole.
	troubles spans

	mu      sync.Mutex
	proxies map[string]*faultproxy.Proxy
	manager *localenv.Manager // the one that acts alone; nil while there is none
	// running ends the trouble of there being none.
	running func()
}

func startWorld(ctx context.Context, dir string) {
	world.proxies = map[string]*faultproxy.Proxy{}
	env, err := localenv.Start(ctx, localenv.Options{
		Targets: 3, Dir: dir, NoManager: true, ManagerProgram: os.Getenv("CHAOS_MANAGER"), Audit: true,
		Kubeconfig: kubeconfigByProxy, Progress: GinkgoWriter,
	})
	Expect(err).NotTo(HaveOccurred())
	world.env = env
	DeferCleanup(func() {
		Expect(env.Stop()).To(Succeed())
		for _, proxy := range world.proxies {
			proxy.Stop()
		}
	})
	_, err = kubeconfigByProxy(ctx, env.Hub, localenv.ManagerUser)
	Expect(err).NotTo(HaveOccurred())
	world.hub = newCluster(env.Hub)
	for _, c := range env.Targets {
		world.targets = append(world.targets, &target{cluster: newCluster(c), token: firstToken})
	}
	installHub(ctx)
	world.ledger = newLedger()
	world.said = listen(ctx, world.hub.client)
	for _, t := range world.targets {
		t.truth = seekTruth(ctx, t.client)
		t.foreign = plantForeign(ctx, t.client)
	}
}

// kubeconfigByProxy leads the manager to a cluster by a proxy, which it starts at the
// first time.
func kubeconfigByProxy(ctx context.Context, c *localenv.Cluster, user string) ([]byte, error) {
	world.mu.Lock()
	defer world.mu.Unlock()
	proxy := world.proxies[c.Name()]
	if proxy == nil {
		behind, err := c.KubeconfigFor(user)
		if err != nil {
			return nil, err
		}
		config, err := clientcmd.RESTConfigFromKubeConfig(behind)
		if err != nil {
			return nil, err
		}
		if proxy, err = faultproxy.Start(context.WithoutCancel(ctx), c.Name(), config, firstToken); err != nil {
			return nil, err
		}
		world.proxies[c.Name()] = proxy
	}
	return proxy.Kubeconfig(firstToken)
}

func newCluster(c *localenv.Cluster) *cluster {
	return &cluster{Cluster: c, client: newClient(c.Config()), proxy: world.proxies[c.Name()]}
}

func newClient(config *rest.Config) client.WithWatch {
	config.QPS = -1
	// A server that is being restarted must not hold up the suite.
	config.Timeout = 0
	c, err := client.NewWithWatch(config, client.Options{Scheme: fixtures.Scheme()})
	Expect(err).NotTo(HaveOccurred())
	return c
}

// installHub makes the hub's namespace and the ClusterConnections.
func installHub(ctx context.Context) {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: team, Labels: map[string]string{"team": "a"}}}
	Expect(world.hub.client.Create(ctx, namespace)).To(Succeed())
	id := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: localenv.Namespace, Name: "pooledjob-hub"}, Data: map[string]string{"id": ourHub}}
	Expect(world.hub.client.Create(ctx, id)).To(Succeed())
	for _, t := range world.targets {
		connection := &v1alpha1.ClusterConnection{
			ObjectMeta: metav1.ObjectMeta{Name: t.Name()},
			Spec: v1alpha1.ClusterConnectionSpec{
				KubeconfigSecretRef: v1alpha1.SecretKeyReference{Name: t.Name()},
				Access: []v1alpha1.AccessRule{{
					HubNamespaces:    &v1alpha1.LabelSelector{MatchLabels: map[string]string{"team": "a"}},
					TargetNamespaces: v1alpha1.TargetNamespaces{Names: []string{team, batch, late, never}},
				}},
			},
		}
		Expect(world.hub.client.Create(ctx, connection)).To(Succeed())
	}
}

// startManager starts the one manager and waits until all targets are connected.
func startManager(ctx context.Context) {
	Expect(relaunch(ctx)).To(Succeed())
	awaitConnected(ctx)
	DeferCleanup(func() { Expect(killManager()).To(Succeed()) })
}

// relaunch starts the one manager.
func relaunch(ctx context.Context) error {
	manager, err := launch(ctx, "--leader-elect=false")
	world.mu.Lock()
	defer world.mu.Unlock()
	world.manager = manager
	if err == nil && world.running != nil {
		world.running()
		world.running = nil
	}
	return err
}

// theManager returns the one that acts alone.
func theManager() *localenv.Manager {
	world.mu.Lock()
	defer world.mu.Unlock()
	return world.manager
}

// killManager ends the one manager by SIGKILL, if it runs.
func killManager() error {
	world.mu.Lock()
	manager := world.manager
	world.manager = nil
	if world.running == nil {
		world.running = trouble()
	}
	world.mu.Unlock()
	return manager.Kill()
}

// awaitConnected waits until the current manager is connected to all targets: the
// conditions may still be those of its predecessor.
func awaitConnected(ctx context.Context) {
	for _, t := range world.targets {
		Eventually(t.proxy.Watches).WithContext(ctx).WithTimeout(2*time.Minute).Should(BeNumerically(">=", 2), "of Jobs and Pods of %s", t.Name())
	}
	Eventually(notReady).WithContext(ctx).WithTimeout(2 * time.Minute).Should(BeEmpty())
}

// notReady returns the ClusterConnections that are not Ready.
func notReady(ctx context.Context) ([]string, error) {
	var list v1alpha1.ClusterConnectionList
	if err := world.hub.client.List(ctx, &list); err != nil {
		return nil, err
	}
	var names []string
	for _, connection := range list.Items {
		if !meta.IsStatusConditionTrue(connection.Status.Conditions, v1alpha1.ConditionReady) {
			names = append(names, connection.Name)
		}
	}
	return names, nil
}

// heal ends whatever a spec that failed may have left broken.
func heal(ctx context.Context) {
	for _, c := range allClusters() {
		c.proxy.SetHook(nil)
		c.proxy.Heal()
	}
	for _, c := range allClusters() {
		// Both refuse when the program was not stopped.
		_ = c.StartProgram(ctx, localcluster.Etcd)
		_ = c.StartProgram(ctx, localcluster.APIServer)
	}
	if !CurrentSpecReport().Failed() {
		return
	}
	// What a failed spec left must not fail the next one.
	removeKept(ctx)
	for _, t := range world.targets {
		for _, namespace := range []string{team, batch, late} {
			Expect(t.client.DeleteAllOf(ctx, &batchv1.Job{}, client.InNamespace(namespace), client.MatchingLabels{v1alpha1.LabelHub: ourHub},
				client.PropagationPolicy(metav1.DeletePropagationBackground))).To(Succeed())
		}
	}
}

func allClusters() []*cluster {
	all := []*cluster{world.hub}
	for _, t := range world.targets {
		all = append(all, t.cluster)
	}
	return all
}

// removeAll deletes all PooledJobs, and expects that nothing of them is left.
func removeAll(ctx context.Context) {
	Eventually(func() error { // an API server stops the deletion of thousands after a minute
		return world.hub.client.DeleteAllOf(ctx, &v1alpha1.PooledJob{}, client.InNamespace(team))
	}).WithContext(ctx).WithTimeout(5 * time.Minute).WithPolling(time.Second).Should(Succeed())
	Eventually(remaining).WithContext(ctx).WithTimeout(3 * time.Minute).WithPolling(time.Second).Should(BeEmpty())
	removeKept(ctx)
	Expect(leftBehind(ctx)).To(BeEmpty(), "on the targets after all PooledJobs are gone")
}

// remaining returns the PooledJobs of the hub.
func remaining(ctx context.Context) ([]string, error) {
	var jobs v1alpha1.PooledJobList
	if err := world.hub.client.List(ctx, &jobs, client.InNamespace(team)); err != nil {
		return nil, err
	}
	names := make([]string, 0, len(jobs.Items))
	for i := range jobs.Items {
		names = append(names, jobs.Items[i].Name)
	}
	return names, nil
}

// leftBehind returns the Jobs and Pods on the targets that are not foreign, whatever labels
// they have.
func leftBehind(ctx context.Context) ([]string, error) {
	var left []string
	for _, t := range world.targets {
		var jobs batchv1.JobList
		var pods corev1.PodList
		for _, list := range []client.ObjectList{&jobs, &pods} {
			if err := t.client.List(ctx, list); err != nil {
				return nil, err
			}
		}
		for i := range jobs.Items {
			if name := jobs.Items[i].Name; !t.foreign.has(name) {
				left = append(left, t.Name()+" Job "+name)
			}
		}
		for i := range pods.Items {
			if name := pods.Items[i].Name; !t.foreign.has(name) {
				left = append(left, t.Name()+" Pod "+name)
			}
		}
	}
	return left, nil
}

// createOnHub creates a PooledJob, also while the hub is in trouble.
func createOnHub(ctx context.Context, job *v1alpha1.PooledJob) error {
	err := world.hub.client.Create(ctx, job)
	if apierrors.IsAlreadyExists(err) { // by a request whose answer was lost
		return world.hub.client.Get(ctx, client.ObjectKeyFromObject(job), job)
	}
	return err
}
