package controllers

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/test/fixtures"
	"github.com/pooledjob/pooledjob/test/localcluster"
)

var _ = Describe("The status of a ClusterConnection", func() {
	It("stays as the last operator wrote it when a new one finds the same state", func(ctx context.Context) {
		w := connectedAs(ctx, certificateOf(userWithRights(ctx)))
		remoteOf(ctx, w.submit(ctx)) // so that there is something to count
		for range 2 {
			before := w.connection(Default, ctx)
			versions := w.record(ctx)
			operator.restart()
			Eventually(w.figureOf("watches")).WithContext(ctx).Should(Equal(2.0), "the new operator is connected")
			Consistently(func(g Gomega) {
				now := w.connection(g, ctx)
				g.Expect(fixtures.FiveOf(now)).To(Equal(fixtures.All(yes)))
				g.Expect(now.Status.Conditions).To(Equal(before.Status.Conditions))
			}).Should(Succeed())
			Expect(readyOf(versions())).To(Equal([]string{yes}))
		}
	})

	It("stays untouched when the operator restarts at rest", func(ctx context.Context) {
		w := connectedAs(ctx, certificateOf(userWithRights(ctx)))
		before := w.connection(Default, ctx).ResourceVersion
		operator.restart()
		Eventually(w.figureOf("watches")).WithContext(ctx).Should(Equal(2.0), "the new operator is connected")
		Consistently(w.connection).WithContext(ctx).Should(HaveField("ResourceVersion", before))
	})

	It("stays unwritten while nothing changes, however often the target is probed", func(ctx context.Context) {
		w := connectedAs(ctx, certificateOf(userWithRights(ctx)))
		before := w.connection(Default, ctx).ResourceVersion
		probes := map[float64]bool{}
		Eventually(func(g Gomega) {
			g.Expect(w.connection(g, ctx).ResourceVersion).To(Equal(before))
			probes[w.figure("probe_duration_seconds")] = true
			g.Expect(len(probes)).To(BeNumerically(">=", 5), "different probes that were seen")
		}).Should(Succeed())
		Expect(w.connection(Default, ctx).ResourceVersion).To(Equal(before))
	})

	It("changes with one write when the target goes away, and with one when it comes back", func(ctx context.Context) {
		w := connectedAs(ctx, certificateOf(userWithRights(ctx)))
		versions := w.record(ctx)
		Expect(targetCluster.StopProgram(localcluster.APIServer)).To(Succeed())
		DeferCleanup(func(ctx context.Context) {
			_ = targetCluster.StartProgram(ctx, localcluster.APIServer) // it fails if it runs
		})
		lost := fixtures.Five{"False/Unreachable", unknown, "False/Unreachable", unknown, unknown}
		Eventually(w.connection).WithContext(ctx).WithTimeout(30 * time.Second).Should(And(haveFive(lost),
			haveCondition(v1alpha1.ConditionReachable, metav1.ConditionFalse, v1alpha1.ReasonUnreachable, ContainSubstring("refused"))))
		during := w.connection(Default, ctx).ResourceVersion
		Consistently(w.connection).WithContext(ctx).WithTimeout(3*time.Second).Should(HaveField("ResourceVersion", during), "several attempts fail")

		Expect(targetCluster.StartProgram(ctx, localcluster.APIServer)).To(Succeed())
		Eventually(w.connection).WithContext(ctx).WithTimeout(30 * time.Second).Should(haveFive(fixtures.All(yes)))
		// An API server that starts denies rights for a moment that it has not read yet.
		states := readyOf(versions())
		Expect(states[:2]).To(Equal([]string{yes, "False/Unreachable"}))
		Expect(versions()).To(HaveLen(len(states)), "one write for each transition")
		events := 0
		for _, state := range states {
			if state == "False/Unreachable" {
				events++
			}
		}
		Eventually(w.eventsOf(v1alpha1.ReasonUnreachable)).WithContext(ctx).Should(HaveLen(events))
		Eventually(w.eventsOf(v1alpha1.ReasonConnected)).WithContext(ctx).Should(HaveLen(2))
	})
})
