package controllers

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/binding"
	"github.com/pooledjob/pooledjob/internal/jobspec"
)

var _ = Describe("What the target refuses", func() {
	It("gets tried again: a missing namespace", func(ctx context.Context) {
		w := newWorld(ctx)
		w.createSecret(ctx)
		later := w.name + "-later"
		w.createConnection(ctx, later)
		job := w.submit(ctx, func(j *v1alpha1.PooledJob) { j.Spec.TargetNamespace = later })
		eventually(ctx, job).Should(And(
			havePhase(v1alpha1.PooledJobPending),
			haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionFalse, v1alpha1.ReasonNamespaceNotFound, ContainSubstring(later))))
		w.createTargetNamespace(ctx, later)
		remoteOf(ctx, job)
	})

	It("gets tried again: a right that the identity lacks", func(ctx context.Context) {
		w := newWorld(ctx)
		grant(ctx, w.name, "jobs-watcher", rbacv1.PolicyRule{APIGroups: []string{"batch"}, Resources: []string{"jobs"}, Verbs: []string{"get", "list", "watch"}})
		grant(ctx, w.name, "pods-watcher", rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods", "namespaces"}, Verbs: []string{"get", "list", "watch"}})
		kubeconfig, err := targetCluster.KubeconfigFor(w.name)
		Expect(err).NotTo(HaveOccurred())
		w.createSecret(ctx, kubeconfig...)
		w.createConnection(ctx)
		job := w.submit(ctx)
		eventually(ctx, job).Should(And(
			havePhase(v1alpha1.PooledJobPending),
			haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionFalse, v1alpha1.ReasonForbidden, ContainSubstring(`cannot create resource "jobs"`))))
		grant(ctx, w.name, "creator", rbacv1.PolicyRule{APIGroups: []string{"batch"}, Resources: []string{"jobs"}, Verbs: []string{"create"}})
		remoteOf(ctx, job)
	})

	It("gets tried again: an exceeded quota", func(ctx context.Context) {
		w := connected(ctx)
		none := corev1.ResourceList{"count/jobs.batch": resource.MustParse("0")}
		quota := &corev1.ResourceQuota{
			ObjectMeta: metav1.ObjectMeta{Namespace: w.name, Name: "no-jobs"},
			Spec:       corev1.ResourceQuotaSpec{Hard: none},
		}
		Expect(target.Create(ctx, quota)).To(Succeed())
		quota.Status = corev1.ResourceQuotaStatus{Hard: none, Used: none}
		Expect(target.Status().Update(ctx, quota)).To(Succeed())
		job := w.submit(ctx)
		eventually(ctx, job).Should(And(
			havePhase(v1alpha1.PooledJobPending),
			haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionFalse, v1alpha1.ReasonQuotaExceeded, ContainSubstring("exceeded quota: no-jobs"))))
		Expect(target.Delete(ctx, quota)).To(Succeed())
		remoteOf(ctx, job)
	})

	It("ends the run: an invalid Job", func(ctx context.Context) {
		w := connected(ctx)
		job := w.submit(ctx, func(j *v1alpha1.PooledJob) {
			j.Spec.Template.Spec.Template.Spec.Containers[0].Image = ""
		})
		eventually(ctx, job).Should(And(
			havePhase(v1alpha1.PooledJobFailed),
			haveCondition(v1alpha1.ConditionFailed, metav1.ConditionTrue, v1alpha1.ReasonRejected, ContainSubstring("spec.template.spec.containers[0].image: Required value"))))
		Expect(remoteJobs(w.name)(Default, ctx)).To(BeEmpty())
		Expect(hub.Delete(ctx, job)).To(Succeed())
		Eventually(exists(hub, job)).WithContext(ctx).Should(BeFalse())
	})

	It("ends the run: an admission policy", func(ctx context.Context) {
		w := connected(ctx)
		deny(ctx, w.name, "no Jobs on Sundays")
		// The API server takes a moment to enforce a policy.
		Eventually(func(g Gomega) {
			job := w.submit(ctx)
			eventually(ctx, job).Should(HaveField("Status.Conditions", ContainElement(HaveField("Type",
				BeElementOf(v1alpha1.ConditionDispatched, v1alpha1.ConditionFailed)))))
			g.Expect(latest(job)(g, ctx)).To(haveCondition(v1alpha1.ConditionFailed, metav1.ConditionTrue, v1alpha1.ReasonRejected, ContainSubstring("no Jobs on Sundays")))
		}).WithTimeout(30 * time.Second).Should(Succeed())
	})

	It("ends the run: a foreign Job with the same name", func(ctx context.Context) {
		w := newWorld(ctx)
		w.createSecret(ctx)
		job := w.submit(ctx)
		stranger := &batchv1.Job{
			ObjectMeta: metav1.ObjectMeta{Namespace: remoteKey(job).Namespace, Name: remoteKey(job).Name, Labels: map[string]string{"owner": "somebody"}},
			Spec:       job.Spec.Template.Spec,
		}
		Expect(target.Create(ctx, stranger)).To(Succeed())
		before := stranger.DeepCopy()
		w.createConnection(ctx)

		eventually(ctx, job).Should(And(
			havePhase(v1alpha1.PooledJobFailed),
			haveCondition(v1alpha1.ConditionFailed, metav1.ConditionTrue, v1alpha1.ReasonNameConflict)))
		Expect(hub.Delete(ctx, job)).To(Succeed())
		Eventually(exists(hub, job)).WithContext(ctx).Should(BeFalse())
		Expect(target.Get(ctx, client.ObjectKeyFromObject(stranger), stranger)).To(Succeed())
		Expect(stranger).To(Equal(before), "the stranger is untouched")
	})

	It("ends the run when it takes longer than dispatchDeadlineSeconds", func(ctx context.Context) {
		w := newWorld(ctx)
		job := w.submit(ctx, func(j *v1alpha1.PooledJob) { j.Spec.DispatchDeadlineSeconds = 1 })
		eventually(ctx, job).Should(And(
			havePhase(v1alpha1.PooledJobFailed),
			haveCondition(v1alpha1.ConditionFailed, metav1.ConditionTrue, v1alpha1.ReasonDispatchDeadlineExceeded, ContainSubstring("does not exist"))))
		w.createSecret(ctx)
		w.createConnection(ctx)
		Eventually(w.connection).WithContext(ctx).Should(haveCondition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonConnected))
		Consistently(remoteJobs(w.name)).WithContext(ctx).Should(BeEmpty())
	})
})

