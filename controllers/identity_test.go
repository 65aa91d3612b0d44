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

var _ = Describe("What belongs together", func() {
	It("is the run and its cluster: another one behind the connection decides nothing", func(ctx context.Context) {
		w := connected(ctx)
		job := w.submit(ctx)
		remote := remoteOf(ctx, job)
		start(ctx, remote)
		eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobRunning))

		// The ClusterConnection is made anew, so that it remembers no cluster, and
		// reaches the hub instead of the target.
		operator.stop()
		connection := w.connection(Default, ctx)
		connection.Finalizers = nil
		Expect(hub.Update(ctx, connection)).To(Succeed())
		Expect(hub.Delete(ctx, connection)).To(Succeed())
		other, err := hubCluster.Kubeconfig()
		Expect(err).NotTo(HaveOccurred())
		w.replaceSecret(ctx, other)
		w.createConnection(ctx)
		*operator = *startOperator(operator.scheme)

		eventually(ctx, job).Should(And(
			havePhase(v1alpha1.PooledJobRunning),
			haveCondition(v1alpha1.ConditionSynced, metav1.ConditionUnknown, v1alpha1.ReasonClusterNotReady, ContainSubstring("is bound to the cluster with UID"))))
		consistently(ctx, job).Should(havePhase(v1alpha1.PooledJobRunning))
		Expect(hub.Delete(ctx, job)).To(Succeed())
		eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionDeleting, metav1.ConditionTrue, v1alpha1.ReasonClusterNotReady))
		Consistently(exists(hub, job)).WithContext(ctx).Should(BeTrue())
		var strays batchv1.JobList
		Expect(hub.List(ctx, &strays)).To(Succeed())
		Expect(strays.Items).To(BeEmpty(), "nothing is created on the other cluster")
		Expect(remoteOf(ctx, job).DeletionTimestamp).To(BeNil())
	})

	It("is the run and its template, also when a ClusterConnection goes", func(ctx context.Context) {
		newWorld(ctx).submit(ctx) // one that comes first in a list of all
		w := newWorld(ctx)
		w.createConnection(ctx)
		job := w.submit(ctx, func(j *v1alpha1.PooledJob) {
			j.Spec.Template.Labels = map[string]string{"whose": "mine"}
			j.Spec.Template.Spec.Template.Spec.Containers[0].Image = "mine"
		})
		eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionFalse, v1alpha1.ReasonClusterNotReady))
		connection := w.connection(Default, ctx)
		Expect(hub.Delete(ctx, connection)).To(Succeed())
		Eventually(exists(hub, connection)).WithContext(ctx).Should(BeFalse())

		w.createSecret(ctx)
		w.createConnection(ctx)
		remote := remoteOf(ctx, job)
		Expect(remote.Labels).To(HaveKeyWithValue("whose", "mine"))
		Expect(remote.Spec.Template.Spec.Containers).To(ConsistOf(HaveField("Image", "mine")))
	})
})

// replaceSecret gives the connection another kubeconfig.
func (w world) replaceSecret(ctx context.Context, kubeconfig []byte) {
	secret := &corev1.Secret{}
	Expect(hub.Get(ctx, client.ObjectKey{Namespace: systemNamespace, Name: w.name}, secret)).To(Succeed())
	secret.Data["kubeconfig"] = kubeconfig
	Expect(hub.Update(ctx, secret)).To(Succeed())
}
