package localcluster

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
)

// TestRealNode runs Pods as they are.
func TestRealNode(t *testing.T) {
	needRealNode(t)
	before := hostState(t)
	clusters := startAll(t, Options{Name: "real", Workloads: true, RealNode: true}, Options{Name: "other", Workloads: true, RealNode: true})
	cluster := clusters[0]
	client := clientOf(t, cluster)

	t.Run("a container prints, says why it ends, and ends so", func(t *testing.T) {
		g := NewWithT(t)
		createPod(t, client, realPod("says", corev1.Container{Args: []string{"-lines=3", "-line-bytes=10", "-message=why", "-exit=3"}}))
		state := ended(g, *awaitPod(t, client, "says", corev1.PodFailed))
		g.Expect(state.ExitCode).To(BeEquivalentTo(3))
		g.Expect(state.Message).To(Equal("why"))
		log, err := client.CoreV1().Pods(namespace).GetLogs("says", &corev1.PodLogOptions{}).DoRaw(t.Context())
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(string(log)).To(Equal("000001 xx\n000002 xx\n000003 xx\n"))
	})
	t.Run("a shell is there", func(t *testing.T) {
		if !HasBusybox() {
			t.Skip("no static busybox: on Debian, apt-get install busybox-static")
		}
		g := NewWithT(t)
		createPod(t, client, realPod("shell", corev1.Container{Image: BusyboxImage, Command: []string{"sh", "-c", "sleep 1; exit 4"}}))
		g.Expect(ended(g, *awaitPod(t, client, "shell", corev1.PodFailed)).ExitCode).To(BeEquivalentTo(4))
	})
	t.Run("a container that takes too much memory is killed", func(t *testing.T) {
		g := NewWithT(t)
		greedy := realPod("greedy", corev1.Container{Args: []string{"-allocate=200", "-sleep=1h"}})
		greedy.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("50Mi")}
		createPod(t, client, greedy)
		g.Expect(ended(g, *awaitPod(t, client, "greedy", corev1.PodFailed)).Reason).To(Equal("OOMKilled"))
	})
	// As anywhere, the kubelet keeps the log of one ended container.
	t.Run("the log before a restart can be had", func(t *testing.T) {
		g := NewWithT(t)
		again := realPod("again", corev1.Container{
			Args:         []string{"-lines=2000", "-fail-once=/state/failed", "-sleep=1h"},
			VolumeMounts: []corev1.VolumeMount{{Name: "state", MountPath: "/state"}},
		})
		again.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
		again.Spec.Volumes = []corev1.Volume{{Name: "state", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
		createPod(t, client, again)
		g.Eventually(func(g Gomega) {
			pod, err := client.CoreV1().Pods(namespace).Get(t.Context(), "again", metav1.GetOptions{})
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(pod.Status.ContainerStatuses).To(ConsistOf(And(HaveField("RestartCount", BeEquivalentTo(1)), HaveField("Ready", true))))
		}).WithTimeout(patience).Should(Succeed())
		for _, previous := range []bool{true, false} {
			g.Eventually(func(g Gomega) {
				log, err := client.CoreV1().Pods(namespace).GetLogs("again", &corev1.PodLogOptions{Previous: previous}).DoRaw(t.Context())
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(strings.Count(string(log), "\n")).To(Equal(2000), "previous: %t", previous)
			}).WithTimeout(patience).Should(Succeed())
		}
	})
	t.Run("two clusters run their own Pods", func(t *testing.T) {
		createPod(t, clientOf(t, clusters[1]), realPod("elsewhere", corev1.Container{Args: []string{"-sleep=100ms"}}))
		awaitPod(t, clientOf(t, clusters[1]), "elsewhere", corev1.PodSucceeded)
	})
	t.Run("stop ends every container and leaves nothing", func(t *testing.T) {
		g := NewWithT(t)
		g.Expect(startStubbornPod(cluster)).To(Succeed())
		g.Expect(containersOf(cluster.node.cgroup)).NotTo(BeEmpty())
		for _, c := range clusters {
			g.Expect(c.Stop()).To(Succeed())
			g.Expect(containersOf(c.node.cgroup)).To(BeEmpty())
			g.Expect(cgroupsOf(c.node.cgroup)).To(BeEmpty())
			g.Expect(c.Dir()).NotTo(BeADirectory())
		}
		g.Expect(hostState(t)).To(Equal(before))
	})
}

func TestNoContainerOutlivesAKilledParent(t *testing.T) {
	needRealNode(t)
	g := NewWithT(t)
	before := hostState(t)
	parent, output := startParentToBeKilled(t, oneRealNode)
	dir := folderFrom(t, output)
	g.Expect(output.Scan()).To(BeTrue())
	cgroup := output.Text()
	g.Expect(containersOf(cgroup)).NotTo(BeEmpty())
	g.Expect(cgroupsOf(cgroup)).NotTo(BeEmpty())

	g.Expect(parent.Process.Kill()).To(Succeed())
	g.Expect(parent.Wait()).NotTo(Succeed())
	g.Eventually(func() map[string]string { return processesOf(t, dir) }).WithTimeout(10 * time.Second).Should(BeEmpty())
	g.Eventually(func() []string { return containersOf(cgroup) }).WithTimeout(5 * time.Second).Should(BeEmpty())
	g.Eventually(func() []string { return cgroupsOf(cgroup) }).WithTimeout(5 * time.Second).Should(BeEmpty())
	g.Expect(hostState(t)).To(Equal(before))
}

func TestStartQuotesTheLogOfACrashedKubelet(t *testing.T) {
	needRealNode(t)
	g := NewWithT(t)
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	before := hostState(t)
	assets := assetsWith(t, Etcd, APIServer, ControllerManager, Scheduler, keeper)
	g.Expect(os.WriteFile(filepath.Join(assets, string(Kubelet)), []byte("#!/bin/sh\necho 'the flags are wrong' >&2; exit 3\n"), 0o755)).To(Succeed())
	_, err := Start(t.Context(), Options{AssetsDir: assets, Workloads: true, RealNode: true})
	g.Expect(err).To(MatchError(And(ContainSubstring("kubelet ended by itself: exit code 3"), ContainSubstring("the flags are wrong"))))
	g.Expect(processesOf(t, temp)).To(BeEmpty())
	g.Expect(os.ReadDir(temp)).To(BeEmpty(), "temporary files left")
	g.Expect(hostState(t)).To(Equal(before))
}

func needRealNode(t *testing.T) {
	t.Helper()
	if problem := RealNodeProblem(); problem != nil {
		t.Skip(problem)
	}
}

// startStubbornPod starts a Pod that does not stop by itself, on a real node even at
// SIGTERM.
func startStubbornPod(cluster *Cluster) error {
	client, err := kubernetes.NewForConfig(cluster.Config())
	if err != nil {
		return err
	}
	pod := realPod("stubborn", corev1.Container{Args: []string{"-sleep=1h", "-on-term=ignore"}})
	pod.Annotations = map[string]string{DurationAnnotation: "1h"}
	ctx := context.Background()
	if _, err := client.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		return err
	}
	return wait.PollUntilContextTimeout(ctx, pollInterval, patience, true, func(ctx context.Context) (bool, error) {
		pod, err := client.CoreV1().Pods(namespace).Get(ctx, "stubborn", metav1.GetOptions{})
		return err == nil && pod.Status.Phase == corev1.PodRunning, err
	})
}

