package health

import (
	"context"
	"maps"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/fixtures"
	"github.com/pooledjob/pooledjob/test/localcluster"
)

// How a run looks that waits, that goes on, and that has ended.
func waits(reason string) health {
	return health{"target-1", reason, "InProgress", "InProgress", "Progressing"}
}

func goesOn(reason string) health {
	return health{"target-1", reason, "Current", "InProgress", "Progressing"}
}

func failed(reason string) health {
	return health{"target-1", reason, "Failed", "Failed", "Degraded"}
}

var succeeded = health{"target-1", v1alpha1.ResultCompleted, "Current", "Current", "Healthy"}

// forever and atOnce are annotations of a Pod.
var (
	forever = map[string]string{localcluster.DurationAnnotation: "1h"}
	atOnce  = map[string]string{localcluster.DurationAnnotation: "1ms"}
)

// patienceAfterRefusal is for what is tried again after up to 30 seconds.
const patienceAfterRefusal = time.Minute

// submit returns a run whose Pod has those annotations.
func submit(name, cluster, namespace string, annotations map[string]string) *v1alpha1.PooledJob {
	return fixtures.PooledJob("team-a", name, fixtures.On(cluster, namespace), fixtures.PodAnnotations(annotations))
}

// start creates a run for the rest of the spec.
func start(ctx context.Context, run *v1alpha1.PooledJob) *v1alpha1.PooledJob {
	GinkgoHelper()
	Expect(hub.Create(ctx, run)).To(Succeed())
	DeferCleanup(func(ctx context.Context) { Expect(client.IgnoreNotFound(hub.Delete(ctx, run))).To(Succeed()) })
	return run
}

// edit changes the spec of a run.
func edit(ctx context.Context, run *v1alpha1.PooledJob, change func(*v1alpha1.PooledJobSpec)) {
	GinkgoHelper()
	Expect(hub.Get(ctx, client.ObjectKeyFromObject(run), run)).To(Succeed())
	before := run.DeepCopy()
	change(&run.Spec)
	Expect(hub.Patch(ctx, run, client.MergeFrom(before))).To(Succeed())
}

func cancel(spec *v1alpha1.PooledJobSpec) { spec.Cancel = new(true) }

func ended(code string, more map[string]string) map[string]string {
	all := maps.Clone(atOnce)
	all[localcluster.ExitCodeAnnotation] = code
	maps.Copy(all, more)
	return all
}

var _ = Describe("A PooledJob", func() {
	DescribeTable("shows the expected reason and health of kstatus, Flux and Argo CD if it is one", func(ctx context.Context, run *v1alpha1.PooledJob, seen health) {
		start(ctx, run)
		Eventually(look.of).WithContext(ctx).WithArguments(run).Should(Equal(seen))
	},
		Entry("of a cluster that nobody has connected", submit("nowhere", "nope", open, nil),
			health{"nope", v1alpha1.ReasonClusterNotFound, "InProgress", "InProgress", "Progressing"}),
		Entry("whose selector finds none", selecting(submit("anywhere", "", open, nil)),
			health{"", v1alpha1.ReasonNoClusterMatches, "InProgress", "InProgress", "Progressing"}),
		Entry("whose namespace does not exist on the cluster", submit("early", "target-1", missing, nil), waits(v1alpha1.ReasonNamespaceNotFound)),
		Entry("that a quota has no room for", submit("crowded", "target-1", full, nil), waits(v1alpha1.ReasonQuotaExceeded)),
		Entry("that may not run there", submit("denied", "target-1", closed, nil), failed(v1alpha1.ReasonNotPermitted)),
		Entry("that the cluster rejects", rejected(submit("rejected", "target-1", open, nil)), failed(v1alpha1.ReasonRejected)),
		Entry("whose image does not exist", submit("no-image", "target-1", open, map[string]string{localcluster.WaitingReasonAnnotation: "ImagePullBackOff"}),
			goesOn("ImagePullBackOff")),
		Entry("that runs", submit("runs", "target-1", open, forever), goesOn(v1alpha1.ReasonStarted)),
		Entry("that succeeded", submit("succeeded", "target-1", open, atOnce), succeeded),
		Entry("that failed", submit("failed", "target-1", open, ended("3", nil)), failed(v1alpha1.ResultError)),
		Entry("whose container had too little memory", submit("oom", "target-1", open,
			ended("137", map[string]string{localcluster.ReasonAnnotation: "OOMKilled"})), failed("OOMKilled")),
		Entry("that is suspended", suspended(submit("suspended", "target-1", open, forever)),
			health{"target-1", v1alpha1.ReasonSuspended, "Current", "InProgress", "Suspended"}),
	)

	It("shows ChangeRefused while the cluster refuses its cancellation, and then Cancelled", func(ctx context.Context) {
		run := start(ctx, submit("kept", "target-1", frozen, forever))
		Eventually(look.of).WithContext(ctx).WithArguments(run).Should(Equal(goesOn(v1alpha1.ReasonStarted)))
		thaw := freeze(ctx)
		edit(ctx, run, cancel)
		Eventually(look.of).WithContext(ctx).WithArguments(run).Should(Equal(waits(v1alpha1.ReasonChangeRefused)))
		Expect(hub.Get(ctx, client.ObjectKeyFromObject(run), run)).To(Succeed())
		Expect(run.Status.Phase).To(Equal(v1alpha1.PooledJobRunning))
		Expect(meta.IsStatusConditionTrue(run.Status.Conditions, v1alpha1.ConditionSynced)).To(BeTrue(), "the contact is not lost")
		refused := meta.FindStatusCondition(run.Status.Conditions, v1alpha1.ConditionReconciling)
		Expect(refused.Message).To(And(HavePrefix("cancelling the remote Job: "), ContainSubstring("nobody changes Jobs here")))
		thaw(ctx)
		Eventually(look.of).WithContext(ctx).WithTimeout(patienceAfterRefusal).WithArguments(run).Should(Equal(failed(v1alpha1.ReasonCancelled)))
	}, NodeTimeout(2*patienceAfterRefusal))

	It("changes only observedGeneration when it is edited after its end", func(ctx context.Context) {
		run := start(ctx, submit("edited", "target-1", open, atOnce))
		Eventually(look.of).WithContext(ctx).WithArguments(run).Should(Equal(succeeded))
		Expect(hub.Get(ctx, client.ObjectKeyFromObject(run), run)).To(Succeed())
		ended := run.Status.DeepCopy()
		edit(ctx, run, func(spec *v1alpha1.PooledJobSpec) { spec.TTLSecondsAfterFinished = new(int32(86400)) })
		Eventually(look.of).WithContext(ctx).WithArguments(run).Should(Equal(succeeded))

		By("nothing but that changes of how it ended")
		Expect(hub.Get(ctx, client.ObjectKeyFromObject(run), run)).To(Succeed())
		Expect(run.Generation).To(BeEquivalentTo(2))
		ended.ObservedGeneration = 2
		for i := range ended.Conditions {
			ended.Conditions[i].ObservedGeneration = 2
		}
		Expect(run.Status).To(Equal(*ended))
	})

	It("shows ClusterFenced when its cluster is fenced, and Terminating while its deletion waits", func(ctx context.Context) {
		connection := connect("target-2")
		Expect(hub.Create(ctx, connection)).To(Succeed())
		DeferCleanup(func(ctx context.Context) { Expect(hub.Delete(ctx, connection)).To(Succeed()) })
		Eventually(look.of).WithContext(ctx).WithArguments(connection).Should(Equal(connected))
		run := start(ctx, submit("away", "target-2", open, forever))
		is := goesOn(v1alpha1.ReasonStarted)
		is.Cluster = "target-2"
		Eventually(look.of).WithContext(ctx).WithArguments(run).Should(Equal(is))

		fence(ctx, connection)
		is = waits(v1alpha1.ReasonClusterFenced)
		is.Cluster = "target-2"
		Eventually(look.of).WithContext(ctx).WithArguments(run).Should(Equal(is))
		Expect(hub.Get(ctx, client.ObjectKeyFromObject(run), run)).To(Succeed())
		Expect(run.Status.Phase).To(Equal(v1alpha1.PooledJobRunning))

		Expect(hub.Delete(ctx, run)).To(Succeed())
		Eventually(func() *metav1.Condition {
			Expect(hub.Get(ctx, client.ObjectKeyFromObject(run), run)).To(Succeed())
			return meta.FindStatusCondition(run.Status.Conditions, v1alpha1.ConditionDeleting)
		}).WithContext(ctx).ShouldNot(BeNil())
		is.KStatus = "Terminating"
		Expect(look.of(ctx, run)).To(Equal(is))
		unfence(ctx, connection)
		Eventually(func() error { return hub.Get(ctx, client.ObjectKeyFromObject(run), run) }).WithContext(ctx).Should(MatchError(ContainSubstring("not found")))
	})
})

