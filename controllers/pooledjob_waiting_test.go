package controllers

import (
	"context"
	"fmt"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/controllers/pooledjob"
)

// soon is how long a trouble may take to be told.
const soon = 5 * time.Second

// trouble is what keeps a Pod from running.
type trouble func(*corev1.PodStatus)

// stuckAt has the container wait.
func stuckAt(reason, message string) trouble {
	return func(s *corev1.PodStatus) {
		s.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}}
		s.ContainerStatuses = []corev1.ContainerStatus{{
			Name: "main", Image: "busybox", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}},
		}}
	}
}

// unschedulable has the scheduler find no node.
func unschedulable(message string) trouble {
	return func(s *corev1.PodStatus) {
		s.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: message}}
	}
}

// get has the Pod get into trouble, or out of it.
func get(ctx context.Context, pod *corev1.Pod, into trouble) {
	pod.Status.Phase = corev1.PodPending
	into(&pod.Status)
	Expect(target.Status().Update(ctx, pod)).To(Succeed())
}

// stuck plays the Job controller and the kubelet: the Job has a Pod that cannot run.
func stuck(ctx context.Context, remote *batchv1.Job, in trouble) *corev1.Pod {
	pod := createPod(ctx, remote)
	now, none := metav1.Now(), int32(0)
	remote.Status = batchv1.JobStatus{StartTime: &now, Active: 1, Ready: &none}
	Expect(target.Status().Update(ctx, remote)).To(Succeed())
	get(ctx, pod, in)
	return pod
}

// resultIs matches a run that tells of a Pod.
func resultIs(reason, message, pod string) OmegaMatcher {
	return HaveField("Status.Result", Equal(v1alpha1.Result{Reason: reason, Message: message, PodName: pod}))
}

// versionsOf returns those of a PooledJob that there were so far.
func versionsOf(ctx context.Context, job *v1alpha1.PooledJob) func() []*v1alpha1.PooledJob {
	return record[*v1alpha1.PooledJob](ctx, &v1alpha1.PooledJobList{}, client.InNamespace(job.Namespace), client.MatchingFields{"metadata.name": job.Name})
}

// passTime makes every write due that was put off.
func passTime() {
	DeferCleanup(clockOffset.Store, int64(0))
	clockOffset.Add(int64(pooledjob.CountersInterval + time.Second))
}