var _ = Describe("What the access rules refuse", func() {
	refused := func(ctx context.Context, w world, job *v1alpha1.PooledJob) {
		eventually(ctx, job).Should(And(
			havePhase(v1alpha1.PooledJobFailed),
			haveCondition(v1alpha1.ConditionAccepted, metav1.ConditionFalse, v1alpha1.ReasonNotPermitted),
			haveCondition(v1alpha1.ConditionFailed, metav1.ConditionTrue, v1alpha1.ReasonNotPermitted),
			HaveField("Finalizers", BeEmpty())))
		Expect(remoteJobs(w.name)(Default, ctx)).To(BeEmpty())
	}

	It("never reaches the target: a target namespace outside the rules", func(ctx context.Context) {
		w := connected(ctx)
		refused(ctx, w, w.submit(ctx, func(j *v1alpha1.PooledJob) { j.Spec.TargetNamespace = "kube-system" }))
	})

	It("never reaches the target: a hub namespace outside the rules", func(ctx context.Context) {
		owner, other := connected(ctx), newWorld(ctx)
		refused(ctx, owner, other.submit(ctx, func(j *v1alpha1.PooledJob) { j.Spec.ClusterName = owner.name }))
	})

	It("never reaches the target: any run through a connection without rules", func(ctx context.Context) {
		w := newWorld(ctx)
		w.createSecret(ctx)
		Expect(hub.Create(ctx, &v1alpha1.ClusterConnection{
			ObjectMeta: metav1.ObjectMeta{Name: w.name},
			Spec:       v1alpha1.ClusterConnectionSpec{KubeconfigSecretRef: v1alpha1.SecretKeyReference{Name: w.name}},
		})).To(Succeed())
		refused(ctx, w, w.submit(ctx))
	})

	It("stays refused with a forged intent", func(ctx context.Context) {
		w := connected(ctx)
		job := w.submit(ctx, func(j *v1alpha1.PooledJob) {
			j.Finalizers = []string{v1alpha1.FinalizerPooledJob}
			forged := binding.Intent{Cluster: w.name, ClusterUID: "x", Namespace: "kube-system", JobName: "payroll"}
			j.Annotations = map[string]string{v1alpha1.AnnotationIntent: forged.Encode()}
		})
		remote := remoteOf(ctx, job)
		Expect(remote.Namespace).To(Equal(w.name))
		Expect(remoteJobs("kube-system")(Default, ctx)).To(BeEmpty())
		eventually(ctx, job).Should(HaveField("Annotations", HaveKeyWithValue(v1alpha1.AnnotationIntent,
			jobspec.RunOf(operator.hubID, job).NewIntent(w.name, w.connection(Default, ctx).Status.ClusterUID).Encode())))
	})
})

