package controllers

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

func suspendedFromTheStart(j *v1alpha1.PooledJob) { j.Spec.Suspend = new(true) }

// playSuspension plays the Job controller: the Job's status says what its spec asks for.
func playSuspension(ctx context.Context, remote *batchv1.Job) {
	Expect(target.Get(ctx, client.ObjectKeyFromObject(remote), remote)).To(Succeed())
	now, none := metav1.Now(), int32(0)
	condition := batchv1.JobCondition{Type: batchv1.JobSuspended, Status: corev1.ConditionFalse, Reason: "JobResumed", LastTransitionTime: now}
	status := batchv1.JobStatus{Ready: &none}
	if remote.Spec.Suspend != nil && *remote.Spec.Suspend {
		condition.Status, condition.Reason = corev1.ConditionTrue, "JobSuspended"
	}
	status.Conditions = []batchv1.JobCondition{condition}
	remote.Status = status
	Expect(target.Status().Update(ctx, remote)).To(Succeed())
}

// suspendOf returns what a PooledJob's Job is told to do, and what its label says of who
// told it.
func suspendOf(ctx context.Context, job *v1alpha1.PooledJob) func() string {
	return func() string {
		remote := remoteOf(ctx, job)
		told := remote.Spec.Suspend != nil && *remote.Spec.Suspend
		return fmt.Sprintf("%v/%s", told, remote.Labels[v1alpha1.LabelSuspend])
	}
}

// setSuspend is what somebody on the target does to a Job.
func setSuspend(ctx context.Context, remote *batchv1.Job, suspend bool) {
	patch := fmt.Sprintf(`{"spec":{"suspend":%v}}`, suspend)
	Expect(target.Patch(ctx, remote, client.RawPatch("application/merge-patch+json", []byte(patch)))).To(Succeed())
	playSuspension(ctx, remote)
}

func beSuspended() OmegaMatcher {
	return And(havePhase(v1alpha1.PooledJobSuspended), haveCondition(v1alpha1.ConditionSuspended, metav1.ConditionTrue, v1alpha1.ReasonSuspended))
}

func beResumed() OmegaMatcher {
	return And(Not(havePhase(v1alpha1.PooledJobSuspended)), haveCondition(v1alpha1.ConditionSuspended, metav1.ConditionFalse, v1alpha1.ReasonResumed))
}

