package localcluster

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// TestClusters runs all that needs a cluster on two that were started at once.
func TestClusters(t *testing.T) {
	clusters := startAll(t, Options{Name: "work", Workloads: true, Nodes: 3}, Options{Name: "store", Audit: true})
	work, store := clusters[0], clusters[1]

	t.Run("clusters share nothing", func(t *testing.T) {
		g := NewWithT(t)
		g.Expect(work.Config().Host).NotTo(Equal(store.Config().Host))
		_, err := clientOf(t, store).CoreV1().Namespaces().Create(t.Context(),
			&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "only-here"}}, metav1.CreateOptions{})
		g.Expect(err).NotTo(HaveOccurred())
		_, err = clientOf(t, work).CoreV1().Namespaces().Get(t.Context(), "only-here", metav1.GetOptions{})
		g.Expect(apierrors.IsNotFound(err)).To(BeTrue(), "%v", err)
		foreign := work.Config()
		foreign.Host = store.Config().Host
		foreign.CAData = store.Config().CAData
		_, err = clientFor(t, foreign).CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{})
		g.Expect(apierrors.IsUnauthorized(err)).To(BeTrue(), "a certificate of one cluster opened the other: %v", err)
	})
	t.Run("all nodes become ready, also later ones", func(t *testing.T) { testNodes(t, work) })
	t.Run("everything listens on loopback", func(t *testing.T) { testLoopback(t, work) })
	t.Run("kubeconfig holds its data", func(t *testing.T) { testKubeconfig(t, store) })
	t.Run("kubeconfig for a user is bound by RBAC", func(t *testing.T) { testUser(t, store) })
	t.Run("requests are written down", func(t *testing.T) { testAudit(t, store, work) })
	t.Run("jobs", func(t *testing.T) { testJobs(t, work) })
	t.Run("pods", func(t *testing.T) { testPods(t, work) })
	t.Run("programs can be stopped and started", func(t *testing.T) { testPrograms(t, work) })
	t.Run("programs can be paused", func(t *testing.T) { testPause(t, store) })
	t.Run("stop leaves nothing", func(t *testing.T) { testStop(t, clusters) })
}

// startAll starts clusters at the same time and stops them with the test.
func startAll(t *testing.T, options ...Options) []*Cluster {
	t.Helper()
	began := time.Now()
	clusters := make([]*Cluster, len(options))
	errs := make([]error, len(options))
	var starts sync.WaitGroup
	for i := range options {
		starts.Go(func() { clusters[i], errs[i] = Start(t.Context(), options[i]) })
	}
	starts.Wait()
	for i, cluster := range clusters {
		if errs[i] != nil {
			t.Error(errs[i])
			continue
		}
		t.Cleanup(func() {
			if err := cluster.Stop(); err != nil {
				t.Error(err)
			}
		})
	}
	if t.Failed() {
		t.FailNow()
	}
	t.Logf("%d clusters started in %v", len(clusters), time.Since(began).Round(time.Millisecond))
	return clusters
}

func testNodes(t *testing.T, cluster *Cluster) {
	g := NewWithT(t)
	client := clientOf(t, cluster).CoreV1().Nodes()
	nodes, err := client.List(t.Context(), metav1.ListOptions{})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(nodes.Items).To(HaveLen(3))

	_, err = client.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "late"}}, metav1.CreateOptions{})
	g.Expect(err).NotTo(HaveOccurred())
	g.Eventually(func(g Gomega) {
		node, err := client.Get(t.Context(), "late", metav1.GetOptions{})
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(ready(*node)).To(BeTrue())
	}).WithTimeout(patience).Should(Succeed())
}

func testKubeconfig(t *testing.T, cluster *Cluster) {
	g := NewWithT(t)
	data, err := cluster.Kubeconfig()
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(string(data)).NotTo(ContainSubstring(cluster.Dir()))
	g.Expect(string(data)).To(ContainSubstring("server: https://127.0.0.1:"))
	config, err := clientcmd.RESTConfigFromKubeConfig(data)
	g.Expect(err).NotTo(HaveOccurred())
	_, err = clientFor(t, config).CoreV1().Secrets("").List(t.Context(), metav1.ListOptions{})
	g.Expect(err).NotTo(HaveOccurred())
}

func testUser(t *testing.T, cluster *Cluster) {
	g := NewWithT(t)
	jane := clientAs(t, cluster, "jane", "testers").CoreV1().Nodes()
	_, err := jane.List(t.Context(), metav1.ListOptions{})
	g.Expect(apierrors.IsForbidden(err)).To(BeTrue(), "%v", err)

	rbac := clientOf(t, cluster).RbacV1()
	_, err = rbac.ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "see-nodes"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: []string{"list"}}},
	}, metav1.CreateOptions{})
	g.Expect(err).NotTo(HaveOccurred())
	_, err = rbac.ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "testers-see-nodes"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "see-nodes"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: "testers"}},
	}, metav1.CreateOptions{})
	g.Expect(err).NotTo(HaveOccurred())
	g.Eventually(func() error {
		_, err := jane.List(t.Context(), metav1.ListOptions{})
		return err
	}).WithTimeout(patience).Should(Succeed())

	_, err = cluster.KubeconfigFor("")
	g.Expect(err).To(MatchError(ContainSubstring("name of a user")))
}

