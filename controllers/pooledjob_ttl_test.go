package controllers

import (
	"context"
	"fmt"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/jobspec"
	"github.com/pooledjob/pooledjob/internal/jobstatus"
)

// ttl gives a PooledJob so many seconds after its end.
func ttl(seconds int32) func(*v1alpha1.PooledJob) {
	return func(j *v1alpha1.PooledJob) { j.Spec.TTLSecondsAfterFinished = &seconds }
}

// succeeds plays the Job controller: the run ends well.
func succeeds(ctx context.Context, job *v1alpha1.PooledJob) *batchv1.Job {
	remote := remoteOf(ctx, job)
	endJob(ctx, remote, batchv1.JobComplete)
	return remote
}

// beingDeleted matches an object that is to go.
func beingDeleted() OmegaMatcher { return HaveField("DeletionTimestamp", Not(BeNil())) }

// expectCollected makes sure that a PooledJob goes with its Job.
func expectCollected(ctx context.Context, job *v1alpha1.PooledJob, remote *batchv1.Job) {
	GinkgoHelper()
	eventually(ctx, job).Should(beingDeleted())
	Eventually(func() *metav1.Time { return remoteOf(ctx, job).DeletionTimestamp }).ShouldNot(BeNil())
	Consistently(exists(hub, job)).WithContext(ctx).WithTimeout(300*time.Millisecond).Should(BeTrue(), "its Job is still there")
	finishDeletion(ctx, remote)
	Eventually(exists(hub, job)).WithContext(ctx).Should(BeFalse())
	Expect(exists(target, remote)(ctx)).To(BeFalse())
}

