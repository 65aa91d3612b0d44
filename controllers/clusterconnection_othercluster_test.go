package controllers

import (
	"context"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/fixtures"
)

// uidOf returns the UID by which a cluster is known.
func uidOf(ctx context.Context, c client.Client) string {
	system := &corev1.Namespace{}
	Expect(c.Get(ctx, client.ObjectKey{Name: metav1.NamespaceSystem}, system)).To(Succeed())
	return string(system.UID)
}

// otherCluster returns a kubeconfig of the hub, which stands in for another target. What
// is created there goes with the spec.
func (w world) otherCluster() []byte {
	kubeconfig, err := hubCluster.Kubeconfig()
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() { *operator = *startOperator(operator.scheme) })
	DeferCleanup(func(ctx context.Context) { // comes first
		operator.stop() // it would take the deletion for a loss, which is right
		Expect(hub.DeleteAllOf(ctx, &batchv1.Job{}, client.InNamespace(w.name), client.PropagationPolicy(metav1.DeletePropagationBackground))).To(Succeed())
	})
	return kubeconfig
}

func jobsOnHub(namespace string) func(Gomega, context.Context) []batchv1.Job {
	return func(g Gomega, ctx context.Context) []batchv1.Job {
		var jobs batchv1.JobList
		g.Expect(hub.List(ctx, &jobs, client.InNamespace(namespace))).To(Succeed())
		return jobs.Items
	}
}

var _ = Describe("Another cluster behind a ClusterConnection", func() {
	It("receives nothing while the last kubeconfig works, until a person confirms it", func(ctx context.Context) {
		w := connectedAs(ctx, certificateOf(userWithRights(ctx)))
		first, second := uidOf(ctx, target), uidOf(ctx, hub)
		Expect(w.connection(Default, ctx).Status.ClusterUID).To(Equal(first))
		running := w.submit(ctx)
		remote := remoteOf(ctx, running)
		start(ctx, remote)
		eventually(ctx, running).Should(havePhase(v1alpha1.PooledJobRunning))
		versions := w.record(ctx)

		w.replaceSecret(ctx, w.otherCluster())
		refused := fixtures.Five{"True/LastKubeconfig", "False/IdentityChanged", yes, yes, yes}
		Eventually(w.connection).WithContext(ctx).Should(And(haveFive(refused),
			haveCondition(v1alpha1.ConditionCredentialsValid, metav1.ConditionFalse, v1alpha1.ReasonIdentityChanged,
				ContainSubstring(first), ContainSubstring(second), ContainSubstring(v1alpha1.AnnotationConfirmClusterUID)),
			HaveField("Status.ClusterUID", first), HaveField("Status.Server", trimmedHost())))
		meanwhile := w.submit(ctx)
		remoteOf(ctx, meanwhile)
		w.annotate(ctx, v1alpha1.AnnotationConfirmClusterUID, "another-uid")
		Consistently(w.connection).WithContext(ctx).Should(And(haveFive(refused), HaveField("Status.ClusterUID", first)), "a confirmation of a third cluster means nothing")
		Expect(jobsOnHub(w.name)(Default, ctx)).To(BeEmpty())

		w.annotate(ctx, v1alpha1.AnnotationConfirmClusterUID, second)
		Eventually(w.connection).WithContext(ctx).Should(And(haveFive(fixtures.All(yes)), HaveField("Status.ClusterUID", second)))
		for _, state := range readyOf(versions()) {
			Expect(state).To(BeElementOf(yes, "True/LastKubeconfig"))
		}
		for _, job := range []*v1alpha1.PooledJob{running, meanwhile} {
			eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionSynced, metav1.ConditionUnknown, v1alpha1.ReasonClusterNotReady,
				ContainSubstring(first), ContainSubstring(second)))
		}
		late := w.submit(ctx)
		Eventually(jobsOnHub(w.name)).WithContext(ctx).Should(ConsistOf(HaveField("Name", remoteKey(late).Name)))
		consistently(ctx, running).Should(havePhase(v1alpha1.PooledJobRunning))
		Expect(jobsOnHub(w.name)(Default, ctx)).To(HaveLen(1), "runs of the former cluster are not run again")
		Expect(remoteJobs(w.name)(Default, ctx)).To(HaveLen(2))

		// The former cluster is behind it again: its runs go on.
		w.replaceSecret(ctx, certificateOf(userWithRights(ctx)))
		Eventually(w.connection).WithContext(ctx).Should(haveFive(refused))
		w.annotate(ctx, v1alpha1.AnnotationConfirmClusterUID, first)
		Eventually(w.connection).WithContext(ctx).Should(And(haveFive(fixtures.All(yes)), HaveField("Status.ClusterUID", first)))
		endJob(ctx, remote, batchv1.JobComplete)
		eventually(ctx, running).Should(havePhase(v1alpha1.PooledJobSucceeded))
	})

	It("receives nothing when no other kubeconfig works, until a person confirms it", func(ctx context.Context) {
		w := connectedAs(ctx, certificateOf(userWithRights(ctx)))
		first, second := uidOf(ctx, target), uidOf(ctx, hub)
		running := w.submit(ctx)
		start(ctx, remoteOf(ctx, running))
		eventually(ctx, running).Should(havePhase(v1alpha1.PooledJobRunning))
		kubeconfig := w.otherCluster()

		operator.stop()
		w.replaceSecret(ctx, kubeconfig)
		*operator = *startOperator(operator.scheme)
		refused := fixtures.Five{"False/IdentityChanged", yes, yes, unknown, "False/IdentityChanged"}
		Eventually(w.connection).WithContext(ctx).Should(And(haveFive(refused),
			haveCondition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonIdentityChanged,
				ContainSubstring(first), ContainSubstring(second), ContainSubstring(v1alpha1.AnnotationConfirmClusterUID)),
			HaveField("Status.ClusterUID", first)))
		late := w.submit(ctx)
		eventually(ctx, late).Should(And(havePhase(v1alpha1.PooledJobPending),
			haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionFalse, v1alpha1.ReasonClusterNotReady, ContainSubstring(second))))
		eventually(ctx, running).Should(haveCondition(v1alpha1.ConditionSynced, metav1.ConditionUnknown, v1alpha1.ReasonClusterNotReady))
		consistently(ctx, running).Should(havePhase(v1alpha1.PooledJobRunning))
		Expect(w.connection(Default, ctx)).To(haveFive(refused))
		Expect(jobsOnHub(w.name)(Default, ctx)).To(BeEmpty())
		Eventually(w.eventsOf(v1alpha1.ReasonIdentityChanged)).WithContext(ctx).Should(HaveLen(1))

		w.annotate(ctx, v1alpha1.AnnotationConfirmClusterUID, second)
		Eventually(w.connection).WithContext(ctx).Should(And(haveFive(fixtures.All(yes)), HaveField("Status.ClusterUID", second)))
		Eventually(jobsOnHub(w.name)).WithContext(ctx).Should(ConsistOf(HaveField("Name", remoteKey(late).Name)))
		consistently(ctx, running).Should(And(havePhase(v1alpha1.PooledJobRunning),
			haveCondition(v1alpha1.ConditionSynced, metav1.ConditionUnknown, v1alpha1.ReasonClusterNotReady)))
		Expect(jobsOnHub(w.name)(Default, ctx)).To(HaveLen(1))
	})
})
