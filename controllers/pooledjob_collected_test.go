package controllers

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/controllers/pooledjob/decision"
	"github.com/pooledjob/pooledjob/internal/binding"
	"github.com/pooledjob/pooledjob/internal/jobspec"
	"github.com/pooledjob/pooledjob/test/faultproxy"
)

// collect has the target set ttlSecondsAfterFinished of the Jobs in w's namespace, at those
// operations, whatever it is.
func (w world) collect(ctx context.Context, c client.Client, seconds int, operations ...admissionv1.OperationType) {
	policy := &admissionv1.MutatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: w.name},
		Spec: admissionv1.MutatingAdmissionPolicySpec{
			ReinvocationPolicy: admissionv1.NeverReinvocationPolicy,
			MatchConstraints: &admissionv1.MatchResources{
				NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: w.name}},
				ResourceRules: []admissionv1.NamedRuleWithOperations{{RuleWithOperations: admissionv1.RuleWithOperations{
					Operations: operations,
					Rule:       admissionv1.Rule{APIGroups: []string{"batch"}, APIVersions: []string{"v1"}, Resources: []string{"jobs"}},
				}}},
			},
			Mutations: []admissionv1.Mutation{{
				PatchType: admissionv1.PatchTypeApplyConfiguration,
				ApplyConfiguration: &admissionv1.ApplyConfiguration{
					Expression: fmt.Sprintf("Object{spec: Object.spec{ttlSecondsAfterFinished: %d}}", seconds),
				},
			}},
		},
	}
	binding := &admissionv1.MutatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: w.name},
		Spec:       admissionv1.MutatingAdmissionPolicyBindingSpec{PolicyName: w.name},
	}
	Expect(c.Create(ctx, policy)).To(Succeed())
	Expect(c.Create(ctx, binding)).To(Succeed())
	DeferCleanup(func(ctx context.Context) {
		Expect(c.Delete(ctx, binding)).To(Succeed())
		Expect(c.Delete(ctx, policy)).To(Succeed())
	})
	Eventually(func(g Gomega) { // the API server takes a moment to go by it
		tried := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: w.name, Name: "tried"}, Spec: batchv1.JobSpec{Template: corev1.PodTemplateSpec{
			Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "main", Image: "busybox"}}},
		}}}
		g.Expect(c.Create(ctx, tried, client.DryRunAll)).To(Succeed())
		g.Expect(tried.Spec.TTLSecondsAfterFinished).To(HaveValue(BeEquivalentTo(seconds)))
	}).WithContext(ctx).WithTimeout(time.Minute).Should(Succeed())
}

