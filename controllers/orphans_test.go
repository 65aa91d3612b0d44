package controllers

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// leaveJob makes a Job that looks like one of ours, of a PooledJob with that UID.
func (w world) leaveJob(ctx context.Context, hubID, uid string) *batchv1.Job {
	labels := map[string]string{v1alpha1.LabelHub: hubID, v1alpha1.LabelUID: uid}
	job := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.name, Name: uniqueName("left"), Labels: labels},
		Spec: batchv1.JobSpec{Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels},
			Spec: corev1.PodSpec{
				RestartPolicy: corev1.RestartPolicyNever,
				Containers:    []corev1.Container{{Name: "main", Image: "busybox"}},
			},
		}},
	}
	Expect(target.Create(ctx, job)).To(Succeed())
	// All connections of the suite lead to one target, and see it.
	DeferCleanup(func(ctx context.Context) {
		Expect(client.IgnoreNotFound(target.Delete(ctx, job, client.PropagationPolicy(metav1.DeletePropagationBackground)))).To(Succeed())
		patch := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`))
		Expect(client.IgnoreNotFound(target.Patch(ctx, job, patch))).To(Succeed())
	})
	return job
}

// orphansOf returns what the metric says of a connection; -1 when it says nothing.
func orphansOf(name string) func(Gomega) float64 {
	return func(g Gomega) float64 {
		families, err := operator.metrics.Gather()
		g.Expect(err).NotTo(HaveOccurred())
		for _, family := range families {
			if family.GetName() != "pooledjob_connection_orphaned_jobs" {
				continue
			}
			for _, metric := range family.GetMetric() {
				if metric.GetLabel()[0].GetValue() == name {
					return metric.GetGauge().GetValue()
				}
			}
		}
		return -1
	}
}

// settledOrphansOf returns what the metric says when it has said the same for some looks:
// other specs leave orphans, too, and all connections lead to one target.
func settledOrphansOf(name string) float64 {
	var said []float64
	Eventually(func(g Gomega) bool {
		said = append(said, orphansOf(name)(g))
		last := len(said) - 1
		return last >= 40 && said[last] >= 0 && said[last] == said[last-40] // 2 s
	}).Should(BeTrue())
	return said[len(said)-1]
}

// orphansTold returns the notes of the Events about orphans of a connection.
func orphansTold(name string) func(Gomega, context.Context) []string {
	return func(g Gomega, ctx context.Context) []string {
		var list eventsv1.EventList
		g.Expect(hub.List(ctx, &list)).To(Succeed())
		var notes []string
		for _, event := range list.Items {
			if event.Regarding.Name == name && event.Reason == v1alpha1.ReasonOrphanedJobs {
				notes = append(notes, event.Note)
			}
		}
		return notes
	}
}

var _ = Describe("A Job with our hub's ID", func() {
	const nobody = "00000000-0000-0000-0000-000000000000"

	It("gets reported and left alone when no PooledJob stands behind it", func(ctx context.Context) {
		w := connected(ctx)
		before := settledOrphansOf(w.name)
		left := w.leaveJob(ctx, operator.hubID, nobody)
		Eventually(orphansOf(w.name)).Should(Equal(before + 1))
		note := And(ContainSubstring("of this installation have no PooledJob behind them"), ContainSubstring("%s/%s", left.Namespace, left.Name))
		Eventually(orphansTold(w.name)).WithContext(ctx).Should(ContainElement(note))
		told := len(orphansTold(w.name)(Default, ctx))
		Consistently(exists(target, left)).WithContext(ctx).WithTimeout(3 * time.Second).Should(BeTrue())
		Expect(left.DeletionTimestamp).To(BeNil())
		Expect(orphansTold(w.name)(Default, ctx)).To(HaveLen(told), "the same ones are told of once")

		Expect(target.Delete(ctx, left, client.PropagationPolicy(metav1.DeletePropagationBackground))).To(Succeed())
		Eventually(orphansOf(w.name)).Should(Equal(before))
	})

	It("counts as no orphan while its PooledJob runs, has ended or is being deleted", func(ctx context.Context) {
		w := connected(ctx)
		before := settledOrphansOf(w.name)
		running, ended, going := w.submit(ctx), w.submit(ctx), w.submit(ctx)
		remoteOf(ctx, running)
		endJob(ctx, remoteOf(ctx, ended), batchv1.JobComplete)
		start(ctx, remoteOf(ctx, going)) // its Pod keeps it
		eventually(ctx, ended).Should(havePhase(v1alpha1.PooledJobSucceeded))
		eventually(ctx, going).Should(havePhase(v1alpha1.PooledJobRunning))
		Expect(hub.Delete(ctx, going)).To(Succeed())
		Consistently(orphansOf(w.name)).WithTimeout(3 * time.Second).Should(Equal(before))
		finishDeletion(ctx, remoteOf(ctx, going))
		Eventually(exists(hub, going)).WithContext(ctx).Should(BeFalse())
		Consistently(orphansOf(w.name)).Should(Equal(before))
	})

	It("counts as no orphan when its PooledJob is on the hub, whatever its own label says", func(ctx context.Context) {
		w := connected(ctx)
		w.submit(ctx) // keeps the connection open
		before := settledOrphansOf(w.name)
		job := w.submit(ctx)
		remote := remoteOf(ctx, job)
		endJob(ctx, remote, batchv1.JobComplete)
		eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobSucceeded)) // a run that goes on has its label put back
		remote.Labels[v1alpha1.LabelUID] = nobody
		Expect(target.Update(ctx, remote)).To(Succeed())
		left := w.leaveJob(ctx, operator.hubID, nobody) // which shows that both were looked at
		Eventually(orphansOf(w.name)).Should(Equal(before + 1))
		Consistently(orphansOf(w.name)).WithTimeout(3 * time.Second).Should(Equal(before + 1))
		Expect(orphansTold(w.name)(Default, ctx)).To(And(ContainElement(ContainSubstring(left.Name)), Not(ContainElement(ContainSubstring(remote.Name)))))
	})

	It("counts as an orphan when it is of an earlier attempt", func(ctx context.Context) {
		w := connected(ctx)
		job := w.submit(ctx)
		remoteOf(ctx, job)
		left := w.leaveJob(ctx, operator.hubID, string(job.UID))
		note := ContainSubstring("%s/%s", left.Namespace, left.Name)
		Eventually(orphansTold(w.name)).WithContext(ctx).Should(ContainElement(note))
	})

	It("gets found again after a restart, and its metric ends with the connection", func(ctx context.Context) {
		w := connected(ctx)
		w.leaveJob(ctx, operator.hubID, nobody)
		operator.restart()
		Eventually(orphansOf(w.name)).Should(BeNumerically(">=", 1))
		Expect(hub.Delete(ctx, w.connection(Default, ctx))).To(Succeed())
		Eventually(orphansOf(w.name)).Should(BeEquivalentTo(-1))
	})

	It("gets deleted when the orphan policy is delete, and not soon after the start", func(ctx context.Context) {
		before := orphanOptions
		orphanOptions.Delete = true
		DeferCleanup(func() {
			clockOffset.Store(0)
			orphanOptions = before
			operator.restart()
		})
		operator.restart()
		w := connected(ctx)
		kept := w.submit(ctx)
		remoteOf(ctx, kept)
		foreign, bare := w.leaveJob(ctx, "another-hub", nobody), w.leaveJob(ctx, operator.hubID, string(kept.UID))
		stripped := w.submit(ctx)
		stripLabels(ctx, remoteOf(ctx, stripped))
		const left = 15
		for range left {
			w.leaveJob(ctx, operator.hubID, nobody)
		}
		Eventually(orphansOf(w.name)).Should(BeNumerically(">=", left+1))
		deleting := func(g Gomega, ctx context.Context) (deleting []string) {
			for _, job := range remoteJobs(w.name)(g, ctx) {
				if !job.DeletionTimestamp.IsZero() {
					deleting = append(deleting, job.Name)
				}
			}
			return deleting
		}
		Consistently(deleting).WithContext(ctx).WithTimeout(2 * time.Second).Should(BeEmpty())

		clockOffset.Store(int64(11 * time.Minute))
		Eventually(deleting).WithContext(ctx).WithTimeout(time.Minute).Should(HaveLen(left + 1))
		Consistently(deleting).WithContext(ctx).WithTimeout(4*time.Second).Should(HaveLen(left+1), "more than the orphans is deleted")
		Expect(deleting(Default, ctx)).To(ContainElement(bare.Name))
		Expect(deleting(Default, ctx)).NotTo(ContainElements(foreign.Name, remoteKey(kept).Name, remoteKey(stripped).Name))
	})
})
