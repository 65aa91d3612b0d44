package controllers

import (
	"context"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

var _ = Describe("A PooledJob", func() {
	It("becomes a Job on the target, and its status comes back", func(ctx context.Context) {
		w := connected(ctx)
		job := w.submit(ctx)

		remote := remoteOf(ctx, job)
		Expect(remote.Labels).To(And(
			HaveKeyWithValue(v1alpha1.LabelHub, operator.hubID),
			HaveKeyWithValue(v1alpha1.LabelUID, string(job.UID))))
		Expect(remote.Annotations).To(HaveKeyWithValue(v1alpha1.AnnotationSource, job.Namespace+"/"+job.Name))
		eventually(ctx, job).Should(And(
			havePhase(v1alpha1.PooledJobPending),
			haveCondition(v1alpha1.ConditionAccepted, metav1.ConditionTrue, v1alpha1.ReasonAccepted),
			haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionTrue, v1alpha1.ReasonCreated),
			HaveField("Finalizers", ContainElement(v1alpha1.FinalizerPooledJob)),
			HaveField("Status.ClusterName", w.name),
			HaveField("Status.JobRef.UID", string(remote.UID))))

		pod := start(ctx, remote)
		eventually(ctx, job).Should(And(
			havePhase(v1alpha1.PooledJobRunning),
			haveCondition(v1alpha1.ConditionSynced, metav1.ConditionTrue, v1alpha1.ReasonSynced)))

		endPod(ctx, pod, 3, "the disk is full")
		endJob(ctx, remote, batchv1.JobFailed)
		eventually(ctx, job).Should(And(
			havePhase(v1alpha1.PooledJobFailed),
			haveCondition(v1alpha1.ConditionFailed, metav1.ConditionTrue, "AsTold", Equal("as the test told")),
			HaveField("Status.Result.ExitCode", HaveValue(BeEquivalentTo(3))),
			HaveField("Status.Result.Message", "the disk is full"),
			HaveField("Status.Result.PodName", pod.Name)))
	})

	It("keeps the exit code of a Pod that was deleted before the Job had its verdict", func(ctx context.Context) {
		w := connected(ctx)
		job := w.submit(ctx)
		remote := remoteOf(ctx, job)
		pod := start(ctx, remote)
		eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobRunning))

		endPod(ctx, pod, 143, "")
		Expect(target.Delete(ctx, pod, client.GracePeriodSeconds(0))).To(Succeed())
		endJob(ctx, remote, batchv1.JobFailed)

		eventually(ctx, job).Should(And(
			havePhase(v1alpha1.PooledJobFailed),
			HaveField("Status.Result.ExitCode", HaveValue(BeEquivalentTo(143)))))
	})

	It("reports PodGone and no exit code when nobody saw the Pod end", func(ctx context.Context) {
		w := connected(ctx)
		job := w.submit(ctx)
		endJob(ctx, remoteOf(ctx, job), batchv1.JobFailed)
		eventually(ctx, job).Should(And(
			havePhase(v1alpha1.PooledJobFailed),
			HaveField("Status.Result.Reason", v1alpha1.ResultPodGone),
			HaveField("Status.Result.ExitCode", BeNil())))
	})

	It("keeps its final status whatever happens to the Job afterwards", func(ctx context.Context) {
		w := connected(ctx)
		job := w.submit(ctx)
		remote := remoteOf(ctx, job)
		endJob(ctx, remote, batchv1.JobComplete)
		eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobSucceeded))
		Expect(target.Delete(ctx, remote, client.PropagationPolicy(metav1.DeletePropagationBackground))).To(Succeed())
		consistently(ctx, job).Should(havePhase(v1alpha1.PooledJobSucceeded))
		Expect(remoteJobs(w.name)(Default, ctx)).To(BeEmpty())
	})

	It("waits for a ClusterConnection and a Secret that do not exist yet, and starts once they do", func(ctx context.Context) {
		w := newWorld(ctx)
		job := w.submit(ctx)
		eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionAccepted, metav1.ConditionFalse, v1alpha1.ReasonClusterNotFound, ContainSubstring(w.name)))

		w.createConnection(ctx)
		Eventually(w.connection).WithContext(ctx).Should(haveCondition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonSecretNotFound))
		eventually(ctx, job).Should(And(
			havePhase(v1alpha1.PooledJobPending),
			haveCondition(v1alpha1.ConditionAccepted, metav1.ConditionTrue, v1alpha1.ReasonAccepted),
			haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionFalse, v1alpha1.ReasonClusterNotReady,
				ContainSubstring("Secret "+systemNamespace+"/"+w.name+" does not exist"))))

		w.createSecret(ctx)
		remoteOf(ctx, job)
	})

	It("has one Job, also when the operator is restarted at any time", func(ctx context.Context) {
		w := connected(ctx)
		job := w.submit(ctx)
		remote := remoteOf(ctx, job)
		for range 2 {
			operator.restart()
			Eventually(w.connection).WithContext(ctx).Should(haveCondition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonConnected))
		}
		endJob(ctx, remote, batchv1.JobComplete)
		eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobSucceeded))
		Expect(remoteJobs(w.name)(Default, ctx)).To(ConsistOf(HaveField("UID", remote.UID)))
	})

	It("does not run again under a new operator when its Job was created and then lost", func(ctx context.Context) {
		w := connected(ctx)
		job := w.submit(ctx)
		remote := remoteOf(ctx, job)
		eventually(ctx, job).Should(HaveField("Status.JobRef.UID", string(remote.UID)))
		operator.stop()
		Expect(target.Delete(ctx, remote, client.PropagationPolicy(metav1.DeletePropagationBackground))).To(Succeed())
		*operator = *startOperator(operator.scheme)
		eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionFailed, metav1.ConditionTrue, v1alpha1.ReasonRemoteJobEndUnknown))
		Expect(remoteJobs(w.name)(Default, ctx)).To(BeEmpty())
	})

	It("names the Pods that its Job left when it was deleted", func(ctx context.Context) {
		w := connected(ctx)
		job, remote, pod := w.running(ctx)
		orphan := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"ownerReferences":null}}`))
		Expect(target.Patch(ctx, pod, orphan)).To(Succeed())
		Expect(target.Delete(ctx, remote, client.PropagationPolicy(metav1.DeletePropagationBackground))).To(Succeed())
		eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionFailed, metav1.ConditionTrue, v1alpha1.ReasonRemoteJobDeleted,
			ContainSubstring("Pods that it left go on (1, such as "+pod.Name+")")))
	})

	It("fails when its Job was deleted by somebody else, and is not run again", func(ctx context.Context) {
		w := connected(ctx)
		job := w.submit(ctx)
		remote := remoteOf(ctx, job)
		Expect(target.Delete(ctx, remote, client.PropagationPolicy(metav1.DeletePropagationBackground))).To(Succeed())
		eventually(ctx, job).Should(And(
			havePhase(v1alpha1.PooledJobFailed),
			haveCondition(v1alpha1.ConditionFailed, metav1.ConditionTrue, v1alpha1.ReasonRemoteJobDeleted)))
		Consistently(remoteJobs(w.name)).WithContext(ctx).Should(BeEmpty())
	})

	It("survives that somebody removes the labels from its Job", func(ctx context.Context) {
		w := connected(ctx)
		job := w.submit(ctx)
		remote := remoteOf(ctx, job)
		eventually(ctx, job).Should(HaveField("Status.JobRef.UID", string(remote.UID)))
		stripLabels(ctx, remote)
		Eventually(func() map[string]string { return remoteOf(ctx, job).Labels }).Should(HaveKeyWithValue(v1alpha1.LabelUID, string(job.UID)))
		endJob(ctx, remote, batchv1.JobComplete)
		eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobSucceeded))
	})
})

var _ = Describe("Deleting a PooledJob", func() {
	It("completes only when its Job and Pods are gone", func(ctx context.Context) {
		w := connected(ctx)
		job := w.submit(ctx)
		remote := remoteOf(ctx, job)
		start(ctx, remote)
		eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobRunning))

		Expect(hub.Delete(ctx, job)).To(Succeed())
		Eventually(func() *metav1.Time { return remoteOf(ctx, job).DeletionTimestamp }).ShouldNot(BeNil())
		Expect(remoteOf(ctx, job).Finalizers).To(ContainElement(metav1.FinalizerDeleteDependents), "deleted in the foreground")
		Consistently(exists(hub, job)).WithContext(ctx).Should(BeTrue())

		finishDeletion(ctx, remote)
		Eventually(exists(hub, job)).WithContext(ctx).Should(BeFalse())
		Expect(remoteJobs(w.name)(Default, ctx)).To(BeEmpty())
	})

	It("deletes Pods that somebody orphaned, and waits for them", func(ctx context.Context) {
		w := connected(ctx)
		job := w.submit(ctx)
		remote := remoteOf(ctx, job)
		pod := start(ctx, remote)
		pod.Finalizers = append(pod.Finalizers, "example.com/slow")
		Expect(target.Update(ctx, pod)).To(Succeed())
		eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobRunning))
		Expect(target.Delete(ctx, remote, client.PropagationPolicy(metav1.DeletePropagationBackground))).To(Succeed())

		Expect(hub.Delete(ctx, job)).To(Succeed())
		Eventually(func(g Gomega) *metav1.Time {
			g.Expect(target.Get(ctx, client.ObjectKeyFromObject(pod), pod)).To(Succeed())
			return pod.DeletionTimestamp
		}).ShouldNot(BeNil())
		Consistently(exists(hub, job)).WithContext(ctx).Should(BeTrue())
		pod.Finalizers = nil
		Expect(target.Update(ctx, pod)).To(Succeed())
		Eventually(exists(hub, job)).WithContext(ctx).Should(BeFalse())
	})

	It("leaves the Job with deletionPolicy Orphan", func(ctx context.Context) {
		w := connected(ctx)
		job := w.submit(ctx, func(j *v1alpha1.PooledJob) { j.Spec.DeletionPolicy = v1alpha1.DeletionPolicyOrphan })
		remote := remoteOf(ctx, job)
		Expect(hub.Delete(ctx, job)).To(Succeed())
		Eventually(exists(hub, job)).WithContext(ctx).Should(BeFalse())
		Expect(remoteJobs(w.name)(Default, ctx)).To(ConsistOf(And(
			HaveField("UID", remote.UID), HaveField("DeletionTimestamp", BeNil()))))
	})

	It("needs no target when nothing was ever sent there", func(ctx context.Context) {
		w := newWorld(ctx)
		job := w.submit(ctx)
		eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionAccepted, metav1.ConditionFalse, v1alpha1.ReasonClusterNotFound))
		Expect(hub.Delete(ctx, job)).To(Succeed())
		Eventually(exists(hub, job)).WithContext(ctx).Should(BeFalse())
	})

	It("finds a Job that lost its labels", func(ctx context.Context) {
		w := connected(ctx)
		job := w.submit(ctx)
		remote := remoteOf(ctx, job)
		eventually(ctx, job).Should(HaveField("Status.JobRef.UID", string(remote.UID)))
		operator.stop()
		stripLabels(ctx, remote)
		Expect(hub.Delete(ctx, job)).To(Succeed())
		*operator = *startOperator(operator.scheme)
		Eventually(func() *metav1.Time { return remoteOf(ctx, job).DeletionTimestamp }).ShouldNot(BeNil())
		Expect(target.Patch(ctx, remote, client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`)))).To(Succeed())
		Eventually(exists(hub, job)).WithContext(ctx).Should(BeFalse())
	})

	It("keeps the ClusterConnection until its PooledJobs have cleaned up", func(ctx context.Context) {
		w := connected(ctx)
		job := w.submit(ctx)
		remote := remoteOf(ctx, job)
		connection := w.connection(Default, ctx)
		Expect(hub.Delete(ctx, connection)).To(Succeed())
		Eventually(w.connection).WithContext(ctx).Should(haveCondition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonDeleting,
			ContainSubstring(job.Namespace+"/"+job.Name)))
		late := w.submit(ctx)
		eventually(ctx, late).Should(haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionFalse, v1alpha1.ReasonClusterNotReady, ContainSubstring("being deleted")))

		Expect(hub.Delete(ctx, job)).To(Succeed())
		finishDeletion(ctx, remote)
		Eventually(exists(hub, connection)).WithContext(ctx).Should(BeFalse())
		Expect(remoteJobs(w.name)(Default, ctx)).To(BeEmpty())
	})
})