func selecting(run *v1alpha1.PooledJob) *v1alpha1.PooledJob {
	run.Spec.ClusterSelector = &v1alpha1.LabelSelector{MatchLabels: map[string]string{"no": "such"}}
	return run
}

func suspended(run *v1alpha1.PooledJob) *v1alpha1.PooledJob {
	run.Spec.Suspend = new(true)
	return run
}

func rejected(run *v1alpha1.PooledJob) *v1alpha1.PooledJob {
	run.Spec.Template.Spec.Template.Spec.Containers[0].Name = "Not A Name"
	return run
}

// freeze has the first target refuse every change of a Job in namespace frozen, until it is thawed.
func freeze(ctx context.Context) (thaw func(context.Context)) {
	GinkgoHelper()
	target := env.Targets[0].Client
	policy := &admissionv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "frozen"},
		Spec: admissionv1.ValidatingAdmissionPolicySpec{
			FailurePolicy: new(admissionv1.Fail),
			MatchConstraints: &admissionv1.MatchResources{ResourceRules: []admissionv1.NamedRuleWithOperations{{
				RuleWithOperations: admissionv1.RuleWithOperations{
					Operations: []admissionv1.OperationType{admissionv1.Update},
					Rule:       admissionv1.Rule{APIGroups: []string{"batch"}, APIVersions: []string{"v1"}, Resources: []string{"jobs"}},
				},
			}}},
			Validations: []admissionv1.Validation{{Expression: `request.namespace != "frozen"`, Message: "nobody changes Jobs here"}},
		},
	}
	binding := &admissionv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "frozen"},
		Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName: "frozen", ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny},
		},
	}
	Expect(target.Create(ctx, policy)).To(Succeed())
	Expect(target.Create(ctx, binding)).To(Succeed())
	thaw = func(ctx context.Context) {
		for _, obj := range []client.Object{binding, policy} {
			Expect(client.IgnoreNotFound(target.Delete(ctx, obj))).To(Succeed())
		}
	}
	DeferCleanup(thaw)
	Eventually(func() error {
		var jobs batchv1.JobList
		Expect(target.List(ctx, &jobs, client.InNamespace(frozen))).To(Succeed())
		Expect(jobs.Items).To(HaveLen(1))
		change := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"labels":{"any":"thing"}}}`))
		return target.Patch(ctx, &jobs.Items[0], change, client.DryRunAll)
	}).WithContext(ctx).Should(MatchError(ContainSubstring("nobody changes Jobs here")))
	return thaw
}