// containersOf returns the command lines of the processes in cgroups with that in their
// names.
func containersOf(cgroup string) []string {
	paths, _ := filepath.Glob("/proc/[0-9]*/cgroup")
	var found []string
	for _, path := range paths {
		if content, err := os.ReadFile(path); err == nil && strings.Contains(string(content), "/"+cgroup) {
			line, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
			found = append(found, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}

// cgroupsOf returns the folders of the cgroups of that name.
func cgroupsOf(name string) []string {
	first, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup", name))
	second, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup/*", name))
	return append(first, second...)
}

// hostState returns what a node could leave on the host: mounts, network interfaces, folders
// of container runtimes, and kernel settings.
func hostState(t *testing.T) []string {
	t.Helper()
	var state []string
	mounts, err := os.ReadFile("/proc/self/mounts")
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	state = append(state, string(mounts))
	interfaces, err := net.Interfaces()
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	for _, i := range interfaces {
		state = append(state, i.Name)
	}
	for _, path := range []string{
		"/run/containerd", "/run/containerd-state", "/run/netns", "/run/runc", "/opt/containerd", "/var/lib/cni", "/var/lib/containerd",
		"/var/lib/kubelet", "/var/log/containers", "/var/log/pods", "/usr/libexec/kubernetes",
	} {
		_, err := os.Stat(path)
		state = append(state, fmt.Sprintf("%s: %v", path, err == nil))
	}
	for _, path := range []string{"vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys"} {
		content, _ := os.ReadFile(filepath.Join("/proc/sys", path))
		state = append(state, path+" "+string(content))
	}
	return state
}

// realPod returns a Pod of one container, with the test image if it names none.
func realPod(name string, container corev1.Container) *corev1.Pod {
	container.Name = "main"
	if container.Image == "" {
		container.Image = TestImage
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{container}},
	}
}
