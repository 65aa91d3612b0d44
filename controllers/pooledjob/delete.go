package pooledjob

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/controllers/pooledjob/decision"
	"github.com/pooledjob/pooledjob/internal/binding"
	"github.com/pooledjob/pooledjob/internal/jobspec"
	"github.com/pooledjob/pooledjob/internal/jobstatus"
	"github.com/pooledjob/pooledjob/internal/metrics"
)

// deleteRemote asks the target to delete the Job of that UID. The watch reports its
// end; should it stay silent, the next look asks again.
func (r *run) deleteRemote(ctx context.Context, uid types.UID) (time.Duration, error) {
	if left := r.Memory.DeletedAt.Add(decision.InformerGrace).Sub(r.Time); left > 0 && r.Memory.DeletedUID == uid {
		return left, nil
	}
	err := r.lease.DeleteJob(ctx, r.Intent.Namespace, r.Intent.JobName, uid, "")
	if err == nil {
		logf.FromContext(ctx).Info("Asked for the Job's deletion", "cluster", r.Cluster, "targetNamespace", r.Intent.Namespace, "job", r.Intent.JobName, "uid", uid)
	}
	switch {
	case err == nil && r.Remote != nil && r.Remote.UID == uid: // else no event will report its end
		r.remember(func(m *decision.Memory) { m.DeletedUID, m.DeletedAt = uid, r.Time })
	case err != nil && !decision.IsAPIServerNotFound(err) && !apierrors.IsConflict(err):
		return 0, &targetError{"deleting the remote Job", err, true}
	}
	return decision.InformerGrace, nil
}

// orphan takes the hub's label off the Job and lets the PooledJob go. Without it the Job
// is nobody's; with it, it would be taken for one that was left by mistake.
func (r *run) orphan(ctx context.Context) (time.Duration, error) {
	job := r.Remote
	if job == nil { // it may be gone, or its label may be off already
		verdict, err := r.proveAbsence(ctx)
		if err != nil {
			return 0, err
		}
		if verdict.outcome == binding.Unproven {
			r.writer.Deleting(verdict.reason, verdict.why)
			return verdict.after, nil
		}
		if verdict.outcome != binding.Replaced {
			job = verdict.job
		}
	}
	if job != nil && job.Labels[v1alpha1.LabelHub] == r.HubID {
		if _, err := r.lease.PatchJob(ctx, job.Namespace, job.Name, jobspec.OrphanPatch(job.UID)); err != nil {
			return 0, &targetError{"taking the label off the remote Job", err, true}
		}
	}
	return 0, r.release(ctx)
}

// abandon lets a PooledJob go whose Job may exist, because a person said so.
func (r *run) abandon(ctx context.Context) error {
	if err := r.release(ctx); err != nil || !r.released {
		return err
	}
	r.Recorder.Eventf(r.Job, nil, corev1.EventTypeWarning, v1alpha1.ReasonAbandoned, "Delete",
		"Job %s/%s on the cluster of ClusterConnection %s (UID %s) may still exist: the PooledJob was let go because of its annotation %s.",
		r.Intent.Namespace, r.Intent.JobName, r.Cluster, r.Intent.ClusterUID, v1alpha1.AnnotationAbandon)
	return nil
}

// release takes the finalizer off.
func (r *run) release(ctx context.Context) error {
	released := r.Job.ObjectMeta.DeepCopy()
	released.Finalizers = slices.DeleteFunc(released.Finalizers, func(f string) bool { return f == v1alpha1.FinalizerPooledJob })
	if _, err := r.send(ctx, &v1alpha1.PooledJob{ObjectMeta: r.Job.ObjectMeta}, &v1alpha1.PooledJob{ObjectMeta: *released}); err != nil {
		return client.IgnoreNotFound(fmt.Errorf("removing the finalizer: %w", err))
	}
	r.Metrics.Wrote(metrics.WriteFinalizer)
	r.forgetGone()
	r.released = true
	r.remember(func(m *decision.Memory) { m.ReleasedAt = r.Time })
	return nil
}

// timeToLive returns how long a PooledJob that has finished may stay; ok is false when it
// may for ever, or has not finished.
func timeToLive(job *v1alpha1.PooledJob, now time.Time) (left time.Duration, ok bool) {
	finished, ok := jobstatus.FinishedAt(&job.Status)
	if !ok || job.Spec.TTLSecondsAfterFinished == nil {
		return 0, false
	}
	return finished.Add(time.Duration(*job.Spec.TTLSecondsAfterFinished) * time.Second).Sub(now), true
}

// +kubebuilder:rbac:groups=pooledjob.io,resources=pooledjobs,verbs=delete

// expire deletes a PooledJob that has finished when its time to live is over, unless
// somebody has changed it meanwhile.
func (r *Reconciler) expire(ctx context.Context, job *v1alpha1.PooledJob) (ctrl.Result, error) {
	left, ok := timeToLive(job, r.Clock.Now())
	if !ok || left > 0 {
		return asResult(max(left, 0), r.followEdit(ctx, job))
	}
	err := r.PooledJobs.Delete(ctx, &job.ObjectMeta)
	if err == nil {
		r.Metrics.Wrote(metrics.WriteExpiry)
	}
	return asResult(0, client.IgnoreNotFound(err))
}

// followEdit notes on a run that has ended that its spec was edited: there is nothing to obey, but
// who waits for one of its conditions waits for that of the present generation.
func (r *Reconciler) followEdit(ctx context.Context, job *v1alpha1.PooledJob) error {
	if job.Status.ObservedGeneration == job.Generation {
		return nil
	}
	s := &decision.Snapshot{Time: r.Clock.Now(), Job: job, Memory: r.memories.get(job)}
	ended := &run{Reconciler: r, Snapshot: s, before: job.Status.DeepCopy(), writer: jobstatus.NewWriter(job, s.Time)}
	_, err := ended.writeStatus(ctx)
	return err
}
