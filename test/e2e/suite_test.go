package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/fixtures"
	"github.com/pooledjob/pooledjob/test/localcluster"
	"github.com/pooledjob/pooledjob/test/localenv"
	"github.com/pooledjob/pooledjob/test/samples"
)

var (
	root    string
	hub     client.WithWatch
	targets []client.WithWatch
	// local is not nil when the clusters are the suite's own.
	local *localenv.Env

	warnings warningLog
)

func TestE2E(t *testing.T) {
	localcluster.SkipIfShort(t)
	RegisterFailHandler(Fail)
	EnforceDefaultTimeoutsWhenUsingContexts()
	SetDefaultEventuallyTimeout(time.Minute)
	SetDefaultEventuallyPollingInterval(100 * time.Millisecond)
	SetDefaultConsistentlyDuration(2 * time.Second)
	RunSpecs(t, "End to end")
}

var _ = BeforeSuite(func(ctx context.Context) {
	var err error
	root, err = localcluster.ModuleRoot()
	Expect(err).NotTo(HaveOccurred())
	if path := os.Getenv("HUB_KUBECONFIG"); path != "" {
		useGivenClusters(ctx, path)
	} else {
		startClusters(ctx)
	}
	Expect(len(targets)).To(BeNumerically(">=", 2), "the samples need two targets")
	for _, file := range samples.Setup {
		Expect(localenv.Apply(ctx, hub, sample(file))).To(Succeed())
	}
	for _, name := range []string{"target-1", "target-2"} {
		connection := &v1alpha1.ClusterConnection{ObjectMeta: metav1.ObjectMeta{Name: name}}
		Eventually(latest(connection)).WithContext(ctx).Should(beReady())
	}
})

var _ = AfterSuite(func(ctx context.Context) {
	if hub == nil {
		return
	}
	removeEverything(ctx)
	if local != nil {
		if CurrentSpecReport().Failed() {
			AddReportEntry("manager log", local.ManagerLog())
		}
		Expect(local.Stop()).To(Succeed())
	}
})

// removeEverything deletes what the suite made, and makes sure that the operator
// left nothing of it on the targets.
func removeEverything(ctx context.Context) {
	for _, team := range []string{"team-a", "team-b"} {
		Expect(hub.DeleteAllOf(ctx, &v1alpha1.PooledJob{}, client.InNamespace(team))).To(Succeed())
	}
	Eventually(func(g Gomega) {
		for _, team := range []string{"team-a", "team-b"} {
			var jobs v1alpha1.PooledJobList
			g.Expect(hub.List(ctx, &jobs, client.InNamespace(team))).To(Succeed())
			g.Expect(jobs.Items).To(BeEmpty())
		}
	}).WithTimeout(2 * time.Minute).Should(Succeed())
	for _, name := range []string{"target-1", "target-2"} {
		connection := &v1alpha1.ClusterConnection{ObjectMeta: metav1.ObjectMeta{Name: name}}
		Expect(hub.Delete(ctx, connection)).To(Succeed())
		Eventually(gone(connection)).WithContext(ctx).Should(BeTrue())
	}
	for _, target := range targets {
		Expect(ours(ctx, target)).To(BeZero(), "Jobs and Pods with our label on a target")
	}
}

func startClusters(ctx context.Context) {
	dir, err := os.MkdirTemp("", "pooledjob-e2e-")
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(os.RemoveAll, dir)
	local, err = localenv.Start(ctx, localenv.Options{Targets: 2, Logs: true, Dir: dir, Progress: GinkgoWriter, Audit: true})
	Expect(err).NotTo(HaveOccurred())
	hub = newClient(local.Hub.Config())
	for _, target := range local.Targets {
		targets = append(targets, newClient(target.Config()))
	}
}

// useGivenClusters connects to clusters that somebody else made, and gives the hub
// their kubeconfigs.
func useGivenClusters(ctx context.Context, hubPath string) {
	hub = newClient(loadConfig(hubPath))
	paths := filepath.SplitList(os.Getenv("TARGET_KUBECONFIGS"))
	forHub := filepath.SplitList(os.Getenv("TARGET_KUBECONFIGS_FOR_HUB"))
	if len(forHub) == 0 {
		forHub = paths
	}
	Expect(forHub).To(HaveLen(len(paths)), "TARGET_KUBECONFIGS and TARGET_KUBECONFIGS_FOR_HUB name the same targets")
	for i, path := range paths {
		target := newClient(loadConfig(path))
		targets = append(targets, target)
		for _, name := range []string{"team-a", "batch"} {
			err := target.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
			Expect(client.IgnoreAlreadyExists(err)).To(Succeed())
		}
		kubeconfig, err := os.ReadFile(forHub[i])
		Expect(err).NotTo(HaveOccurred())
		secret := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: localenv.Namespace, Name: fmt.Sprintf("target-%d", i+1)},
			Data:       map[string][]byte{"kubeconfig": kubeconfig},
		}
		err = hub.Create(ctx, secret)
		if apierrors.IsAlreadyExists(err) {
			err = hub.Update(ctx, secret)
		}
		Expect(err).NotTo(HaveOccurred())
	}
}

func loadConfig(path string) *rest.Config {
	config, err := clientcmd.BuildConfigFromFlags("", path)
	Expect(err).NotTo(HaveOccurred())
	return config
}

// newClient returns a client that remembers the warnings that an API server sends.
func newClient(config *rest.Config) client.WithWatch {
	config.QPS = -1
	config.WarningHandlerWithContext = &warnings
	c, err := client.NewWithWatch(config, client.Options{Scheme: fixtures.Scheme()})
	Expect(err).NotTo(HaveOccurred())
	return c
}

// warningLog collects warnings: some clients take any output for failure.
type warningLog struct {
	mu   sync.Mutex
	seen []string
}

func (w *warningLog) HandleWarningHeaderWithContext(_ context.Context, _ int, _, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, text)
}

func (w *warningLog) all() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.seen...)
}

func sample(file string) string { return filepath.Join(root, "config", "samples", file) }
