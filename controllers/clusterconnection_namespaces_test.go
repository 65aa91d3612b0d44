package controllers

import (
	"context"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/fixtures"
)

// limited returns a new world, of three namespaces on both sides, and a kubeconfig in its
// Secret whose identity may run Jobs in the first two of them only.
func limited(ctx context.Context) (w world, user string, namespaces []string) {
	w = newWorld(ctx)
	user = uniqueName("limited")
	namespaces = []string{w.name, w.name + "-b", w.name + "-c"}
	for _, name := range namespaces[1:] {
		Expect(hub.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"team": w.name}}})).To(Succeed())
		w.createTargetNamespace(ctx, name)
	}
	for _, name := range namespaces[:2] {
		allowIn(ctx, name, userSubject(user))
	}
	grant(ctx, user, "identity", rbacv1.PolicyRule{
		APIGroups: []string{""}, Resources: []string{"namespaces"}, ResourceNames: []string{metav1.NamespaceSystem}, Verbs: []string{"get"},
	})
	w.createSecret(ctx, certificateOf(user)...)
	return w, user, namespaces
}

func in(namespace string) func(*v1alpha1.PooledJob) {
	return func(job *v1alpha1.PooledJob) { job.Namespace = namespace }
}

func (w world) setNamespaces(ctx context.Context, namespaces ...string) {
	Eventually(func(g Gomega) {
		connection := w.connection(g, ctx)
		connection.Spec.Namespaces = namespaces
		g.Expect(hub.Update(ctx, connection)).To(Succeed())
	}).WithContext(ctx).Should(Succeed())
}