var _ = Describe("The time to live of a PooledJob", func() {
	It("deletes the PooledJob and its Job at once when it is 0", func(ctx context.Context) {
		w := connected(ctx)
		job, remote, _ := w.running(ctx, ttl(0))
		consistently(ctx, job).Should(Not(beingDeleted()), "it has not ended")
		endJob(ctx, remote, batchv1.JobComplete)
		expectCollected(ctx, job, remote)
	})

	It("counts from the end of the run", func(ctx context.Context) {
		w := connected(ctx)
		job := w.submit(ctx, ttl(2))
		succeeds(ctx, job)
		eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobSucceeded))
		ended, _ := jobstatus.FinishedAt(&latest(job)(Default, ctx).Status)
		eventually(ctx, job).Should(beingDeleted())
		since := latest(job)(Default, ctx).DeletionTimestamp
		Expect(since.Time).To(BeTemporally(">=", ended.Add(2*time.Second)))
		Expect(since.Time).To(BeTemporally("<=", ended.Add(5*time.Second)))
	})

	It("passes before the deletion, however long it is", func(ctx context.Context) {
		w := connected(ctx)
		job := w.submit(ctx, ttl(3600))
		remote := succeeds(ctx, job)
		eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobSucceeded))
		moveClock(time.Now().Add(59 * time.Minute))
		nudge(ctx, hub, job)
		consistently(ctx, job).Should(Not(beingDeleted()))
		clockOffset.Store(int64(61 * time.Minute))
		nudge(ctx, hub, job)
		expectCollected(ctx, job, remote)
	})

	It("applies to a run that failed without a Job, and needs no target", func(ctx context.Context) {
		w := newWorld(ctx)
		job := w.submit(ctx, ttl(0), cancelledFromTheStart)
		Eventually(exists(hub, job)).WithContext(ctx).Should(BeFalse())
	})

	It("can be set, shortened and removed after the end", func(ctx context.Context) {
		w := connected(ctx)
		set, shortened, kept := w.submit(ctx), w.submit(ctx, ttl(3600)), w.submit(ctx, ttl(3600))
		remotes := []*batchv1.Job{succeeds(ctx, set), succeeds(ctx, shortened), succeeds(ctx, kept)}
		for _, job := range []*v1alpha1.PooledJob{set, shortened, kept} {
			eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobSucceeded))
			consistently(ctx, job).Should(Not(beingDeleted()))
		}
		setSpec(ctx, set, `{"ttlSecondsAfterFinished":0}`)
		expectCollected(ctx, set, remotes[0])
		setSpec(ctx, shortened, `{"ttlSecondsAfterFinished":1}`)
		expectCollected(ctx, shortened, remotes[1])
		setSpec(ctx, kept, `{"ttlSecondsAfterFinished":null}`)
		moveClock(time.Now().Add(2 * time.Hour))
		nudge(ctx, hub, kept)
		consistently(ctx, kept).Should(Not(beingDeleted()))
		Expect(remoteOf(ctx, kept).DeletionTimestamp).To(BeNil())
	})

	It("leaves the Job of a PooledJob with deletionPolicy Orphan", func(ctx context.Context) {
		w := connected(ctx)
		job := w.submit(ctx, ttl(0), labelled, func(j *v1alpha1.PooledJob) { j.Spec.DeletionPolicy = v1alpha1.DeletionPolicyOrphan })
		remote := succeeds(ctx, job)
		Eventually(exists(hub, job)).WithContext(ctx).Should(BeFalse())
		Expect(remoteJobs(w.name)(Default, ctx)).To(ConsistOf(And(
			HaveField("UID", remote.UID), HaveField("DeletionTimestamp", BeNil()), HaveField("Labels", Equal(leftLabels(job))))))
	})

	It("stays in effect under a new operator, which sends nothing to the target", func(ctx context.Context) {
		w, t := throughTap(ctx, func(spec *v1alpha1.ClusterConnectionSpec) {
			one := int32(1)
			spec.IdleTimeoutSeconds = &one
		})
		job := w.submit(ctx, ttl(1200))
		remote := succeeds(ctx, job)
		eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobSucceeded))
		w.expectIdle(ctx)
		t.forget()
		operator.restart()
		w.expectIdle(ctx)
		nudge(ctx, hub, job)
		Consistently(w.figureOf("sockets")).Should(BeZero())
		Expect(t.requests()).To(BeEmpty())

		moveClock(time.Now().Add(30 * time.Minute))
		operator.restart() // what is due is due for a new one, too
		expectCollected(ctx, job, remote)
		w.expectIdle(ctx)
	})

	It("waits for a target that is away, and applies once it is back", func(ctx context.Context) {
		w, t := throughTap(ctx)
		job := w.submit(ctx, ttl(3600))
		remote := succeeds(ctx, job)
		eventually(ctx, job).Should(havePhase(v1alpha1.PooledJobSucceeded))
		w.goesAway(ctx, t)
		setSpec(ctx, job, `{"ttlSecondsAfterFinished":0}`)
		eventually(ctx, job).Should(And(beingDeleted(), havePhase(v1alpha1.PooledJobSucceeded),
			haveCondition(v1alpha1.ConditionDeleting, metav1.ConditionTrue, v1alpha1.ReasonClusterNotReady)))
		w.comesBack(ctx, t)
		expectCollected(ctx, job, remote)
	})
})

// again returns a PooledJob of the same name, after the first is gone.
func (w world) again(ctx context.Context, first *v1alpha1.PooledJob) *v1alpha1.PooledJob {
	GinkgoHelper()
	Eventually(exists(hub, first.DeepCopy())).WithContext(ctx).Should(BeFalse())
	second := w.submit(ctx, func(j *v1alpha1.PooledJob) { j.Name = first.Name })
	Expect(second.UID).NotTo(Equal(first.UID))
	return second
}

