package controllers

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/fixtures"
)

// idling returns a new world whose connection closes after a second without PooledJobs. It
// shares its identity with no other.
func idling(ctx context.Context) world {
	w := newWorld(ctx)
	w.createSecret(ctx, certificateOf(userWithRights(ctx))...)
	one := int32(1)
	w.createConnectionWith(ctx, func(spec *v1alpha1.ClusterConnectionSpec) { spec.IdleTimeoutSeconds = &one })
	return w
}

// expectIdle waits until the connection is at rest, and nothing of it is open.
func (w world) expectIdle(ctx context.Context) {
	EventuallyWithOffset(1, func(g Gomega) {
		g.Expect(w.connection(g, ctx)).To(haveFive(fixtures.All("True/Idle")))
		g.Expect(w.figureWith("state", "state", "Idle")).To(Equal(1.0), "also in the eyes of this operator")
		g.Expect(w.figure("sockets")).To(BeZero())
		g.Expect(w.figure("watches")).To(BeZero())
	}).Should(Succeed())
}

// finished returns a PooledJob whose run is over.
func (w world) finished(ctx context.Context) (*v1alpha1.PooledJob, *batchv1.Job) {
	job := w.submit(ctx)
	remote := remoteOf(ctx, job)
	endJob(ctx, remote, batchv1.JobComplete)
	eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobSucceeded))
	return job, remote
}

var _ = Describe("A ClusterConnection with idleTimeoutSeconds", func() {
	It("closes when nothing needs it, and opens for the next PooledJob", func(ctx context.Context) {
		w := idling(ctx)
		w.expectIdle(ctx)
		Consistently(w.connection).WithContext(ctx).Should(haveFive(fixtures.All("True/Idle")))
		Expect(w.figure("sockets")).To(BeZero())
		versions := w.record(ctx)

		begin := time.Now()
		job := w.submit(ctx)
		Eventually(remoteJobs(w.name)).WithContext(ctx).WithTimeout(2 * time.Second).WithPolling(10 * time.Millisecond).Should(HaveLen(1))
		AddReportEntry("from the PooledJob to its Job, through an idle connection", time.Since(begin).String())
		remote := remoteOf(ctx, job)
		start(ctx, remote)
		eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobRunning))
		Eventually(w.connection).WithContext(ctx).Should(haveFive(fixtures.All(yes)))
		Consistently(w.connection).WithContext(ctx).WithTimeout(3*time.Second).Should(haveFive(fixtures.All(yes)), "as long as the PooledJob is not finished")

		endJob(ctx, remote, batchv1.JobComplete)
		eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobSucceeded))
		w.expectIdle(ctx)
		Eventually(func() []string { return readyOf(versions()) }).Should(Equal([]string{"True/Idle", yes, "True/Idle"}))
	})

	It("opens for the clean-up of a finished PooledJob, and closes again", func(ctx context.Context) {
		w := idling(ctx)
		job, remote := w.finished(ctx)
		w.expectIdle(ctx)
		Expect(hub.Delete(ctx, job)).To(Succeed())
		finishDeletion(ctx, remote)
		Eventually(exists(hub, job)).WithContext(ctx).Should(BeFalse())
		Expect(remoteJobs(w.name)(Default, ctx)).To(BeEmpty())
		w.expectIdle(ctx)
	})

	It("neither stays open nor opens for finished PooledJobs", func(ctx context.Context) {
		w := idling(ctx)
		job, _ := w.finished(ctx)
		w.finished(ctx)
		w.expectIdle(ctx)
		versions := w.record(ctx)
		patch := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"labels":{"seen":"yes"}}}`))
		Expect(hub.Patch(ctx, job, patch)).To(Succeed())
		Consistently(w.figureOf("sockets")).Should(BeZero())
		Expect(readyOf(versions())).To(Equal([]string{"True/Idle"}))

		operator.restart()
		w.expectIdle(ctx)
		Consistently(func(g Gomega) {
			g.Expect(w.connection(g, ctx)).To(haveFive(fixtures.All("True/Idle")))
			g.Expect(w.figure("sockets")).To(BeZero())
		}).WithTimeout(2 * time.Second).Should(Succeed())
	})

	It("opens for a PooledJob that was created while no operator ran", func(ctx context.Context) {
		w := idling(ctx)
		w.expectIdle(ctx)
		operator.stop()
		job := w.submit(ctx)
		*operator = *startOperator(operator.scheme)
		remoteOf(ctx, job)
		Eventually(w.connection).WithContext(ctx).Should(haveFive(fixtures.All(yes)))
	})

	It("opens for a PooledJob, whose status no longer says that it has no cluster", func(ctx context.Context) {
		var holds atomic.Bool
		release := make(chan struct{})
		DeferCleanup(func() { close(release) })
		hold := func(_ http.ResponseWriter, r *http.Request) bool {
			if holds.Load() {
				select {
				case <-release:
				case <-r.Context().Done():
				}
			}
			return false
		}
		account, one := createAccount(ctx), int32(1)
		allow(ctx, accountSubject(account))
		token, _ := tokenOf(ctx, account, time.Hour)
		w := newWorld(ctx)
		chosen := w.submit(ctx, w.anywhere)
		named := w.submit(ctx)
		eventually(ctx, chosen).Should(waitForCluster())
		eventually(ctx, named).Should(HaveField("Status.Reason", v1alpha1.ReasonClusterNotFound))

		holds.Store(true)
		w.createSecret(ctx, throughGateway(fmt.Sprintf("token: %q", token), hold)...)
		w.createConnectionWith(ctx, func(spec *v1alpha1.ClusterConnectionSpec) { spec.IdleTimeoutSeconds = &one })
		eventually(ctx, named).Should(And(HaveField("Status.Reason", v1alpha1.ReasonCreating), havePhase(v1alpha1.PooledJobPending),
			haveCondition(v1alpha1.ConditionAccepted, metav1.ConditionTrue, v1alpha1.ReasonAccepted)))
		holds.Store(false)
		w.end(ctx, named)
		w.expectIdle(ctx)

		holds.Store(true)
		w.mark(ctx, "labels", "world", w.name)
		eventually(ctx, chosen).Should(And(HaveField("Status.Reason", v1alpha1.ReasonCreating), HaveField("Status.ClusterName", w.name)))
		holds.Store(false)
		w.end(ctx, chosen)
	})

	It("stays open once the field is removed", func(ctx context.Context) {
		w := idling(ctx)
		w.expectIdle(ctx)
		connection := w.connection(Default, ctx)
		connection.Spec.IdleTimeoutSeconds = nil
		Expect(hub.Update(ctx, connection)).To(Succeed())
		w.finished(ctx)
		Consistently(w.connection).WithContext(ctx).WithTimeout(2 * time.Second).Should(haveFive(fixtures.All(yes)))
	})

	It("tries a new credential while it is closed, and closes again", func(ctx context.Context) {
		w := idling(ctx)
		w.expectIdle(ctx)
		before := w.connection(Default, ctx).Status.IdentityHash
		w.replaceSecret(ctx, certificateOf(userWithRights(ctx)))
		Eventually(w.connection).WithContext(ctx).Should(HaveField("Status.IdentityHash", Not(Equal(before))))
		w.expectIdle(ctx)

		w.replaceSecret(ctx, withToken("nobody-knows-this-token"))
		Eventually(w.connection).WithContext(ctx).Should(haveFive(fixtures.Five{"True/LastKubeconfig", "False/CredentialsRejected", "True/Idle", "True/Idle", "True/Idle"}))
		remoteOf(ctx, w.submit(ctx))
	})
})
