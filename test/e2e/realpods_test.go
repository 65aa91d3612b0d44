package e2e

import (
	"context"
	"slices"
	"strings"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	gtypes "github.com/onsi/gomega/types"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

var _ = Describe("A run whose containers are real", Ordered, ContinueOnFailure, Label(realPods), func() {
	var target int
	BeforeAll(func(ctx context.Context) { target = useRealTarget(ctx) })

	DescribeTable("ends with the exit code of its program", func(ctx context.Context, code int, flag string) {
		job := submit(ctx, realJob(target, "exits", flag))
		Eventually(latest(job)).WithContext(ctx).Should(endWith(code))
	},
		Entry("0", 0, "-exit=0"),
		Entry("3", 3, "-exit=3"),
		Entry("255", 255, "-exit=255"),
	)

	It("reports OOMKilled when its memory limit is exceeded", func(ctx context.Context) {
		job := realJob(target, "greedy", "-allocate=500", "-sleep=1h")
		podOf(job).Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("50Mi")}
		submit(ctx, job)
		Eventually(latest(job)).WithContext(ctx).Should(And(endWith(137), resultIn("Reason", Equal("OOMKilled"))))
	})

	It("shows the end of its log when it fails without a termination message", func(ctx context.Context) {
		failing := submit(ctx, realJob(target, "failing", "-lines=500", "-line-bytes=20", "-stderr", "-exit=1"))
		silent := submit(ctx, realJob(target, "silent", "-lines=500", "-exit=0"))
		saying := submit(ctx, realJob(target, "saying", "-lines=500", "-exit=1", "-message=the disk is full"))

		Eventually(latest(failing)).WithContext(ctx).Should(endWith(1))
		shown := failing.Status.Result.Message
		Expect(strings.Count(shown, "\n")).To(BeNumerically("~", 80, 1), "the kubelet's last 80 lines")
		Expect(shown).To(HavePrefix("000421 "))
		Expect(logOf(ctx, failing)).To(HaveSuffix(shown))
		Eventually(latest(silent)).WithContext(ctx).Should(And(endWith(0), resultIn("Message", BeEmpty())))
		Eventually(latest(saying)).WithContext(ctx).Should(And(endWith(1), resultIn("Message", Equal("the disk is full"))))
	})

	It("succeeds after a restart of its container", func(ctx context.Context) {
		job := realJob(target, "restarted", "-fail-once=/state/failed", "-exit=0")
		pod := podOf(job)
		pod.RestartPolicy = corev1.RestartPolicyOnFailure
		pod.Volumes = []corev1.Volume{{Name: "state", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
		pod.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "state", MountPath: "/state"}}
		*job.Spec.Template.Spec.BackoffLimit = 3
		submit(ctx, job)
		Eventually(latest(job)).WithContext(ctx).Should(endWith(0))
		Expect(podsOf(ctx, job)).To(ConsistOf(HaveField("Status.ContainerStatuses", ConsistOf(HaveField("RestartCount", BeEquivalentTo(1))))))
	})

	It("becomes Cancelled only after its process has ended", func(ctx context.Context) {
		for name, flag := range map[string]string{"obedient": "-on-term=0", "stubborn": "-on-term=ignore"} {
			marker := mark()
			job := realJob(target, name, marker, flag, "-sleep=1h")
			podOf(job).TerminationGracePeriodSeconds = new(int64(4))
			submit(ctx, job)
			Eventually(processesWith).WithArguments(marker).Should(HaveLen(1))

			change(ctx, job, `{"cancel":true}`)
			Eventually(latest(job)).WithContext(ctx).Should(failFor(v1alpha1.ReasonCancelled))
			Expect(processesWith(marker)).To(BeEmpty(), "%s still runs", name)
		}
	})

	It("disappears only after its process has ended when it is deleted", func(ctx context.Context) {
		marker := mark()
		job := realJob(target, "deleted", marker, "-on-term=ignore", "-sleep=1h")
		podOf(job).TerminationGracePeriodSeconds = new(int64(4))
		submit(ctx, job)
		Eventually(processesWith).WithArguments(marker).Should(HaveLen(1))

		began := time.Now()
		Expect(hub.Delete(ctx, job)).To(Succeed())
		Eventually(gone(job)).WithContext(ctx).Should(BeTrue())
		Expect(processesWith(marker)).To(BeEmpty())
		Expect(time.Since(began)).To(BeNumerically(">=", 4*time.Second), "it was to have its time to stop")
		Expect(ours(ctx, targets[target-1])).To(BeZero())
	})

	It("ends with exit code 137 when its process dies of SIGKILL", func(ctx context.Context) {
		marker := mark()
		job := submit(ctx, realJob(target, "shot", marker, "-sleep=1h"))
		Eventually(processesWith).WithArguments(marker).Should(HaveLen(1))
		Expect(syscall.Kill(processesWith(marker)[0], syscall.SIGKILL)).To(Succeed())
		Eventually(latest(job)).WithContext(ctx).Should(endWith(137))
	})

	It("reports within 10 seconds that its image cannot be pulled", func(ctx context.Context) {
		nowhere := realJob(target, "nowhere")
		podOf(nowhere).Containers[0].Image = "127.0.0.1:1/none:v1"
		absent := realJob(target, "absent")
		podOf(absent).Containers[0].Image = "localcluster.pooledjob.io/none:v1"
		podOf(absent).Containers[0].ImagePullPolicy = corev1.PullNever
		submit(ctx, nowhere)
		submit(ctx, absent)
		Eventually(latest(nowhere)).WithContext(ctx).WithTimeout(10 * time.Second).Should(
			resultIn("Reason", BeElementOf("ErrImagePull", "ImagePullBackOff")))
		Expect(nowhere.Status.Result.Message).To(ContainSubstring("127.0.0.1:1"))
		Expect(nowhere.Status.Result.ExitCode).To(BeNil())
		Eventually(latest(absent)).WithContext(ctx).WithTimeout(10 * time.Second).Should(resultIn("Reason", Equal("ErrImageNeverPull")))
	})

	It("fails with the exit code and message of its failed init container", func(ctx context.Context) {
		job := realJob(target, "unprepared", "-exit=0")
		podOf(job).InitContainers = []corev1.Container{
			testContainer("first", "-exit=0"), testContainer("second", "-print=no table", "-exit=5"),
		}
		submit(ctx, job)
		Eventually(latest(job)).WithContext(ctx).Should(And(endWith(5), resultIn("Message", Equal("no table\n"))))
		for _, status := range podsOf(ctx, job)[0].Status.ContainerStatuses {
			Expect(status.ContainerID).To(BeEmpty(), "the container was not to run")
		}
	})

	It("succeeds only if both of its two containers do, and reports the failed one", func(ctx context.Context) {
		for name, second := range map[string][]string{"both-succeed": {"-exit=0"}, "one-fails": {"-print=told by the second", "-exit=7"}} {
			job := realJob(target, name, "-print=told by the first", "-exit=0")
			podOf(job).Containers = append(podOf(job).Containers, testContainer("second", second...))
			submit(ctx, job)
		}
		both, one := realJob(target, "both-succeed"), realJob(target, "one-fails")
		Eventually(latest(both)).WithContext(ctx).Should(endWith(0))
		Eventually(latest(one)).WithContext(ctx).Should(And(endWith(7), resultIn("Message", Equal("told by the second\n"))))
	})
})

// resultIn matches a field of a run's result.
func resultIn(field string, matcher gtypes.GomegaMatcher) gtypes.GomegaMatcher {
	return HaveField("Status.Result."+field, matcher)
}

// podsOf returns the Pods of a run.
func podsOf(ctx context.Context, job *v1alpha1.PooledJob) []corev1.Pod {
	var pods corev1.PodList
	Expect(targetOf(job).List(ctx, &pods, client.MatchingLabels{v1alpha1.LabelUID: string(job.UID)})).To(Succeed())
	return pods.Items
}

// logOf returns the log of a run's Pod, as the target itself tells it.
func logOf(ctx context.Context, job *v1alpha1.PooledJob) string {
	cluster := local.Targets[slices.Index(targets, targetOf(job))]
	c, err := kubernetes.NewForConfig(cluster.Config())
	Expect(err).NotTo(HaveOccurred())
	log, err := c.CoreV1().Pods(job.Status.JobRef.Namespace).GetLogs(job.Status.Result.PodName, &corev1.PodLogOptions{}).DoRaw(ctx)
	Expect(err).NotTo(HaveOccurred())
	return string(log)
}
