package logs

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	gtypes "github.com/onsi/gomega/types"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/jobstatus"
	"github.com/pooledjob/pooledjob/test/fakekubelet"
	"github.com/pooledjob/pooledjob/test/fixtures"
	"github.com/pooledjob/pooledjob/test/localcluster"
	"github.com/pooledjob/pooledjob/test/localenv"
)

// run is a PooledJob, with the Pods that are made for it.
type run struct {
	*v1alpha1.PooledJob
	target *localenv.Cluster
}

var serial int

// uniqueName returns a name that no other spec uses.
func uniqueName(prefix string) string {
	serial++
	return fmt.Sprintf("%s-%d", prefix, serial)
}

// submit creates a PooledJob for a target, after the changes. Its Pods run until the spec
// ends them.
func submit(ctx context.Context, target int, changes ...func(*v1alpha1.PooledJob)) *run {
	namespace := "team-a"
	if target == 2 {
		namespace = "batch"
	}
	job := fixtures.PooledJob("team-a", uniqueName("run"), fixtures.On(fmt.Sprintf("target-%d", target), namespace),
		fixtures.PodAnnotations(map[string]string{localcluster.DurationAnnotation: "24h"}))
	job.Spec.Template.Spec.Template.Spec.TerminationGracePeriodSeconds = new(int64)
	for _, change := range changes {
		change(job)
	}
	Expect(hub.Create(ctx, job)).To(Succeed())
	DeferCleanup(func(ctx context.Context) {
		Expect(client.IgnoreNotFound(hub.Delete(ctx, job))).To(Succeed())
		Eventually(func() bool { return hub.Get(ctx, client.ObjectKeyFromObject(job), job) != nil }).WithContext(ctx).Should(BeTrue(), "%s is deleted", job.Name)
	})
	return &run{job, env.Targets[target-1]}
}

// annotated adds an annotation to the Pods.
func annotated(name, value string) func(*v1alpha1.PooledJob) {
	return func(job *v1alpha1.PooledJob) { job.Spec.Template.Spec.Template.Annotations[name] = value }
}

// latest reads the PooledJob.
func (r *run) latest(g Gomega, ctx context.Context) *v1alpha1.PooledJob {
	g.Expect(hub.Get(ctx, client.ObjectKeyFromObject(r), r.PooledJob)).To(Succeed())
	return r.PooledJob
}

// change changes the PooledJob.
func (r *run) change(ctx context.Context, how func(*v1alpha1.PooledJob)) {
	before := r.DeepCopy()
	how(r.PooledJob)
	Expect(hub.Patch(ctx, r.PooledJob, client.MergeFrom(before))).To(Succeed())
}

// noFinalizers lets an object go that waits for what cannot happen any more.
var noFinalizers = client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`))

// abandon deletes the PooledJob of a cluster that cannot be reached any more.
func (r *run) abandon(ctx context.Context) {
	Expect(hub.Delete(ctx, r.PooledJob)).To(Succeed())
	Expect(hub.Patch(ctx, r.PooledJob, noFinalizers)).To(Succeed())
}

// pods returns those of the run, the oldest first.
func (r *run) pods(g Gomega, ctx context.Context) []corev1.Pod {
	var list corev1.PodList
	g.Expect(r.target.Client.List(ctx, &list, client.MatchingLabels{v1alpha1.LabelUID: string(r.UID)})).To(Succeed())
	slices.SortFunc(list.Items, func(a, b corev1.Pod) int {
		if c := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	return list.Items
}

// running waits until there are n Pods and all but those that have ended run, and returns
// the newest.
func (r *run) running(ctx context.Context, n int) *corev1.Pod {
	var newest corev1.Pod
	Eventually(func(g Gomega) {
		pods := r.pods(g, ctx)
		g.Expect(pods).To(HaveLen(n))
		for i := range pods {
			g.Expect(pods[i].Status.Phase).NotTo(Equal(corev1.PodPending))
		}
		newest = pods[n-1]
	}).WithContext(ctx).Should(Succeed())
	return &newest
}

// logOf returns what container main of a Pod writes.
func logOf(pod *corev1.Pod) *fakekubelet.Log { return kubelet.Log(pod.Namespace, pod.Name, "main") }

// started waits until the run's first Pod runs and the hub knows of its Job, and returns the
// Pod with its log.
func (r *run) started(ctx context.Context) (*corev1.Pod, *fakekubelet.Log) {
	Eventually(r.latest).WithContext(ctx).Should(WithTransform(func(job *v1alpha1.PooledJob) bool { return jobstatus.Dispatched(&job.Status) }, BeTrue()))
	pod := r.running(ctx, 1)
	log := logOf(pod)
	return pod, log
}

// end ends the containers of a Pod, after their logs.
func (r *run) end(ctx context.Context, pod *corev1.Pod, exitCode int32) {
	for i := range pod.Spec.Containers {
		kubelet.Log(pod.Namespace, pod.Name, pod.Spec.Containers[i].Name).End()
	}
	r.setStatus(ctx, pod, func(status *corev1.PodStatus) {
		status.Phase = corev1.PodSucceeded
		if exitCode != 0 {
			status.Phase = corev1.PodFailed
		}
		for i := range status.ContainerStatuses {
			status.ContainerStatuses[i].Ready = false
			status.ContainerStatuses[i].State = corev1.ContainerState{
				Terminated: &corev1.ContainerStateTerminated{ExitCode: exitCode, Reason: "Ended", FinishedAt: metav1.Now()},
			}
		}
	})
}

// restart starts the containers of a Pod again.
func (r *run) restart(ctx context.Context, pod *corev1.Pod) {
	logOf(pod).Restart()
	r.setStatus(ctx, pod, func(status *corev1.PodStatus) {
		for i := range status.ContainerStatuses {
			status.ContainerStatuses[i].RestartCount++
			status.ContainerStatuses[i].State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}}
		}
	})
}

func (r *run) setStatus(ctx context.Context, pod *corev1.Pod, how func(*corev1.PodStatus)) {
	Eventually(func(g Gomega) {
		g.Expect(r.target.Client.Get(ctx, client.ObjectKeyFromObject(pod), pod)).To(Succeed())
		how(&pod.Status)
		g.Expect(r.target.Client.Status().Update(ctx, pod)).To(Succeed())
	}).WithContext(ctx).Should(Succeed())
}

// oneAfterAnother makes a Job of several Pods, one after the other.
func oneAfterAnother(pods int32) func(*v1alpha1.PooledJob) {
	return func(job *v1alpha1.PooledJob) {
		one := int32(1)
		job.Spec.Template.Spec.Completions, job.Spec.Template.Spec.Parallelism = &pods, &one
	}
}

// olderThanASecond waits until what is made next has a later creation time.
func olderThanASecond(ctx context.Context, pod *corev1.Pod) {
	Eventually(time.Now).WithContext(ctx).Should(BeTemporally(">", pod.CreationTimestamp.Add(time.Second)))
}

func haveEnded(phase v1alpha1.PooledJobPhase) gtypes.GomegaMatcher {
	return HaveField("Status.Phase", phase)
}