var _ = Describe("A target that deletes finished Jobs", func() {
	ttlOf := func(job *v1alpha1.PooledJob) func(Gomega, context.Context) *int32 {
		return func(g Gomega, ctx context.Context) *int32 {
			remote := &batchv1.Job{}
			g.Expect(target.Get(ctx, remoteKey(job), remote)).To(Succeed())
			return remote.Spec.TTLSecondsAfterFinished
		}
	}

	It("gets a request to keep them for 30 days", func(ctx context.Context) {
		w := connected(ctx)
		w.collect(ctx, target, 1, admissionv1.Create)
		job := w.submit(ctx)
		remote := remoteOf(ctx, job)
		Eventually(ttlOf(job)).WithContext(ctx).Should(HaveValue(BeEquivalentTo(jobspec.KeptSeconds)))
		endJob(ctx, remote, batchv1.JobComplete)
		eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobSucceeded))
		Expect(w.eventsOf(v1alpha1.ReasonFinishedJobsDeleted)(Default, ctx)).To(BeEmpty())
	})

	It("appears in one Event when it insists on its own TTL", func(ctx context.Context) {
		w := connected(ctx)
		w.collect(ctx, target, 7, admissionv1.Create, admissionv1.Update)
		for range 3 {
			job := w.submit(ctx)
			eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionTrue, v1alpha1.ReasonCreated))
			Expect(ttlOf(job)(Default, ctx)).To(HaveValue(BeEquivalentTo(7)))
		}
		told := ConsistOf(And(ContainSubstring("ttlSecondsAfterFinished"), ContainSubstring("it is 7 again"), ContainSubstring(v1alpha1.ReasonRemoteJobEndUnknown)))
		Eventually(w.eventsOf(v1alpha1.ReasonFinishedJobsDeleted)).WithContext(ctx).Should(told)
		Consistently(w.eventsOf(v1alpha1.ReasonFinishedJobsDeleted)).WithContext(ctx).Should(told)
	})

	// lostAnswer is a run whose Job was created, without an answer to the manager.
	lostAnswer := func(ctx context.Context, w world) (*link, *v1alpha1.PooledJob, *batchv1.Job) {
		here := theTarget(ctx)
		l := w.link(ctx, here, "line")
		var sent atomic.Bool
		l.line.SetHook(func(_ faultproxy.Moment, call *faultproxy.Call) faultproxy.Action {
			if call.String() == "POST jobs" && !sent.Swap(true) {
				return faultproxy.Action{Later: time.Second}
			}
			return faultproxy.Action{Cut: call.Resource == "jobs"} // nobody sees what comes of it
		})
		job := w.submit(ctx, func(j *v1alpha1.PooledJob) { j.Spec.ClusterName = l.name })
		return l, job, here.remote(ctx, job, 0)
	}

	It("gets no second Job of a run whose first may have completed", func(ctx context.Context) {
		w := newWorld(ctx)
		w.collect(ctx, target, 1, admissionv1.Create)
		l, job, remote := lostAnswer(ctx, w)
		endJob(ctx, remote, batchv1.JobComplete)
		Expect(target.Delete(ctx, remote, client.PropagationPolicy(metav1.DeletePropagationBackground))).To(Succeed())
		l.mendLine()
		consistently(ctx, job).Should(havePhase(v1alpha1.PooledJobPending), "as long as the lost request may still arrive")
		moveClock(time.Now().Add(decision.RequestLifetime + time.Minute))
		touch(ctx, job)
		eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionFailed, metav1.ConditionTrue, v1alpha1.ReasonRemoteJobEndUnknown,
			ContainSubstring("deletes finished Jobs after 1 seconds")))
		Consistently(remoteJobs(w.name)).WithContext(ctx).Should(BeEmpty())
	})

	It("gets the Job of a run whose first request was lost, if it keeps finished Jobs long enough", func(ctx context.Context) {
		w := newWorld(ctx)
		w.collect(ctx, target, 86400, admissionv1.Create)
		l, job, remote := lostAnswer(ctx, w)
		Expect(target.Delete(ctx, remote, client.PropagationPolicy(metav1.DeletePropagationBackground))).To(Succeed()) // as if it had never been
		l.mendLine()
		eventually(ctx, job).Should(HaveField("Status.JobRef.UID", Not(BeEmpty())))
		Expect(remoteJobs(w.name)(Default, ctx)).To(HaveLen(1))
	})
})

var _ = Describe("A Job that is gone before anybody asked how it ended", func() {
	It("ends its run as the event of its deletion says", func(ctx context.Context) {
		w := newWorld(ctx)
		l := w.link(ctx, theTarget(ctx), "line")
		job := w.submit(ctx, func(j *v1alpha1.PooledJob) { j.Spec.ClusterName = l.name })
		remote := remoteOf(ctx, job)
		pod := start(ctx, remote)
		eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobRunning))
		endPod(ctx, pod, 3, "boom")
		endJob(ctx, remote, batchv1.JobFailed)
		Expect(target.Delete(ctx, remote, client.PropagationPolicy(metav1.DeletePropagationBackground))).To(Succeed())
		letPodsGo(ctx, remote)
		eventually(ctx, job).Should(And(haveCondition(v1alpha1.ConditionFailed, metav1.ConditionTrue, "AsTold"),
			HaveField("Status.Result.ExitCode", HaveValue(BeEquivalentTo(3)))))
	})
})

var _ = Describe("A Pod that somebody gave the labels of a run", func() {
	It("does not prove that the run had a Job", func(ctx context.Context) {
		w := newWorld(ctx)
		l := w.link(ctx, theTarget(ctx), "line")
		l.onCreate(func(moment faultproxy.Moment) faultproxy.Action {
			return faultproxy.Action{Cut: moment == faultproxy.Before}
		})
		job := w.submit(ctx, func(j *v1alpha1.PooledJob) { j.Spec.ClusterName = l.name })
		eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionFalse, v1alpha1.ReasonTargetError))
		labels := binding.Labels(operator.hubID, job)
		labels[batchv1.JobNameLabel] = remoteKey(job).Name
		Expect(target.Create(ctx, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: w.name, Name: "by-hand", Labels: labels},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "busybox"}}},
		})).To(Succeed())
		consistently(ctx, job).Should(havePhase(v1alpha1.PooledJobPending))
		l.mendLine()
		eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionTrue, v1alpha1.ReasonCreated))
	})
})
