package controllers

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

var _ = Describe("A clock that is wrong", func() {
	DescribeTable("makes no run fail, repeat or get stuck",
		func(ctx context.Context, skew time.Duration) {
			w := connected(ctx)
			before := w.submit(ctx)
			remote := remoteOf(ctx, before)
			pod := start(ctx, remote)
			eventually(ctx, before).Should(havePhase(v1alpha1.PooledJobRunning))

			clockOffset.Store(int64(skew))
			DeferCleanup(func() {
				clockOffset.Store(0)
				operator.restart()
			})
			operator.restart()
			during := w.submit(ctx)
			Consistently(remoteJobs(w.name)).WithContext(ctx).WithTimeout(2 * time.Second).ShouldNot(ContainElement(HaveField("DeletionTimestamp", Not(BeNil()))))
			endPod(ctx, pod, 0, "")
			endJob(ctx, remote, batchv1.JobComplete)
			eventually(ctx, before).Should(havePhase(v1alpha1.PooledJobSucceeded))
			endJob(ctx, remoteOf(ctx, during), batchv1.JobComplete)
			eventually(ctx, during).Should(havePhase(v1alpha1.PooledJobSucceeded))
			Expect(remoteJobs(w.name)(Default, ctx)).To(HaveLen(2))

			// And it is set right while the operator runs.
			clockOffset.Store(0)
			after := w.submit(ctx)
			remoteOf(ctx, after)
			Expect(hub.Delete(ctx, before)).To(Succeed())
			Eventually(func(g Gomega) {
				g.Expect(target.Get(ctx, remoteKey(before), remote)).To(Succeed())
				g.Expect(remote.DeletionTimestamp).NotTo(BeNil())
			}).Should(Succeed())
			finishDeletion(ctx, remote)
			Eventually(exists(hub, before)).WithContext(ctx).Should(BeFalse())
		},
		Entry("ahead", time.Hour),
		Entry("behind", -time.Hour),
	)
})
