package controllers

import (
	"context"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// A spec leaves nothing behind that the operator would go on with: each connection that
// stays is probed, reviewed and made anew after every restart, so that the last of some
// hundred specs would wait for the connections of all others.
var _ = BeforeEach(func() { DeferCleanup(leaveNothing) })

func leaveNothing(ctx context.Context) {
	deleteAll(ctx, hub, &v1alpha1.PooledJobList{})
	deleteAll(ctx, hub, &v1alpha1.ClusterConnectionList{})
	for _, cluster := range []client.Client{hub, target} {
		deleteAll(ctx, cluster, &batchv1.JobList{})
		deleteAll(ctx, cluster, &corev1.PodList{})
	}
}

// deleteAll deletes all objects of a kind, whatever their finalizers wait for.
func deleteAll(ctx context.Context, c client.Client, list client.ObjectList) {
	GinkgoHelper()
	Eventually(func(g Gomega) {
		g.Expect(c.List(ctx, list)).To(Succeed())
		items, err := meta.ExtractList(list)
		g.Expect(err).NotTo(HaveOccurred())
		for _, item := range items {
			obj := item.(client.Object)
			g.Expect(client.IgnoreNotFound(c.Delete(ctx, obj, client.GracePeriodSeconds(0), client.PropagationPolicy(metav1.DeletePropagationBackground)))).To(Succeed())
			if len(obj.GetFinalizers()) > 0 {
				patch := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`))
				g.Expect(client.IgnoreNotFound(c.Patch(ctx, obj, patch))).To(Succeed())
			}
		}
		g.Expect(items).To(BeEmpty())
	}).Should(Succeed())
}
