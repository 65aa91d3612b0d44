package localcluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

const (
	// patience is how long a test waits for a state; a busy machine needs some.
	patience = 30 * time.Second

	manyJobs = 100
)

func testJobs(t *testing.T, cluster *Cluster) {
	client := clientOf(t, cluster)

	t.Run("a plain job succeeds", func(t *testing.T) {
		g := NewWithT(t)
		createJob(t, client, newJob("plain", nil))
		job := awaitJob(t, client, "plain", batchv1.JobComplete)
		g.Expect(job.Status.Succeeded).To(BeEquivalentTo(1))
		state := ended(g, podsOf(t, client, "plain")[0])
		g.Expect(state.ExitCode).To(BeZero())
		g.Expect(state.Reason).To(Equal("Completed"))
		g.Expect(state.FinishedAt.Sub(state.StartedAt.Time)).To(BeNumerically(">=", time.Second))
	})

	t.Run("a job fails with the exit code and message of its pod", func(t *testing.T) {
		g := NewWithT(t)
		createJob(t, client, newJob("failing", map[string]string{
			ExitCodeAnnotation: "3", MessageAnnotation: `line 1: "no such table"`, DurationAnnotation: "100ms",
		}))
		awaitJob(t, client, "failing", batchv1.JobFailed)
		pod := podsOf(t, client, "failing")[0]
		g.Expect(pod.Status.Phase).To(Equal(corev1.PodFailed))
		state := ended(g, pod)
		g.Expect(state.ExitCode).To(BeEquivalentTo(3))
		g.Expect(state.Reason).To(Equal("Error"))
		g.Expect(state.Message).To(Equal(`line 1: "no such table"`))
	})

	t.Run("a long job stays until a foreground deletion takes job and pods", func(t *testing.T) {
		g := NewWithT(t)
		createJob(t, client, newJob("long", map[string]string{DurationAnnotation: "1h"}))
		g.Eventually(func(g Gomega) {
			job, err := client.BatchV1().Jobs(namespace).Get(t.Context(), "long", metav1.GetOptions{})
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(job.Status.Ready).To(HaveValue(BeEquivalentTo(1)))
		}).WithTimeout(patience).Should(Succeed())

		foreground := metav1.DeletePropagationForeground
		g.Expect(client.BatchV1().Jobs(namespace).Delete(t.Context(), "long",
			metav1.DeleteOptions{PropagationPolicy: &foreground})).To(Succeed())
		g.Eventually(func(g Gomega) {
			_, err := client.BatchV1().Jobs(namespace).Get(t.Context(), "long", metav1.GetOptions{})
			g.Expect(apierrors.IsNotFound(err)).To(BeTrue(), "%v", err)
			g.Expect(podsOf(t, client, "long")).To(BeEmpty())
		}).WithTimeout(patience).Should(Succeed())
	})

	t.Run("a hundred jobs finish", func(t *testing.T) { testManyJobs(t, client) })
}

func testManyJobs(t *testing.T, client kubernetes.Interface) {
	began := time.Now()
	var creations sync.WaitGroup
	for i := range manyJobs {
		creations.Go(func() {
			job := newJob(fmt.Sprintf("many-%d", i), nil)
			job.Labels = map[string]string{"many": ""}
			createJob(t, client, job)
		})
	}
	creations.Wait()
	NewWithT(t).Eventually(func(g Gomega) {
		jobs, err := client.BatchV1().Jobs(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "many"})
		g.Expect(err).NotTo(HaveOccurred())
		complete := 0
		for _, job := range jobs.Items {
			if hasCondition(&job, batchv1.JobComplete) {
				complete++
			}
		}
		g.Expect(complete).To(Equal(manyJobs))
	}).WithTimeout(patience).WithPolling(100 * time.Millisecond).Should(Succeed())
	t.Logf("%d jobs of one second finished in %v", manyJobs, time.Since(began).Round(time.Millisecond))
}