func testPrograms(t *testing.T, cluster *Cluster) {
	g := NewWithT(t)
	client := clientOf(t, cluster)
	g.Expect(cluster.StopProgram(APIServer)).To(Succeed())
	_, err := client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	g.Expect(utilnet.IsConnectionRefused(err)).To(BeTrue(), "%v", err)
	g.Expect(cluster.StopProgram(Kwok)).To(Succeed())
	g.Expect(cluster.StopProgram(Kwok)).To(Succeed(), "a second stop")
	g.Expect(cluster.StartProgram(t.Context(), APIServer)).To(Succeed())

	createPod(t, client, newPod("without-kubelet", nil))
	g.Eventually(func(g Gomega) {
		pod, err := client.CoreV1().Pods(namespace).Get(t.Context(), "without-kubelet", metav1.GetOptions{})
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(pod.Spec.NodeName).NotTo(BeEmpty(), "the scheduler has not come back")
		g.Expect(pod.Status.Phase).To(Equal(corev1.PodPending))
	}).WithTimeout(patience).Should(Succeed())
	g.Expect(cluster.StartProgram(t.Context(), Kwok)).To(Succeed())
	awaitPod(t, client, "without-kubelet", corev1.PodSucceeded)

	createJob(t, client, newJob("after-restart", nil))
	awaitJob(t, client, "after-restart", batchv1.JobComplete)
	for _, program := range []Program{APIServer, Kwok} {
		g.Expect(cluster.StartProgram(t.Context(), program)).To(MatchError(ContainSubstring("stop it before")))
	}
	g.Expect(cluster.StopProgram("cloud")).To(MatchError(ContainSubstring("no program")))

	g.Expect(cluster.StopProgram(Etcd)).To(Succeed())
	_, err = client.CoreV1().Pods(namespace).Create(t.Context(), newPod("without-etcd", nil), metav1.CreateOptions{})
	g.Expect(err).To(HaveOccurred())
	g.Expect(utilnet.IsConnectionRefused(err)).To(BeFalse(), "the API server is there: %v", err)
	g.Expect(cluster.StartProgram(t.Context(), Etcd)).To(Succeed())
	g.Expect(cluster.StartProgram(t.Context(), Etcd)).To(MatchError(ContainSubstring("stop it before")))
	g.Eventually(func() error {
		_, err := client.CoreV1().Pods(namespace).Get(t.Context(), "without-kubelet", metav1.GetOptions{})
		return err
	}).WithTimeout(patience).Should(Succeed(), "what was stored before")
}

// testStop is the last test on the clusters: it ends them.
func testStop(t *testing.T, clusters []*Cluster) {
	for _, cluster := range clusters {
		g := NewWithT(t)
		pids := processesOf(t, cluster.Dir())
		want := 2
		if cluster.workloads {
			want = 5
		}
		g.Expect(pids).To(HaveLen(want), "processes of %s before its stop", cluster.Name())
		t.Logf("memory of %s: %v", cluster.Name(), memory(pids))
		// A client that still watches must not hold up the stop.
		_, err := clientOf(t, cluster).CoreV1().Pods("").Watch(t.Context(), metav1.ListOptions{})
		g.Expect(err).NotTo(HaveOccurred())
		began := time.Now()
		g.Expect(cluster.Stop()).To(Succeed())
		t.Logf("%s stopped in %v", cluster.Name(), time.Since(began).Round(time.Millisecond))
		g.Expect(cluster.Stop()).To(Succeed(), "a second stop")
		for pid, name := range pids {
			g.Expect(filepath.Join("/proc", pid)).NotTo(BeADirectory(), "%s still runs", name)
		}
		g.Expect(cluster.Dir()).NotTo(BeADirectory())
	}
}

// processesOf returns the IDs and names of the running programs whose flags name
// the folder, as those of all of a cluster's programs do.
func processesOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil || len(paths) == 0 {
		t.Skip("needs /proc")
	}
	found := map[string]string{}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			continue // it has just ended
		}
		if args := strings.Split(string(content), "\x00"); strings.Contains(string(content), dir+"/") {
			found[filepath.Base(filepath.Dir(path))] = filepath.Base(args[0])
		}
	}
	return found
}

// memory returns the memory of the processes, in MB, by their names. What several
// processes share, as the pages of the one binary, counts in equal parts.
func memory(pids map[string]string) map[string]int {
	sizes := map[string]int{}
	for pid, name := range pids {
		content, _ := os.ReadFile(filepath.Join("/proc", pid, "smaps_rollup"))
		for line := range strings.Lines(string(content)) {
			if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
				kilobytes, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
				sizes[name] = kilobytes / 1024
				sizes["all"] += kilobytes / 1024
			}
		}
	}
	return sizes
}

func clientOf(t *testing.T, cluster *Cluster) kubernetes.Interface {
	t.Helper()
	return clientFor(t, cluster.Config())
}

// clientAs returns a client of a user that has no rights but those that RBAC gives it.
func clientAs(t *testing.T, cluster *Cluster, user string, groups ...string) kubernetes.Interface {
	t.Helper()
	g := NewWithT(t)
	data, err := cluster.KubeconfigFor(user, groups...)
	g.Expect(err).NotTo(HaveOccurred())
	config, err := clientcmd.RESTConfigFromKubeConfig(data)
	g.Expect(err).NotTo(HaveOccurred())
	return clientFor(t, config)
}
