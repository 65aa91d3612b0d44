package controllers

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/controllers/pooledjob/decision"
)

// labelled gives the Job a label of its author's.
func labelled(j *v1alpha1.PooledJob) {
	j.Spec.Template.Labels = map[string]string{"app": "etl"}
}

// leftLabels returns those of an orphaned Job that its author had labelled: one of ours
// stays, which makes it nobody's without the hub's.
func leftLabels(job *v1alpha1.PooledJob) map[string]string {
	return map[string]string{"app": "etl", v1alpha1.LabelUID: string(job.UID)}
}

func orphaning(j *v1alpha1.PooledJob) { j.Spec.DeletionPolicy = v1alpha1.DeletionPolicyOrphan }

// givenUp returns the notes of the Events that say that a PooledJob's Job was given up.
func givenUp(job *v1alpha1.PooledJob) func(Gomega, context.Context) []string {
	return func(g Gomega, ctx context.Context) []string {
		var list eventsv1.EventList
		g.Expect(hub.List(ctx, &list, client.InNamespace(job.Namespace))).To(Succeed())
		var notes []string
		for _, event := range list.Items {
			if event.Regarding.Kind == "PooledJob" && event.Regarding.Name == job.Name && event.Reason == v1alpha1.ReasonAbandoned {
				notes = append(notes, event.Note)
			}
		}
		return notes
	}
}

// whatMatters returns a Job without what every write changes.
func whatMatters(remote *batchv1.Job) *batchv1.Job {
	remote = remote.DeepCopy()
	remote.ManagedFields, remote.ResourceVersion = nil, ""
	return remote
}

// takeAway deletes a Job of the target once and for all.
func takeAway(ctx context.Context, remote *batchv1.Job) {
	Expect(target.Delete(ctx, remote, client.PropagationPolicy(metav1.DeletePropagationBackground))).To(Succeed())
}