func testPods(t *testing.T, cluster *Cluster) {
	client := clientOf(t, cluster)
	pods := client.CoreV1().Pods(namespace)

	t.Run("all containers end alike and init containers complete", func(t *testing.T) {
		g := NewWithT(t)
		pod := newPod("several", map[string]string{ExitCodeAnnotation: "137", ReasonAnnotation: "OOMKilled", DurationAnnotation: "1ms"})
		pod.Spec.InitContainers = []corev1.Container{{Name: "prepare", Image: "imagined"}}
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: "second", Image: "imagined"})
		createPod(t, client, pod)
		pod = awaitPod(t, client, pod.Name, corev1.PodFailed)
		g.Expect(pod.Status.InitContainerStatuses[0].State.Terminated).NotTo(BeNil())
		g.Expect(pod.Status.ContainerStatuses).To(HaveLen(2))
		for _, status := range pod.Status.ContainerStatuses {
			g.Expect(status.State.Running).To(BeNil())
			g.Expect(status.State.Terminated.ExitCode).To(BeEquivalentTo(137))
			g.Expect(status.State.Terminated.Reason).To(Equal("OOMKilled"))
		}
	})

	t.Run("a waiting reason keeps a pod pending", func(t *testing.T) {
		g := NewWithT(t)
		createPod(t, client, newPod("waiting", map[string]string{WaitingReasonAnnotation: "ImagePullBackOff"}))
		g.Eventually(func(g Gomega) {
			pod, err := pods.Get(t.Context(), "waiting", metav1.GetOptions{})
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(pod.Status.Phase).To(Equal(corev1.PodPending))
			g.Expect(pod.Status.ContainerStatuses).To(HaveLen(1))
			g.Expect(pod.Status.ContainerStatuses[0].State.Waiting.Reason).To(Equal("ImagePullBackOff"))
		}).WithTimeout(patience).Should(Succeed())
		g.Expect(pods.Delete(t.Context(), "waiting", metav1.DeleteOptions{})).To(Succeed())
		g.Eventually(func() bool {
			_, err := pods.Get(t.Context(), "waiting", metav1.GetOptions{})
			return apierrors.IsNotFound(err)
		}).WithTimeout(patience).Should(BeTrue())
	})

	t.Run("a finalizer holds a deleted pod, whose container was terminated", func(t *testing.T) {
		g := NewWithT(t)
		pod := newPod("held", map[string]string{DurationAnnotation: "1h"})
		pod.Finalizers = []string{"example.com/hold"}
		createPod(t, client, pod)
		awaitPod(t, client, "held", corev1.PodRunning)
		g.Expect(pods.Delete(t.Context(), "held", metav1.DeleteOptions{})).To(Succeed())
		pod = awaitPod(t, client, "held", corev1.PodFailed)
		g.Expect(ended(g, *pod).ExitCode).To(BeEquivalentTo(143))
		g.Eventually(func(g Gomega) {
			pod, err := pods.Get(t.Context(), "held", metav1.GetOptions{})
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(pod.DeletionGracePeriodSeconds).To(HaveValue(BeZero()), "the kubelet's part of the deletion")
			pod.Finalizers = nil
			_, err = pods.Update(t.Context(), pod, metav1.UpdateOptions{})
			g.Expect(err).NotTo(HaveOccurred())
		}).WithTimeout(patience).Should(Succeed())
		g.Eventually(func() bool {
			_, err := pods.Get(t.Context(), "held", metav1.GetOptions{})
			return apierrors.IsNotFound(err)
		}).WithTimeout(patience).Should(BeTrue())
	})
}

const namespace = metav1.NamespaceDefault

func newPod(name string, annotations map[string]string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations},
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever,
			Containers:    []corev1.Container{{Name: "main", Image: "imagined"}},
		},
	}
}

// newJob returns a Job that runs one Pod, once.
func newJob(name string, annotations map[string]string) *batchv1.Job {
	pod := newPod("", annotations)
	once := int32(0)
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: batchv1.JobSpec{
			BackoffLimit: &once,
			Template:     corev1.PodTemplateSpec{ObjectMeta: pod.ObjectMeta, Spec: pod.Spec},
		},
	}
}

