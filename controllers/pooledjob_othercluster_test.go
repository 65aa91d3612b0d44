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
)

var _ = Describe("A run and its cluster", func() {
	It("stay together: another cluster behind the connection decides nothing about the run", func(ctx context.Context) {
		w := connected(ctx)
		job := w.submit(ctx)
		remote := remoteOf(ctx, job)
		start(ctx, remote)
		eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobRunning))

		operator.stop()
		w.moveToTheHub(ctx)
		// A copy of the target would have a copy of the Job.
		clone := &batchv1.Job{
			ObjectMeta: metav1.ObjectMeta{Namespace: remote.Namespace, Name: remote.Name, Labels: remote.Labels},
			Spec:       job.Spec.Template.Spec,
		}
		Expect(hub.Create(ctx, clone)).To(Succeed())
		*operator = *startOperator(operator.scheme)

		eventually(ctx, job).Should(And(
			havePhase(v1alpha1.PooledJobRunning),
			haveCondition(v1alpha1.ConditionSynced, metav1.ConditionUnknown, v1alpha1.ReasonClusterNotReady, ContainSubstring("is bound to the cluster with UID"))))
		consistently(ctx, job).Should(havePhase(v1alpha1.PooledJobRunning))
		Expect(hub.Delete(ctx, job)).To(Succeed())
		eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionDeleting, metav1.ConditionTrue, v1alpha1.ReasonClusterNotReady))
		Consistently(exists(hub, job)).WithContext(ctx).Should(BeTrue())
		var there batchv1.JobList
		Expect(hub.List(ctx, &there)).To(Succeed())
		Expect(there.Items).To(ConsistOf(And(
			HaveField("UID", clone.UID), HaveField("DeletionTimestamp", BeNil()))), "nothing is created or deleted on the other cluster")
		Expect(remoteOf(ctx, job).DeletionTimestamp).To(BeNil())
	})
})

// moveToTheHub makes the ClusterConnection anew, so that it remembers no cluster, and has
// it reach the hub instead of the target. The operator must stand still.
func (w world) moveToTheHub(ctx context.Context) {
	connection := w.connection(Default, ctx)
	connection.Finalizers = nil
	Expect(hub.Update(ctx, connection)).To(Succeed())
	Expect(hub.Delete(ctx, connection)).To(Succeed())
	other, err := hubCluster.Kubeconfig()
	Expect(err).NotTo(HaveOccurred())
	w.replaceSecret(ctx, other)
	w.createConnection(ctx)
}

// replaceSecret gives the connection another kubeconfig.
func (w world) replaceSecret(ctx context.Context, kubeconfig []byte) {
	secret := &corev1.Secret{}
	Expect(hub.Get(ctx, client.ObjectKey{Namespace: systemNamespace, Name: w.name}, secret)).To(Succeed())
	secret.Data["kubeconfig"] = kubeconfig
	Expect(hub.Update(ctx, secret)).To(Succeed())
}