var _ = Describe("Suspending a PooledJob", func() {
	It("creates the Job suspended, and starts it when the run is resumed", func(ctx context.Context) {
		w, t := throughTap(ctx)
		t.forget()
		job := w.submit(ctx, suspendedFromTheStart)
		remote := remoteOf(ctx, job)
		Expect(suspendOf(ctx, job)()).To(Equal("true/true"))
		eventually(ctx, job).Should(And(havePhase(v1alpha1.PooledJobPending), haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionTrue, v1alpha1.ReasonCreated)))
		playSuspension(ctx, remote)
		eventually(ctx, job).Should(beSuspended())
		consistently(ctx, job).Should(beSuspended())
		Expect(t.writes()).To(Equal([]string{"POST"}), "created suspended, not suspended after it was created")

		setSpec(ctx, job, `{"suspend":false}`)
		Eventually(suspendOf(ctx, job)).Should(Equal("false/false"))
		consistently(ctx, job).Should(beSuspended(), "until the target says otherwise")
		playSuspension(ctx, remote)
		eventually(ctx, job).Should(And(beResumed(), havePhase(v1alpha1.PooledJobPending)))
		start(ctx, remoteOf(ctx, job))
		eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobRunning))
		endJob(ctx, remote, batchv1.JobComplete)
		eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobSucceeded))
		Expect(t.writes()).To(HaveLen(2))
	})

	It("sends one request to suspend a running Job, and one to resume it", func(ctx context.Context) {
		w, t := throughTap(ctx)
		job, remote, pod := w.running(ctx)
		t.forget()
		setSpec(ctx, job, `{"suspend":true}`)
		Eventually(suspendOf(ctx, job)).Should(Equal("true/true"))
		Expect(target.Delete(ctx, pod, client.GracePeriodSeconds(0))).To(Succeed())
		playSuspension(ctx, remote)
		eventually(ctx, job).Should(And(beSuspended(), HaveField("Status.StartTime", BeNil()), HaveField("Status.Active", HaveValue(BeZero()))))
		nudge(ctx, hub, job)
		nudge(ctx, target, remoteOf(ctx, job))
		consistently(ctx, job).Should(beSuspended())
		Expect(t.writes()).To(Equal([]string{suspendRequest(remote, true)}))

		setSpec(ctx, job, `{"suspend":null}`)
		Eventually(suspendOf(ctx, job)).Should(Equal("false/false"))
		playSuspension(ctx, remote)
		eventually(ctx, job).Should(beResumed())
		nudge(ctx, hub, job)
		endJob(ctx, remote, batchv1.JobComplete)
		eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobSucceeded))
		Expect(t.writes()).To(Equal([]string{suspendRequest(remote, true), suspendRequest(remote, false)}))
	})

	It("leaves the Job to a queueing system on the target, and shows what that does", func(ctx context.Context) {
		w, t := throughTap(ctx)
		job := w.submit(ctx, suspendedFromTheStart)
		remote := remoteOf(ctx, job)
		playSuspension(ctx, remote)
		eventually(ctx, job).Should(beSuspended())
		t.forget()

		setSuspend(ctx, remote, false)
		eventually(ctx, job).Should(beResumed())
		start(ctx, remoteOf(ctx, job))
		eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobRunning))
		nudge(ctx, hub, job)
		Consistently(suspendOf(ctx, job)).Should(Equal("false/true"))

		setSuspend(ctx, remote, true)
		eventually(ctx, job).Should(beSuspended())
		Consistently(suspendOf(ctx, job)).Should(Equal("true/true"))
		Expect(t.writes()).To(BeEmpty())
	})

	It("shows that somebody on the target suspended the Job, and does not undo it", func(ctx context.Context) {
		w, t := throughTap(ctx)
		job, remote, _ := w.running(ctx)
		t.forget()
		setSuspend(ctx, remote, true)
		eventually(ctx, job).Should(beSuspended())
		nudge(ctx, hub, job)
		Consistently(suspendOf(ctx, job)).Should(Equal("true/"))
		setSpec(ctx, job, `{"suspend":false}`) // it never asked for anything else
		Consistently(suspendOf(ctx, job)).Should(Equal("true/"))
		Expect(latest(job)(Default, ctx)).To(beSuspended())

		operator.restart()
		w.expectReady(ctx)
		Consistently(suspendOf(ctx, job)).Should(Equal("true/"))
		setSuspend(ctx, remote, false)
		eventually(ctx, job).Should(beResumed())
		Expect(t.writes()).To(BeEmpty())
	})

	It("sends the request again when somebody removes the label that records it", func(ctx context.Context) {
		w := connected(ctx)
		job := w.submit(ctx, suspendedFromTheStart)
		remote := remoteOf(ctx, job)
		playSuspension(ctx, remote)
		eventually(ctx, job).Should(beSuspended())
		patch := fmt.Sprintf(`{"metadata":{"labels":{%q:null}}}`, v1alpha1.LabelSuspend)
		Expect(target.Patch(ctx, remote, client.RawPatch("application/merge-patch+json", []byte(patch)))).To(Succeed())
		Eventually(suspendOf(ctx, job)).Should(Equal("true/true"))
		setSpec(ctx, job, `{"suspend":false}`)
		Eventually(suspendOf(ctx, job)).Should(Equal("false/false"))
	})

	It("stays in effect when somebody removes our labels from the Job", func(ctx context.Context) {
		w := connected(ctx)
		job := w.submit(ctx, suspendedFromTheStart)
		remote := remoteOf(ctx, job)
		playSuspension(ctx, remote)
		eventually(ctx, job).Should(beSuspended())
		stripLabels(ctx, remote)
		Eventually(func() map[string]string { return remoteOf(ctx, job).Labels }).Should(And(
			HaveKeyWithValue(v1alpha1.LabelUID, string(job.UID)), HaveKeyWithValue("stripped", "yes")))
		consistently(ctx, job).Should(beSuspended())
		setSpec(ctx, job, `{"suspend":false}`)
		Eventually(suspendOf(ctx, job)).Should(Equal("false/false"))
	})

	It("ends in the last requested state when spec.suspend changes quickly", func(ctx context.Context) {
		w, t := throughTap(ctx)
		job, remote, _ := w.running(ctx)
		for _, last := range []bool{true, false} {
			t.forget()
			for i := range 9 {
				setSpec(ctx, job, fmt.Sprintf(`{"suspend":%v}`, (i%2 == 0) == last))
			}
			want := fmt.Sprintf("%v/%v", last, last)
			// On the way there it is so too, for a moment.
			Eventually(suspendOf(ctx, job)).MustPassRepeatedly(50).Should(Equal(want))
			writes := t.writes()
			Expect(len(writes)).To(BeNumerically("<=", 9), "at most one request for each change: %v", writes)
			Expect(writes[len(writes)-1]).To(Equal(suspendRequest(remote, last)))
			for i := range writes[1:] {
				Expect(writes[i]).NotTo(Equal(writes[i+1]), "the same request twice in a row")
			}
		}
	})

	It("sends no request again after a restart, except for what changed meanwhile", func(ctx context.Context) {
		w, t := throughTap(ctx)
		job := w.submit(ctx, suspendedFromTheStart)
		remote := remoteOf(ctx, job)
		playSuspension(ctx, remote)
		eventually(ctx, job).Should(beSuspended())
		t.forget()
		operator.restart()
		w.expectReady(ctx)
		nudge(ctx, hub, job)
		consistently(ctx, job).Should(beSuspended())
		Expect(t.writes()).To(BeEmpty())

		operator.stop()
		setSpec(ctx, job, `{"suspend":false}`)
		*operator = *startOperator(operator.scheme)
		Eventually(suspendOf(ctx, job)).Should(Equal("false/false"))
		Expect(t.writes()).To(Equal([]string{suspendRequest(remote, false)}))
	})

	It("sends the request when the target is back", func(ctx context.Context) {
		w, t := throughTap(ctx)
		job, remote, _ := w.running(ctx)
		w.goesAway(ctx, t)
		setSpec(ctx, job, `{"suspend":true}`)
		Consistently(suspendOf(ctx, job)).Should(Equal("false/"))
		w.comesBack(ctx, t)
		Eventually(suspendOf(ctx, job)).Should(Equal("true/true"))
		playSuspension(ctx, remote)
		eventually(ctx, job).Should(beSuspended())
	})

	It("tries again when the target refuses the request, and reports it meanwhile", func(ctx context.Context) {
		w, t := throughTap(ctx)
		job, remote, _ := w.running(ctx)
		t.before.Store(answerTo(http.MethodPatch, http.StatusInternalServerError))
		setSpec(ctx, job, `{"suspend":true}`)
		eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonTargetError, ContainSubstring("suspending the remote Job")))
		Expect(latest(job)(Default, ctx)).To(And(havePhase(v1alpha1.PooledJobRunning), haveCondition(v1alpha1.ConditionSynced, metav1.ConditionTrue, v1alpha1.ReasonSynced)))
		t.before.Store(nil)
		Eventually(suspendOf(ctx, job)).WithTimeout(40 * time.Second).Should(Equal("true/true"))
		playSuspension(ctx, remote)
		eventually(ctx, job).Should(And(beSuspended(), haveCondition(v1alpha1.ConditionSynced, metav1.ConditionTrue, v1alpha1.ReasonSynced)))
	}, SpecTimeout(90*time.Second))

	It("changes nothing after the end of the run", func(ctx context.Context) {
		w, t := throughTap(ctx)
		job, _ := w.finished(ctx)
		t.forget()
		setSpec(ctx, job, `{"suspend":true}`)
		consistently(ctx, job).Should(havePhase(v1alpha1.PooledJobSucceeded))
		Expect(t.requests()).To(BeEmpty())
	})

	It("changes nothing after the Job has ended, before that was seen", func(ctx context.Context) {
		w, t := throughTap(ctx)
		job, remote, _ := w.running(ctx)
		operator.stop()
		endJob(ctx, remote, batchv1.JobComplete)
		setSpec(ctx, job, `{"suspend":true}`)
		t.forget()
		*operator = *startOperator(operator.scheme)
		eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobSucceeded))
		for _, write := range t.writes() {
			Expect(strings.HasPrefix(write, http.MethodPatch)).To(BeFalse(), write)
		}
	})
})

// suspendRequest returns the one that suspends or resumes a Job.
func suspendRequest(remote *batchv1.Job, suspend bool) string {
	return fmt.Sprintf(`PATCH %s {"metadata":{"labels":{"pooledjob.io/suspend":"%v"},"uid":%q},"spec":{"suspend":%v}}`, remote.Name, suspend, remote.UID, suspend)
}