var _ = Describe("deletionPolicy Orphan", func() {
	It("does not restore a label that another leader has removed", func(ctx context.Context) {
		w, t := throughTap(ctx)
		job, remote, _ := w.running(ctx, orphaning)
		var once sync.Once
		deleteMeanwhile := func(_ http.ResponseWriter, r *http.Request, _ []byte) bool {
			if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/"+remote.Name) {
				once.Do(func() { Expect(hub.Delete(ctx, job)).To(Succeed()) })
			}
			return false
		}
		t.before.Store(&deleteMeanwhile)
		t.forget()
		takeOff := client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"metadata":{"labels":{%q:null}}}`, v1alpha1.LabelHub))
		Expect(target.Patch(ctx, remote, takeOff)).To(Succeed())
		Eventually(exists(hub, job)).WithContext(ctx).Should(BeFalse())
		Expect(t.writes()).NotTo(ContainElement(ContainSubstring(fmt.Sprintf("%q:%q", v1alpha1.LabelHub, operator.hubID))))
		Expect(target.Get(ctx, client.ObjectKeyFromObject(remote), remote)).To(Succeed())
		Expect(remote.Labels).NotTo(HaveKey(v1alpha1.LabelHub))
	})

	It("removes the hub's labels from the Job, and leaves the rest of it and its Pods", func(ctx context.Context) {
		w, t := throughTap(ctx)
		job := w.submit(ctx, labelled, orphaning, suspendedFromTheStart)
		remote := remoteOf(ctx, job)
		Expect(remote.Labels).To(And(HaveLen(4), HaveKey(v1alpha1.LabelSuspend)))
		playSuspension(ctx, remote)
		setSpec(ctx, job, `{"suspend":false}`)
		Eventually(suspendOf(ctx, job)).Should(Equal("false/false"))
		playSuspension(ctx, remote)
		pod := start(ctx, remoteOf(ctx, job))
		eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobRunning))
		before := remoteOf(ctx, job)
		t.forget()

		Expect(hub.Delete(ctx, job)).To(Succeed())
		Eventually(exists(hub, job)).WithContext(ctx).Should(BeFalse())
		before.Labels = leftLabels(job)
		Expect(whatMatters(remoteOf(ctx, job))).To(Equal(whatMatters(before)))
		left := pod.DeepCopy()
		Expect(target.Get(ctx, client.ObjectKeyFromObject(left), left)).To(Succeed())
		Expect(left).To(Equal(pod), "the Pod is as it was")
		Expect(t.writes()).To(HaveEach(And(HavePrefix("PATCH "+remote.Name), ContainSubstring(string(remote.UID)))))
		Eventually(orphansOf(w.name)).Should(BeNumerically(">=", 0))
		Consistently(orphansTold(w.name)).WithContext(ctx).Should(Not(ContainElement(ContainSubstring(remote.Name))), "it was left on purpose")
	})

	It("removes the hub's labels from a Job that has no others", func(ctx context.Context) {
		w := connected(ctx)
		job := w.submit(ctx, orphaning)
		remote := remoteOf(ctx, job)
		Expect(hub.Delete(ctx, job)).To(Succeed())
		Eventually(exists(hub, job)).WithContext(ctx).Should(BeFalse())
		Expect(remoteOf(ctx, job).Labels).To(Equal(map[string]string{v1alpha1.LabelUID: string(job.UID)}))
		Eventually(orphansOf(w.name)).Should(BeNumerically(">=", 0))
		Consistently(orphansTold(w.name)).WithContext(ctx).Should(Not(ContainElement(ContainSubstring(remote.Name))), "it was left on purpose")
	})

	It("applies also when it is set while the PooledJob is being deleted", func(ctx context.Context) {
		w := connected(ctx)
		job, remote, _ := w.running(ctx, labelled)
		Expect(hub.Delete(ctx, job)).To(Succeed())
		Eventually(func() *metav1.Time { return remoteOf(ctx, job).DeletionTimestamp }).ShouldNot(BeNil())
		setSpec(ctx, job, `{"deletionPolicy":"Orphan"}`)
		Eventually(exists(hub, job)).WithContext(ctx).Should(BeFalse())
		finishDeletion(ctx, remote)
	})

	It("releases a PooledJob whose Job is gone already", func(ctx context.Context) {
		w := connected(ctx)
		job, remote, _ := w.running(ctx, orphaning)
		operator.stop()
		takeAway(ctx, remote)
		Expect(hub.Delete(ctx, job)).To(Succeed())
		*operator = *startOperator(operator.scheme)
		Eventually(exists(hub, job)).WithContext(ctx).Should(BeFalse())
		Expect(remoteJobs(w.name)(Default, ctx)).To(BeEmpty())
	})

	It("releases a PooledJob that never got a Job", func(ctx context.Context) {
		w := connected(ctx)
		noJobs(ctx, w.name)
		job := w.submit(ctx, orphaning)
		eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionFalse, v1alpha1.ReasonQuotaExceeded))
		Expect(hub.Delete(ctx, job)).To(Succeed())
		Eventually(exists(hub, job)).WithContext(ctx).Should(BeFalse())
	})

	DescribeTable("does not touch another Job of that name", func(ctx context.Context, ours bool) {
		w := connected(ctx)
		job, remote, _ := w.running(ctx, orphaning)
		operator.stop()
		labels := map[string]string{v1alpha1.LabelHub: "another-hub", v1alpha1.LabelUID: string(job.UID)}
		if ours {
			labels = remote.Labels
		}
		stranger := replaceRemote(ctx, remote, labels)
		DeferCleanup(func(ctx context.Context) { takeAway(ctx, stranger) })
		Expect(hub.Delete(ctx, job)).To(Succeed())
		*operator = *startOperator(operator.scheme)
		Eventually(exists(hub, job)).WithContext(ctx).Should(BeFalse())
		if !ours { // else it may be let go, as all that has our labels
			expectUntouched(ctx, stranger)
		}
		Expect(remoteOf(ctx, job)).To(And(HaveField("UID", stranger.UID), HaveField("DeletionTimestamp", BeNil())))
	}, Entry("that is another hub's", false), Entry("that has our labels", true))

	It("waits for a target that is away", func(ctx context.Context) {
		w, t := throughTap(ctx)
		job, remote, _ := w.running(ctx, labelled, orphaning)
		w.goesAway(ctx, t)
		Expect(hub.Delete(ctx, job)).To(Succeed())
		eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionDeleting, metav1.ConditionTrue, v1alpha1.ReasonClusterNotReady))
		Consistently(exists(hub, job)).WithContext(ctx).Should(BeTrue())
		w.comesBack(ctx, t)
		Eventually(exists(hub, job)).WithContext(ctx).Should(BeFalse())
		Expect(remoteOf(ctx, job)).To(And(HaveField("UID", remote.UID), HaveField("Labels", Equal(leftLabels(job)))))
	})
})

var _ = Describe("Giving up the Job of a PooledJob", func() {
	// left makes sure that the Job is as it was, and takes it away in the end: all
	// connections of the suite see it.
	left := func(ctx context.Context, before *batchv1.Job) {
		GinkgoHelper()
		now := before.DeepCopy()
		Expect(target.Get(ctx, client.ObjectKeyFromObject(now), now)).To(Succeed())
		Expect(whatMatters(now)).To(Equal(whatMatters(before)))
		takeAway(ctx, now)
	}

	DescribeTable("releases the PooledJob while its cluster is away", func(ctx context.Context, meanwhile func()) {
		w, t := throughTap(ctx)
		job, _, _ := w.running(ctx)
		remote := remoteOf(ctx, job)
		w.goesAway(ctx, t)
		Expect(hub.Delete(ctx, job)).To(Succeed())
		uid := uidOf(ctx, target)
		eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionDeleting, metav1.ConditionTrue, v1alpha1.ReasonClusterNotReady,
			ContainSubstring(v1alpha1.AnnotationAbandon+"="+uid)))
		meanwhile()
		abandonJob(ctx, job, uidOf(ctx, hub))
		Consistently(exists(hub, job)).WithContext(ctx).Should(BeTrue(), "another cluster was named")
		Expect(givenUp(job)(Default, ctx)).To(BeEmpty())

		abandonJob(ctx, job, uid)
		Eventually(exists(hub, job)).WithContext(ctx).Should(BeFalse())
		Eventually(givenUp(job)).WithContext(ctx).Should(ConsistOf(And(
			ContainSubstring(remote.Namespace+"/"+remote.Name), ContainSubstring(w.name), ContainSubstring(uid))))
		w.comesBack(ctx, t)
		Consistently(exists(target, remote.DeepCopy())).WithContext(ctx).Should(BeTrue())
		left(ctx, remote)
	},
		Entry("in the eyes of the same operator", func() {}),
		Entry("in the eyes of a new operator", func() { operator.restart() }))

	// Known: a ClusterConnection that does not exist counts as one that is being
	// connected, for which nothing is given up.
	It("releases the PooledJob when its ClusterConnection does not exist any more", func(ctx context.Context) {
		w := connected(ctx)
		job, _, _ := w.running(ctx)
		remote := remoteOf(ctx, job)
		connection := w.connection(Default, ctx)
		Expect(hub.Delete(ctx, connection)).To(Succeed())
		Expect(hub.Patch(ctx, connection, client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`)))).To(Succeed())
		Expect(hub.Delete(ctx, job)).To(Succeed())
		eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionDeleting, metav1.ConditionTrue, v1alpha1.ReasonClusterNotFound, ContainSubstring(v1alpha1.AnnotationAbandon)))
		abandonJob(ctx, job, uidOf(ctx, target))
		Eventually(exists(hub, job)).WithContext(ctx).Should(BeFalse())
		left(ctx, remote)
	})

	It("does not happen once the cluster is back: the Job is deleted as usual", func(ctx context.Context) {
		w, t := throughTap(ctx)
		job, remote, _ := w.running(ctx)
		w.goesAway(ctx, t)
		Expect(hub.Delete(ctx, job)).To(Succeed())
		eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionDeleting, metav1.ConditionTrue, v1alpha1.ReasonClusterNotReady))
		abandonJob(ctx, job, "no-such-cluster")
		w.comesBack(ctx, t)
		expectCollected(ctx, job, remote)
		Expect(givenUp(job)(Default, ctx)).To(BeEmpty())
	})

	It("has no effect while the cluster can be reached", func(ctx context.Context) {
		w := connected(ctx)
		job, remote, _ := w.running(ctx)
		abandonJob(ctx, job, uidOf(ctx, target))
		consistently(ctx, job).Should(havePhase(v1alpha1.PooledJobRunning))
		Expect(hub.Delete(ctx, job)).To(Succeed())
		expectCollected(ctx, job, remote)
		Expect(givenUp(job)(Default, ctx)).To(BeEmpty())
	})

	It("has no effect on a PooledJob that is not being deleted", func(ctx context.Context) {
		w, t := throughTap(ctx)
		job, remote, _ := w.running(ctx)
		w.goesAway(ctx, t)
		abandonJob(ctx, job, uidOf(ctx, target))
		consistently(ctx, job).Should(And(havePhase(v1alpha1.PooledJobRunning), HaveField("Finalizers", Not(BeEmpty()))))
		w.comesBack(ctx, t)
		endJob(ctx, remote, batchv1.JobComplete)
		eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobSucceeded))
	})
})

var _ = Describe("A PooledJob that is deleted while its Pods are slow to go", func() {
	It("reports after a minute that it waits for Pods", func(ctx context.Context) {
		w := connected(ctx)
		job, remote, pod := w.running(ctx)
		Expect(pod.Status.Phase).To(Equal(corev1.PodRunning))
		Expect(hub.Delete(ctx, job)).To(Succeed())
		Eventually(func() *metav1.Time { return remoteOf(ctx, job).DeletionTimestamp }).ShouldNot(BeNil())
		consistently(ctx, job).Should(HaveField("Status.Conditions", Not(ContainElement(HaveField("Type", v1alpha1.ConditionDeleting)))))
		moveClock(time.Now().Add(decision.PodsGrace + time.Second))
		nudge(ctx, hub, job)
		eventually(ctx, job).Should(haveCondition(v1alpha1.ConditionDeleting, metav1.ConditionTrue, v1alpha1.ReasonWaitingForPods))
		finishDeletion(ctx, remote)
		Eventually(exists(hub, job)).WithContext(ctx).Should(BeFalse())
	})
})