var _ = Describe("What keeps a Pod from running", func() {
	DescribeTable("appears in the status within seconds", func(ctx context.Context, in trouble, reason, message string) {
		w := connected(ctx)
		job := w.submit(ctx)
		remote := remoteOf(ctx, job)
		eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobPending))
		pod := stuck(ctx, remote, in)
		eventually(ctx, job).WithTimeout(soon).Should(And(havePhase(v1alpha1.PooledJobPending), resultIs(reason, message, pod.Name),
			haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionTrue, v1alpha1.ReasonCreated)))
	},
		Entry("no image", stuckAt("ErrImagePull", "not found"), "ErrImagePull", "not found"),
		Entry("no image, for some time", stuckAt("ImagePullBackOff", "Back-off pulling image"), "ImagePullBackOff", "Back-off pulling image"),
		Entry("no configuration", stuckAt("CreateContainerConfigError", `secret "s" not found`), "CreateContainerConfigError", `secret "s" not found`),
		Entry("no node", unschedulable("0/3 nodes are available"), "Unschedulable", "0/3 nodes are available"),
	)

	It("stays in the status under a new operator without a write", func(ctx context.Context) {
		w := connectedAs(ctx, certificateOf(userWithRights(ctx)))
		job := w.submit(ctx)
		pod := stuck(ctx, remoteOf(ctx, job), stuckAt("ErrImagePull", "not found"))
		eventually(ctx, job).Should(And(resultIs("ErrImagePull", "not found", pod.Name), HaveField("Status.Active", HaveValue(BeEquivalentTo(1)))))
		versions := versionsOf(ctx, job)
		operator.restart()
		Eventually(w.figureOf("watches")).WithContext(ctx).Should(Equal(2.0), "the new operator is connected")
		get(ctx, pod, stuckAt("ImagePullBackOff", "Back-off"))
		Consistently(versions).WithTimeout(2 * time.Second).Should(HaveLen(1))
	})

	It("causes no write while it stays the same, whatever the back-off", func(ctx context.Context) {
		w := connected(ctx)
		job := w.submit(ctx)
		remote := remoteOf(ctx, job)
		pod := stuck(ctx, remote, stuckAt("ErrImagePull", "not found"))
		eventually(ctx, job).Should(resultIs("ErrImagePull", "not found", pod.Name))
		moveClock(time.Now().Add(time.Minute)) // whatever changes now is written at once
		nudge(ctx, target, pod)
		eventually(ctx, job).Should(HaveField("Status.Active", HaveValue(BeEquivalentTo(1))))
		versions := versionsOf(ctx, job)
		for i := range 5 {
			passTime()
			get(ctx, pod, stuckAt("ImagePullBackOff", fmt.Sprintf("Back-off %ds", 10<<i)))
			Consistently(versions).WithTimeout(300 * time.Millisecond).Should(HaveLen(1))
			passTime()
			get(ctx, pod, stuckAt("ErrImagePull", fmt.Sprintf("not found, try %d", i)))
			Consistently(versions).WithTimeout(300 * time.Millisecond).Should(HaveLen(1))
		}
		// It was looked at all the time: another trouble is told.
		passTime()
		get(ctx, pod, stuckAt("CreateContainerConfigError", "no Secret"))
		eventually(ctx, job).Should(resultIs("CreateContainerConfigError", "no Secret", pod.Name))
		Eventually(versions).Should(HaveLen(2)) // the watch may tell later than a GET
	})

	It("disappears from the status when the Pod runs", func(ctx context.Context) {
		w := connected(ctx)
		job := w.submit(ctx)
		remote := remoteOf(ctx, job)
		pod := stuck(ctx, remote, stuckAt("ImagePullBackOff", "Back-off"))
		eventually(ctx, job).Should(resultIs("ImagePullBackOff", "Back-off", pod.Name))
		pod.Status.Phase = corev1.PodRunning
		pod.Status.ContainerStatuses[0].State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
		Expect(target.Status().Update(ctx, pod)).To(Succeed())
		eventually(ctx, job).WithTimeout(soon).Should(And(havePhase(v1alpha1.PooledJobRunning), HaveField("Status.Result", BeZero())))
		endPod(ctx, pod, 0, "")
		endJob(ctx, remote, batchv1.JobComplete)
		eventually(ctx, job).Should(And(havePhase(v1alpha1.PooledJobSucceeded), HaveField("Status.Result.ExitCode", HaveValue(BeZero()))))
	})

	It("disappears from the status when the Pod is about to run", func(ctx context.Context) {
		w := connected(ctx)
		job := w.submit(ctx)
		pod := stuck(ctx, remoteOf(ctx, job), unschedulable("0/3 nodes are available"))
		eventually(ctx, job).Should(resultIs("Unschedulable", "0/3 nodes are available", pod.Name))
		moveClock(time.Now().Add(time.Minute))
		get(ctx, pod, stuckAt("ContainerCreating", ""))
		eventually(ctx, job).Should(And(havePhase(v1alpha1.PooledJobPending), HaveField("Status.Result", BeZero())))
		passTime()
		get(ctx, pod, stuckAt("ErrImagePull", "not found"))
		eventually(ctx, job).Should(resultIs("ErrImagePull", "not found", pod.Name))
	})

	DescribeTable("stays in the status when the Job fails without an ended Pod", func(ctx context.Context, restarted bool) {
		w := connected(ctx)
		job := w.submit(ctx)
		remote := remoteOf(ctx, job)
		pod := stuck(ctx, remote, stuckAt("ImagePullBackOff", "Back-off"))
		eventually(ctx, job).Should(resultIs("ImagePullBackOff", "Back-off", pod.Name))
		if restarted {
			operator.stop()
		}
		Expect(target.Delete(ctx, pod, client.GracePeriodSeconds(0))).To(Succeed()) // the Job controller does so first
		if !restarted {
			moveClock(time.Now().Add(time.Minute))
			nudge(ctx, hub, job)
			consistently(ctx, job).Should(resultIs("ImagePullBackOff", "Back-off", pod.Name))
		}
		endJobBecause(ctx, remote, batchv1.JobReasonDeadlineExceeded, 0)
		if restarted {
			*operator = *startOperator(operator.scheme)
		}
		eventually(ctx, job).Should(And(failedWith(batchv1.JobReasonDeadlineExceeded), resultIs("ImagePullBackOff", "Back-off", pod.Name)))
	}, Entry("in the eyes of the same operator", false), Entry("in the eyes of a new operator", true))

	It("does not become the result of a Job of which a Pod has ended", func(ctx context.Context) {
		w := connected(ctx)
		job := w.submit(ctx)
		remote := remoteOf(ctx, job)
		pod := stuck(ctx, remote, stuckAt("ImagePullBackOff", "Back-off"))
		eventually(ctx, job).Should(resultIs("ImagePullBackOff", "Back-off", pod.Name))
		endPod(ctx, pod, 3, "boom")
		endJob(ctx, remote, batchv1.JobFailed)
		eventually(ctx, job).Should(And(havePhase(v1alpha1.PooledJobFailed),
			HaveField("Status.Result", Equal(v1alpha1.Result{ExitCode: new(int32(3)), Reason: v1alpha1.ResultError, Message: "boom", PodName: pod.Name}))))
	})
})