var _ = Describe("A PooledJob that is created again under the same name", func() {
	isNew := func() OmegaMatcher {
		return And(havePhase(v1alpha1.PooledJobPending), HaveField("Status.Result", BeZero()), HaveField("Status.CompletionTime", BeNil()))
	}

	It("runs again, with another Job and its own result", func(ctx context.Context) {
		w := connected(ctx)
		first := w.submit(ctx)
		remote := remoteOf(ctx, first)
		pod := start(ctx, remote)
		endPod(ctx, pod, 0, "the first")
		endJob(ctx, remote, batchv1.JobComplete)
		eventually(ctx, first).Should(And(havePhase(v1alpha1.PooledJobSucceeded), HaveField("Status.Result.Message", "the first")))
		Expect(hub.Delete(ctx, first)).To(Succeed())
		finishDeletion(ctx, remote)

		second := w.again(ctx, first)
		its := remoteOf(ctx, second)
		Expect(its.Name).NotTo(Equal(remote.Name))
		eventually(ctx, second).Should(And(isNew(), HaveField("Status.JobRef.UID", string(its.UID))))
		consistently(ctx, second).Should(isNew())
		endPod(ctx, start(ctx, its), 3, "the second")
		endJob(ctx, its, batchv1.JobFailed)
		eventually(ctx, second).Should(And(havePhase(v1alpha1.PooledJobFailed),
			HaveField("Status.Result.ExitCode", HaveValue(BeEquivalentTo(3))), HaveField("Status.Result.Message", "the second")))
	})

	It("inherits nothing from a PooledJob that was abandoned while its cluster was away", func(ctx context.Context) {
		w, t := throughTap(ctx)
		first, remote, pod := w.running(ctx)
		w.goesAway(ctx, t)
		Expect(hub.Delete(ctx, first)).To(Succeed())
		abandonJob(ctx, first, uidOf(ctx, target))
		second := w.again(ctx, first)
		endPod(ctx, pod, 0, "the first")
		endJob(ctx, remote, batchv1.JobComplete)
		eventually(ctx, second).Should(haveCondition(v1alpha1.ConditionDispatched, metav1.ConditionFalse, v1alpha1.ReasonClusterNotReady))
		w.comesBack(ctx, t)
		its := remoteOf(ctx, second)
		eventually(ctx, second).Should(HaveField("Status.JobRef.UID", string(its.UID)))
		consistently(ctx, second).Should(isNew())
		endPod(ctx, start(ctx, its), 3, "the second")
		endJob(ctx, its, batchv1.JobFailed)
		eventually(ctx, second).Should(And(havePhase(v1alpha1.PooledJobFailed), HaveField("Status.Result.ExitCode", HaveValue(BeEquivalentTo(3)))))
		Expect(target.Get(ctx, client.ObjectKeyFromObject(remote), remote)).To(Succeed())
		Expect(remote.DeletionTimestamp).To(BeNil(), "nobody's Job is left alone")
	})

	It("runs again when it was created while no operator ran, also as a copy with all fields", func(ctx context.Context) {
		w := connected(ctx)
		first, remote, _ := w.running(ctx)
		copied := latest(first)(Default, ctx)
		operator.stop()
		Expect(hub.Delete(ctx, first)).To(Succeed())
		Expect(hub.Patch(ctx, first, client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`)))).To(Succeed())
		endJob(ctx, remote, batchv1.JobComplete)
		second := w.submit(ctx, func(j *v1alpha1.PooledJob) {
			j.Name, j.Annotations, j.Finalizers, j.Status = copied.Name, copied.Annotations, copied.Finalizers, copied.Status
		})
		*operator = *startOperator(operator.scheme)
		its := remoteOf(ctx, second)
		eventually(ctx, second).Should(HaveField("Status.JobRef.UID", string(its.UID)))
		consistently(ctx, second).Should(isNew())
		Expect(latest(second)(Default, ctx).Annotations).To(HaveKeyWithValue(v1alpha1.AnnotationIntent,
			jobspec.RunOf(operator.hubID, second).NewIntent(w.name, uidOf(ctx, target)).Encode()))
		Expect(remoteJobs(w.name)(Default, ctx)).To(HaveLen(2))
	})
})

// abandonJob states that the Job of a PooledJob on the cluster of that UID is given up.
func abandonJob(ctx context.Context, job *v1alpha1.PooledJob, clusterUID string) {
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, v1alpha1.AnnotationAbandon, clusterUID)
	Expect(hub.Patch(ctx, job.DeepCopy(), client.RawPatch("application/merge-patch+json", []byte(patch)))).To(Succeed())
}