var _ = Describe("A ClusterConnection with spec.namespaces", func() {
	It("needs rights in those namespaces only, and runs PooledJobs there", func(ctx context.Context) {
		w, _, namespaces := limited(ctx)
		w.createConnectionWith(ctx, func(spec *v1alpha1.ClusterConnectionSpec) { spec.Namespaces = namespaces[:2] })
		Eventually(w.connection).WithContext(ctx).Should(haveFive(fixtures.All(yes)))
		for _, namespace := range namespaces[:2] {
			job := w.submit(ctx, in(namespace))
			remote := remoteOf(ctx, job)
			pod := start(ctx, remote)
			eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobRunning))
			endPod(ctx, pod, 0, "")
			endJob(ctx, remote, batchv1.JobComplete)
			eventually(ctx, job).Should(And(havePhase(v1alpha1.PooledJobSucceeded), HaveField("Status.Result.ExitCode", HaveValue(BeZero()))))
		}
	})

	It("keeps a PooledJob waiting for a namespace that is not listed, and runs it once it is", func(ctx context.Context) {
		w, user, namespaces := limited(ctx)
		w.createConnectionWith(ctx, func(spec *v1alpha1.ClusterConnectionSpec) { spec.Namespaces = namespaces[:2] })
		Eventually(w.connection).WithContext(ctx).Should(haveFive(fixtures.All(yes)))
		running := w.submit(ctx)
		remote := remoteOf(ctx, running)
		job := w.submit(ctx, in(namespaces[2]))
		eventually(ctx, job).Should(And(havePhase(v1alpha1.PooledJobPending),
			haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionFalse, v1alpha1.ReasonNamespaceNotWatched,
				ContainSubstring(namespaces[2]), ContainSubstring("spec.namespaces"))))
		Expect(remoteJobs(namespaces[2])(Default, ctx)).To(BeEmpty())

		allowIn(ctx, namespaces[2], userSubject(user))
		Consistently(remoteJobs(namespaces[2])).WithContext(ctx).Should(BeEmpty(), "a right is not enough")
		w.setNamespaces(ctx, namespaces...)
		remoteOf(ctx, job)
		endJob(ctx, remote, batchv1.JobComplete)
		eventually(ctx, running).Should(havePhase(v1alpha1.PooledJobSucceeded))
	})

	It("keeps serving the other namespaces when one is removed, and ends no run there", func(ctx context.Context) {
		w, _, namespaces := limited(ctx)
		w.createConnectionWith(ctx, func(spec *v1alpha1.ClusterConnectionSpec) { spec.Namespaces = namespaces[:2] })
		first, second := w.submit(ctx), w.submit(ctx, in(namespaces[1]))
		remote := remoteOf(ctx, first)
		for _, job := range []*v1alpha1.PooledJob{first, second} {
			start(ctx, remoteOf(ctx, job))
			eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobRunning))
		}
		w.setNamespaces(ctx, namespaces[0])
		eventually(ctx, second).Should(haveCondition(v1alpha1.ConditionSynced, metav1.ConditionUnknown, v1alpha1.ReasonNamespaceNotWatched, ContainSubstring(namespaces[1])))
		Eventually(w.figureOf("watches")).WithContext(ctx).Should(Equal(2.0))
		endJob(ctx, remote, batchv1.JobComplete)
		eventually(ctx, first).Should(havePhase(v1alpha1.PooledJobSucceeded))
		consistently(ctx, second).Should(havePhase(v1alpha1.PooledJobRunning))
		Expect(w.connection(Default, ctx)).To(haveFive(fixtures.All(yes)))
	})

	It("names the missing right without spec.namespaces, and becomes Ready once that is granted", func(ctx context.Context) {
		w, user, namespaces := limited(ctx)
		w.createConnection(ctx)
		Eventually(w.connection).WithContext(ctx).Should(And(
			haveFive(fixtures.Five{"False/Forbidden", yes, yes, "False/Forbidden", unknown}),
			haveCondition(v1alpha1.ConditionAuthorized, metav1.ConditionFalse, v1alpha1.ReasonForbidden,
				MatchRegexp(`list jobs\.batch.*in all namespaces`), MatchRegexp(`watch pods`), ContainSubstring("spec.namespaces"))))
		job := w.submit(ctx, in(namespaces[2]))
		eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionFalse, v1alpha1.ReasonClusterNotReady, ContainSubstring("list jobs.batch")))
		before := w.connection(Default, ctx)
		allow(ctx, userSubject(user))
		Eventually(w.connection).WithContext(ctx).Should(And(haveFive(fixtures.All(yes)), HaveField("Generation", before.Generation)))
		remoteOf(ctx, job)
	})

	It("reports a missing right once, however often it is tried again", func(ctx context.Context) {
		w, _, _ := limited(ctx)
		w.createConnection(ctx)
		Eventually(w.connection).WithContext(ctx).Should(haveFive(fixtures.Five{"False/Forbidden", yes, yes, "False/Forbidden", unknown}))
		message := func(g Gomega, ctx context.Context) string {
			return meta.FindStatusCondition(w.connection(g, ctx).Status.Conditions, v1alpha1.ConditionReady).Message
		}
		Consistently(message).WithContext(ctx).WithTimeout(4 * quiet).Should(Equal(message(Default, ctx)))
	})

	It("becomes Forbidden when one namespace is forbidden, and names it", func(ctx context.Context) {
		w, _, namespaces := limited(ctx)
		w.createConnectionWith(ctx, func(spec *v1alpha1.ClusterConnectionSpec) { spec.Namespaces = namespaces })
		Eventually(w.connection).WithContext(ctx).Should(haveCondition(v1alpha1.ConditionAuthorized, metav1.ConditionFalse, v1alpha1.ReasonForbidden,
			MatchRegexp(`list jobs\.batch.*in namespace "`+namespaces[2]+`"`)))
		w.setNamespaces(ctx, namespaces[:2]...)
		Eventually(w.connection).WithContext(ctx).Should(haveFive(fixtures.All(yes)))
	})

	It("reports that the identity may not read which cluster it is", func(ctx context.Context) {
		user := uniqueName("blind")
		w := newWorld(ctx)
		allowIn(ctx, w.name, userSubject(user))
		w.createSecret(ctx, certificateOf(user)...)
		w.createConnectionWith(ctx, func(spec *v1alpha1.ClusterConnectionSpec) { spec.Namespaces = []string{w.name} })
		Eventually(w.connection).WithContext(ctx).Should(haveCondition(v1alpha1.ConditionAuthorized, metav1.ConditionFalse, v1alpha1.ReasonForbidden,
			ContainSubstring(metav1.NamespaceSystem), MatchRegexp(`(?i)namespaces`)))
		allow(ctx, userSubject(user))
		Eventually(w.connection).WithContext(ctx).Should(haveFive(fixtures.All(yes)))
	})
})