var _ = Describe("A kubeconfig that asks for more than a connection", func() {
	user := func(extra string) []byte {
		return []byte(fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: a,
			contexts: [{name: a, context: {cluster: a, user: a}}],
			clusters: [{name: a, cluster: {server: "https://127.0.0.1:1"}}],
			users: [{name: a, user: {%s}}]}`, extra))
	}
	DescribeTable("gets refused by the name of the field, and nothing is run, read or contacted",
		func(ctx context.Context, kubeconfig func(trap string) []byte, field string) {
			trap := filepath.Join(GinkgoT().TempDir(), "trap")
			w := newWorld(ctx)
			w.createSecret(ctx, kubeconfig(trap)...)
			w.createConnection(ctx)
			Eventually(w.connection).WithContext(ctx).Should(And(
				haveCondition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonInvalidKubeconfig, ContainSubstring(field)),
				haveCondition(v1alpha1.ConditionReachable, metav1.ConditionUnknown, v1alpha1.ReasonNotConnected)))
			Expect(trap).NotTo(BeAnExistingFile())
		},
		Entry("exec", func(trap string) []byte {
			return user("exec: {apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, command: touch, args: ['" + trap + "']}")
		}, "exec is not allowed"),
		Entry("auth-provider", func(string) []byte { return user("auth-provider: {name: oidc}") }, "auth-provider is not allowed"),
		Entry("a file path", func(string) []byte { return user("tokenFile: /etc/hostname") }, "tokenFile is not allowed"),
		Entry("plain http", func(string) []byte {
			return []byte(`{apiVersion: v1, kind: Config, current-context: a, contexts: [{name: a, context: {cluster: a, user: a}}],
				clusters: [{name: a, cluster: {server: "http://127.0.0.1:1"}}], users: [{name: a, user: {token: t}}]}`)
		}, "https://"),
		Entry("no current context", func(string) []byte { return []byte(`{apiVersion: v1, kind: Config}`) }, "current-context"),
		Entry("garbage", func(string) []byte { return []byte("\x01\x02") }, "not a valid v1 Config"),
	)

	It("connects as soon as it is corrected", func(ctx context.Context) {
		w := newWorld(ctx)
		w.createSecret(ctx, user("exec: {command: x}")...)
		w.createConnection(ctx)
		Eventually(w.connection).WithContext(ctx).Should(haveCondition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonInvalidKubeconfig))
		good, err := targetCluster.Kubeconfig()
		Expect(err).NotTo(HaveOccurred())
		secret := &corev1.Secret{}
		Expect(hub.Get(ctx, client.ObjectKey{Namespace: systemNamespace, Name: w.name}, secret)).To(Succeed())
		secret.Data["kubeconfig"] = good
		Expect(hub.Update(ctx, secret)).To(Succeed())
		Eventually(w.connection).WithContext(ctx).Should(And(
			haveCondition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonConnected),
			HaveField("Status.KubernetesVersion", HavePrefix("v1.")),
			HaveField("Status.ClusterUID", Not(BeEmpty())),
			HaveField("Status.Server", strings.TrimSuffix(targetCluster.Config().Host, "/"))))
	})

	It("reports which right to watch is missing", func(ctx context.Context) {
		w := newWorld(ctx)
		kubeconfig, err := targetCluster.KubeconfigFor(w.name + "-nobody")
		Expect(err).NotTo(HaveOccurred())
		w.createSecret(ctx, kubeconfig...)
		w.createConnection(ctx)
		Eventually(w.connection).WithContext(ctx).Should(haveCondition(v1alpha1.ConditionAuthorized, metav1.ConditionFalse, v1alpha1.ReasonForbidden,
			ContainSubstring(`cannot get resource "namespaces"`)))
	})

	It("reports that the target does not answer", func(ctx context.Context) {
		w := newWorld(ctx)
		w.createSecret(ctx, user("token: t")...)
		w.createConnection(ctx)
		Eventually(w.connection).WithContext(ctx).Should(haveCondition(v1alpha1.ConditionReachable, metav1.ConditionFalse, v1alpha1.ReasonUnreachable,
			ContainSubstring("connection refused")))
		Expect(os.Getenv("KUBECONFIG")).To(BeEmpty(), "the suite depends on no kubeconfig of the machine")
	})
})

// grant gives a user a right on all of the target.
func grant(ctx context.Context, user, name string, rule rbacv1.PolicyRule) {
	name = user + "-" + name
	Expect(target.Create(ctx, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: []rbacv1.PolicyRule{rule}})).To(Succeed())
	Expect(target.Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}},
	})).To(Succeed())
}

// deny makes an admission policy of the target refuse every Job in a namespace.
func deny(ctx context.Context, namespace, words string) {
	Expect(target.Create(ctx, &admissionv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: namespace},
		Spec: admissionv1.ValidatingAdmissionPolicySpec{
			MatchConstraints: &admissionv1.MatchResources{ResourceRules: []admissionv1.NamedRuleWithOperations{{
				RuleWithOperations: admissionv1.RuleWithOperations{
					Operations: []admissionv1.OperationType{admissionv1.Create},
					Rule:       admissionv1.Rule{APIGroups: []string{"batch"}, APIVersions: []string{"v1"}, Resources: []string{"jobs"}},
				},
			}}},
			Validations: []admissionv1.Validation{{Expression: "false", Message: words}},
		},
	})).To(Succeed())
	Expect(target.Create(ctx, &admissionv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: namespace},
		Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName:        namespace,
			ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny},
			MatchResources: &admissionv1.MatchResources{NamespaceSelector: &metav1.LabelSelector{
				MatchLabels: map[string]string{"kubernetes.io/metadata.name": namespace},
			}},
		},
	})).To(Succeed())
}