func createJob(t *testing.T, client kubernetes.Interface, job *batchv1.Job) {
	t.Helper()
	if _, err := client.BatchV1().Jobs(namespace).Create(t.Context(), job, metav1.CreateOptions{}); err != nil {
		t.Errorf("creating job %s: %v", job.Name, err)
	}
}

func createPod(t *testing.T, client kubernetes.Interface, pod *corev1.Pod) {
	t.Helper()
	if _, err := client.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatalf("creating pod %s: %v", pod.Name, err)
	}
}

func awaitJob(t *testing.T, client kubernetes.Interface, name string, condition batchv1.JobConditionType) *batchv1.Job {
	t.Helper()
	var job *batchv1.Job
	NewWithT(t).Eventually(func(g Gomega) {
		var err error
		job, err = client.BatchV1().Jobs(namespace).Get(t.Context(), name, metav1.GetOptions{})
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(hasCondition(job, condition)).To(BeTrue(), "%+v", job.Status)
	}).WithTimeout(patience).Should(Succeed())
	return job
}

func awaitPod(t *testing.T, client kubernetes.Interface, name string, phase corev1.PodPhase) *corev1.Pod {
	t.Helper()
	var pod *corev1.Pod
	NewWithT(t).Eventually(func(g Gomega) {
		var err error
		pod, err = client.CoreV1().Pods(namespace).Get(t.Context(), name, metav1.GetOptions{})
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(pod.Status.Phase).To(Equal(phase))
	}).WithTimeout(patience).Should(Succeed())
	return pod
}

func podsOf(t *testing.T, client kubernetes.Interface, job string) []corev1.Pod {
	t.Helper()
	pods, err := client.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: batchv1.JobNameLabel + "=" + job})
	if err != nil {
		t.Fatalf("listing the pods of job %s: %v", job, err)
	}
	return pods.Items
}

// ended returns how the Pod's only container ended.
func ended(g *WithT, pod corev1.Pod) *corev1.ContainerStateTerminated {
	g.Expect(pod.Status.ContainerStatuses).To(HaveLen(1))
	state := pod.Status.ContainerStatuses[0].State
	g.Expect(state.Terminated).NotTo(BeNil(), "%+v", state)
	g.Expect(state.Running).To(BeNil())
	return state.Terminated
}

func hasCondition(job *batchv1.Job, condition batchv1.JobConditionType) bool {
	for _, c := range job.Status.Conditions {
		if c.Type == condition && c.Status == corev1.ConditionTrue {
			return true
		}
	}
	return false
}

func clientFor(t *testing.T, config *rest.Config) kubernetes.Interface {
	t.Helper()
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// testLoopback looks up the sockets that the cluster's programs listen on.
func testLoopback(t *testing.T, cluster *Cluster) {
	g := NewWithT(t)
	listening := map[string]string{} // inode of the socket -> local address
	for _, table := range []string{"tcp", "tcp6"} {
		content, err := os.ReadFile("/proc/net/" + table)
		if err != nil {
			t.Skip("needs /proc: ", err)
		}
		for line := range strings.Lines(string(content)) {
			const localAddress, state, inode, listen = 1, 3, 9, "0A"
			if fields := strings.Fields(line); len(fields) > inode && fields[state] == listen {
				listening[fields[inode]] = fields[localAddress]
			}
		}
	}
	found := 0
	for pid, name := range processesOf(t, cluster.Dir()) {
		sockets, _ := filepath.Glob(filepath.Join("/proc", pid, "fd", "*"))
		for _, socket := range sockets {
			target, _ := os.Readlink(socket)
			inode := strings.TrimSuffix(strings.TrimPrefix(target, "socket:["), "]")
			if address, ok := listening[inode]; ok {
				found++
				g.Expect(address).To(HavePrefix("0100007F:"), "%s listens elsewhere than on 127.0.0.1", name)
			}
		}
	}
	g.Expect(found).To(Equal(3), "etcd for clients and peers, and the API server")
}
