package controllers

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/fixtures"
)

// moveClock makes the operator believe that it is that time now; the spec's end takes
// it back.
func moveClock(to time.Time) {
	clockOffset.Store(int64(time.Until(to)))
	DeferCleanup(func() {
		clockOffset.Store(0)
		operator.restart() // what it remembers is in the future
	})
}

var _ = Describe("A credential that expires", func() {
	It("raises a warning before it expires, stops dispatch then, and resumes it once replaced", func(ctx context.Context) {
		account := createAccount(ctx)
		allow(ctx, accountSubject(account))
		token, expires := tokenOf(ctx, account, 10*time.Minute)
		w := connectedAs(ctx, withToken(token))
		Expect(w.connection(Default, ctx)).To(And(
			haveFive(fixtures.All(yes)),
			HaveField("Status.CredentialsExpireAt.Time", BeTemporally("==", expires))))
		Expect(w.figure("credential_expiry_timestamp_seconds")).To(Equal(float64(expires.Unix())))
		running := w.submit(ctx)
		remote := remoteOf(ctx, running)
		pod := start(ctx, remote)
		eventually(ctx, running).Should(havePhase(v1alpha1.PooledJobRunning))
		versions := w.record(ctx)

		// The target still accepts the token: what follows is by what it says of itself.
		moveClock(expires.Add(-expiryWarning - 2*time.Second))
		w.annotate(ctx, "example.com/look", "again")
		Eventually(w.connection).WithContext(ctx).Should(And(
			haveFive(fixtures.Five{yes, "True/ExpiringSoon", yes, yes, yes}),
			haveCondition(v1alpha1.ConditionCredentialsValid, metav1.ConditionTrue, v1alpha1.ReasonExpiringSoon, ContainSubstring(expires.UTC().Format(time.RFC3339)))))
		gone := fixtures.Five{"False/CredentialsExpired", "False/CredentialsExpired", yes, yes, yes}
		Eventually(w.connection).WithContext(ctx).Should(And(haveFive(gone),
			haveCondition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonCredentialsExpired, ContainSubstring("No Job is sent"))))
		Expect(operatorNow()).NotTo(BeTemporally("<", expires))

		late := w.submit(ctx)
		eventually(ctx, late).Should(And(
			havePhase(v1alpha1.PooledJobPending),
			haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionFalse, v1alpha1.ReasonClusterNotReady,
				ContainSubstring("expired at "+expires.UTC().Format(time.RFC3339)), ContainSubstring("Secret"))))
		endPod(ctx, pod, 0, "")
		endJob(ctx, remote, batchv1.JobComplete)
		eventually(ctx, running).Should(And(havePhase(v1alpha1.PooledJobSucceeded), HaveField("Status.Result.ExitCode", HaveValue(BeZero()))))
		Expect(remoteJobs(w.name)(Default, ctx)).To(ConsistOf(HaveField("UID", remote.UID)))
		Consistently(w.connection).WithContext(ctx).Should(haveFive(gone))
		Expect(remoteJobs(w.name)(Default, ctx)).To(ConsistOf(HaveField("UID", remote.UID)))

		token, expires = tokenOf(ctx, account, time.Hour)
		w.replaceSecret(ctx, withToken(token))
		remoteOf(ctx, late)
		Eventually(w.connection).WithContext(ctx).Should(And(
			haveFive(fixtures.All(yes)),
			HaveField("Status.CredentialsExpireAt.Time", BeTemporally("==", expires))))
		eventually(ctx, late).Should(haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionTrue, v1alpha1.ReasonCreated))
		Eventually(func() []string { return readyOf(versions()) }).Should(Equal([]string{yes, "False/CredentialsExpired", yes}))
		for _, reason := range []string{v1alpha1.ReasonExpiringSoon, v1alpha1.ReasonCredentialsExpired} {
			Eventually(w.eventsOf(reason)).WithContext(ctx).Should(HaveLen(1))
		}
	})

	It("stops dispatch once the client certificate has expired", func(ctx context.Context) {
		w := connectedAs(ctx, certificateOf(userWithRights(ctx)))
		Expect(w.connection(Default, ctx).Status.CredentialsExpireAt).To(HaveField("Time", BeTemporally("~", time.Now().Add(7*24*time.Hour), time.Hour)))
		expires := w.connection(Default, ctx).Status.CredentialsExpireAt.Time
		moveClock(expires.Add(-time.Second))
		operator.restart()
		Eventually(w.connection).WithContext(ctx).Should(haveFive(fixtures.Five{"False/CredentialsExpired", "False/CredentialsExpired", yes, yes, yes}))
		late := w.submit(ctx)
		eventually(ctx, late).Should(haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionFalse, v1alpha1.ReasonClusterNotReady, ContainSubstring("expired at")))
		Consistently(remoteJobs(w.name)).WithContext(ctx).Should(BeEmpty())
	})

	It("becomes the reason of PooledJobs that waited for something else before", func(ctx context.Context) {
		account := createAccount(ctx)
		allow(ctx, accountSubject(account))
		token, expires := tokenOf(ctx, account, 10*time.Minute)
		w := newWorld(ctx)
		w.createSecret(ctx, withToken(token)...)
		later := w.name + "-later"
		w.createConnection(ctx, later)
		job := w.submit(ctx, func(j *v1alpha1.PooledJob) { j.Spec.TargetNamespace = later })
		eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionFalse, v1alpha1.ReasonNamespaceNotFound))
		moveClock(expires.Add(-time.Second))
		w.annotate(ctx, "example.com/look", "again")
		eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionFalse, v1alpha1.ReasonClusterNotReady, ContainSubstring("expired at")))
		w.createTargetNamespace(ctx, later)
		Consistently(remoteJobs(later)).WithContext(ctx).Should(BeEmpty())
	})
})
