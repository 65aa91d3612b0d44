package e2e

import (
	"context"
	"fmt"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	gtypes "github.com/onsi/gomega/types"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/localcluster"
)

// change changes the spec of a PooledJob on the hub.
func change(ctx context.Context, job *v1alpha1.PooledJob, spec string) {
	patch := client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"spec":%s}`, spec))
	Expect(hub.Patch(ctx, job, patch)).To(Succeed())
}

// submit creates a PooledJob, which is removed after the spec.
func submit(ctx context.Context, job *v1alpha1.PooledJob) *v1alpha1.PooledJob {
	Expect(hub.Create(ctx, job)).To(Succeed())
	DeferCleanup(func(ctx context.Context) {
		Expect(client.IgnoreNotFound(hub.Delete(ctx, job))).To(Succeed())
		Eventually(gone(job)).WithContext(ctx).Should(BeTrue())
	})
	return job
}

// failFor matches a run that has failed for that reason.
func failFor(reason string) gtypes.GomegaMatcher {
	return And(havePhase(v1alpha1.PooledJobFailed), WithTransform(func(job *v1alpha1.PooledJob) string {
		if c := meta.FindStatusCondition(job.Status.Conditions, v1alpha1.ConditionFailed); c != nil {
			return c.Reason
		}
		return ""
	}, Equal(reason)))
}

// livePods returns the Pods of a run that are not being deleted.
func livePods(job *v1alpha1.PooledJob) func(Gomega, context.Context) []corev1.Pod {
	return func(g Gomega, ctx context.Context) []corev1.Pod {
		var pods corev1.PodList
		g.Expect(targetOf(job).List(ctx, &pods, client.MatchingLabels{v1alpha1.LabelUID: string(job.UID)})).To(Succeed())
		var live []corev1.Pod
		for _, pod := range pods.Items {
			if pod.DeletionTimestamp.IsZero() && pod.Status.Phase != corev1.PodFailed && pod.Status.Phase != corev1.PodSucceeded {
				live = append(live, pod)
			}
		}
		return live
	}
}

var _ = Describe("A run that is changed", func() {
	It("stops its Pods and keeps its Job on the target when it is cancelled", func(ctx context.Context) {
		job := submit(ctx, newJob(1, "cancelled", behaviour{seconds: 3600}))
		Eventually(latest(job)).WithContext(ctx).Should(havePhase(v1alpha1.PooledJobRunning))
		change(ctx, job, `{"cancel":true}`)
		Eventually(latest(job)).WithContext(ctx).Should(failFor(v1alpha1.ReasonCancelled))
		Expect(livePods(job)(Default, ctx)).To(BeEmpty())
		Expect(remoteJobs(ctx, job)).To(HaveExactElements(HaveField("Status.Conditions", ContainElement(
			HaveField("Reason", batchv1.JobReasonDeadlineExceeded)))))
	})

	It("has no Job on the target when it is cancelled from the start", func(ctx context.Context) {
		job := newJob(1, "unwanted", behaviour{})
		job.Spec.Cancel = new(bool)
		*job.Spec.Cancel = true
		submit(ctx, job)
		Eventually(latest(job)).WithContext(ctx).Should(failFor(v1alpha1.ReasonCancelled))
		Expect(remoteJobs(ctx, job)).To(BeEmpty())
	})

	It("can be suspended, resumed, and cancelled while it is suspended", func(ctx context.Context) {
		job := newJob(1, "suspended", behaviour{seconds: 3600})
		job.Spec.Suspend = new(bool)
		*job.Spec.Suspend = true
		submit(ctx, job)
		Eventually(latest(job)).WithContext(ctx).Should(havePhase(v1alpha1.PooledJobSuspended))
		Expect(livePods(job)(Default, ctx)).To(BeEmpty())
		change(ctx, job, `{"suspend":false}`)
		Eventually(latest(job)).WithContext(ctx).Should(havePhase(v1alpha1.PooledJobRunning))
		change(ctx, job, `{"suspend":true}`)
		Eventually(latest(job)).WithContext(ctx).Should(havePhase(v1alpha1.PooledJobSuspended))
		Eventually(livePods(job)).WithContext(ctx).Should(BeEmpty())
		change(ctx, job, `{"cancel":true}`)
		Eventually(latest(job)).WithContext(ctx).Should(failFor(v1alpha1.ReasonCancelled))
		Expect(remoteJobs(ctx, job)).To(BeEmpty())
	})

	It("disappears with its Job when ttlSecondsAfterFinished is over", func(ctx context.Context) {
		job := submit(ctx, newJob(1, "shortlived", behaviour{}))
		Eventually(latest(job)).WithContext(ctx).Should(endWith(0))
		change(ctx, job, `{"ttlSecondsAfterFinished":0}`)
		Eventually(gone(job)).WithContext(ctx).Should(BeTrue())
		Expect(remoteJobs(ctx, job)).To(BeEmpty())
	})

	It("leaves its Job on the target with deletionPolicy Orphan", func(ctx context.Context) {
		job := submit(ctx, newJob(1, "left", behaviour{}))
		Eventually(latest(job)).WithContext(ctx).Should(endWith(0))
		ref := job.Status.JobRef
		change(ctx, job, `{"deletionPolicy":"Orphan"}`)
		Expect(hub.Delete(ctx, job)).To(Succeed())
		Eventually(gone(job)).WithContext(ctx).Should(BeTrue())
		left := &batchv1.Job{}
		Expect(targets[0].Get(ctx, client.ObjectKey{Namespace: ref.Namespace, Name: ref.Name}, left)).To(Succeed())
		Expect(left.Labels).NotTo(HaveKey(v1alpha1.LabelHub))
		Expect(targets[0].Delete(ctx, left, client.PropagationPolicy(metav1.DeletePropagationForeground))).To(Succeed())
		Eventually(func() error { return targets[0].Get(ctx, client.ObjectKeyFromObject(left), left) }).Should(MatchError(apierrors.IsNotFound, "IsNotFound"))
	})
})

var _ = Describe("The status of a run", func() {
	It("reports Unschedulable when no node takes its Pod", func(ctx context.Context) {
		job := newJob(1, "homeless", behaviour{})
		job.Spec.Template.Spec.Template.Spec.NodeSelector = map[string]string{"no": "such-node"}
		submit(ctx, job)
		Eventually(latest(job)).WithContext(ctx).Should(And(havePhase(v1alpha1.PooledJobPending),
			HaveField("Status.Result.Reason", "Unschedulable"), HaveField("Status.Result.Message", ContainSubstring("nodes are available")),
			HaveField("Status.Result.PodName", Not(BeEmpty()))))
	})

	It("reports ImagePullBackOff when an image cannot be pulled", func(ctx context.Context) {
		onlyLocal() // a real cluster would need a registry that says no
		job := newJob(1, "pictureless", behaviour{})
		job.Spec.Template.Spec.Template.Annotations[localcluster.WaitingReasonAnnotation] = "ImagePullBackOff"
		submit(ctx, job)
		Eventually(latest(job)).WithContext(ctx).Should(And(havePhase(v1alpha1.PooledJobPending), HaveField("Status.Result.Reason", "ImagePullBackOff")))
	})

	It("reports DeadlineExceeded when its Job ran out of time", func(ctx context.Context) {
		job := newJob(1, "slow", behaviour{seconds: 3600})
		job.Spec.Template.Spec.ActiveDeadlineSeconds = new(int64)
		*job.Spec.Template.Spec.ActiveDeadlineSeconds = 2
		submit(ctx, job)
		Eventually(latest(job)).WithContext(ctx).Should(failFor(batchv1.JobReasonDeadlineExceeded))
	})

	It("reports which indexes completed and which failed", func(ctx context.Context) {
		job := newJob(1, "indexed", behaviour{seconds: 1})
		spec := &job.Spec.Template.Spec
		indexed, three, none := batchv1.IndexedCompletion, int32(3), int32(0)
		spec.CompletionMode, spec.Completions, spec.Parallelism = &indexed, &three, &three
		spec.BackoffLimit, spec.BackoffLimitPerIndex = nil, &none
		submit(ctx, job)
		Eventually(latest(job)).WithContext(ctx).Should(And(endWith(0), HaveField("Status.CompletedIndexes", "0-2"),
			HaveField("Status.Succeeded", HaveValue(BeEquivalentTo(3)))))

		failing := newJob(1, "indexed-failing", behaviour{exitCode: 7})
		failing.Spec.Template.Spec = *spec.DeepCopy()
		failing.Spec.Template.Spec.Template.Annotations = newJob(1, "", behaviour{exitCode: 7}).Spec.Template.Spec.Template.Annotations
		submit(ctx, failing)
		Eventually(latest(failing)).WithContext(ctx).Should(And(endWith(7), HaveField("Status.FailedIndexes", "0-2"), failFor(batchv1.JobReasonFailedIndexes)))
	})

	It("reports that a success policy or a Pod failure policy decided the end", func(ctx context.Context) {
		lucky := newJob(1, "lucky", behaviour{seconds: 1})
		indexed, three, one := batchv1.IndexedCompletion, int32(3), int32(1)
		spec := &lucky.Spec.Template.Spec
		spec.CompletionMode, spec.Completions, spec.Parallelism = &indexed, &three, &one
		spec.SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{{SucceededCount: &one}}}
		submit(ctx, lucky)
		Eventually(latest(lucky)).WithContext(ctx).Should(endWith(0))
		Expect(meta.FindStatusCondition(lucky.Status.Conditions, v1alpha1.ConditionComplete).Reason).To(Equal(batchv1.JobReasonSuccessPolicy))

		fatal := newJob(1, "fatal", behaviour{seconds: 1, exitCode: 42})
		main := "main"
		fatal.Spec.Template.Spec.BackoffLimit = &three
		fatal.Spec.Template.Spec.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{
			Action: batchv1.PodFailurePolicyActionFailJob,
			OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{
				ContainerName: &main, Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{42},
			},
		}}}
		submit(ctx, fatal)
		Eventually(latest(fatal)).WithContext(ctx).Should(And(endWith(42), failFor(batchv1.JobReasonPodFailurePolicy)))
	})
})
