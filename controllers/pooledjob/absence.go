package pooledjob

import (
	"context"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/controllers/pooledjob/decision"
	"github.com/pooledjob/pooledjob/internal/binding"
	"github.com/pooledjob/pooledjob/internal/jobspec"
	"github.com/pooledjob/pooledjob/internal/jobstatus"
)

// unseenPause is the time between two looks at a Job that the informer cannot show.
const unseenPause = 2 * time.Second

// absence is what became of a proof that the remote Job is absent.
type absence struct {
	outcome binding.Outcome
	job     *batchv1.Job  // when Present or Duplicate
	reason  string        // when Unproven
	why     string        // when Unproven
	after   time.Duration // when Unproven: when to look again; 0 on a change
}

// proveAbsence looks for the remote Job at the target itself.
func (r *run) proveAbsence(ctx context.Context) (absence, error) {
	if r.lease == nil {
		return absence{reason: r.ContactReason, why: decision.DecideFailover(r.Snapshot, decision.Action{Message: r.ContactMessage}).Message}, nil
	}
	var job *batchv1.Job
	verdict, err := binding.Proof{
		Look: func(ctx context.Context) (outcome binding.Outcome, err error) {
			job, outcome, err = r.look(ctx)
			return outcome, err
		},
		ReadClusterUID:   r.readClusterUID,
		ClusterUID:       r.Intent.ClusterUID,
		DeletionAccepted: r.Memory.DeletedUID != "" && r.Memory.DeletedUID == r.ObservedUID(),
		InFlight:         r.RequestsInFlight(),
	}.Prove(ctx)
	switch {
	case err != nil:
		return absence{}, err
	case verdict.OtherCluster != "":
		why := fmt.Sprintf("The run is bound to the cluster with UID %s, but the one with UID %s answers.", r.Intent.ClusterUID, verdict.OtherCluster)
		return absence{reason: v1alpha1.ReasonClusterNotReady, why: why, after: decision.InformerGrace}, nil
	case verdict.InFlight > 0:
		return absence{reason: v1alpha1.ReasonCreating, why: "A request to create the Job may still be under way.", after: verdict.InFlight}, nil
	}
	return absence{outcome: verdict.Outcome, job: job}, nil
}

// look reads the Job of our name from the target, and says whose it is.
func (r *run) look(ctx context.Context) (*batchv1.Job, binding.Outcome, error) {
	job, err := r.lease.GetJob(ctx, r.Intent.Namespace, r.Intent.JobName)
	switch {
	case err == nil:
		return job, jobspec.RunOf(r.HubID, r.Job).Whose(r.ObservedUID(), job, job.Spec.Template.Labels), nil
	case decision.IsAPIServerNotFound(err):
		return nil, binding.Absent, nil
	}
	return nil, binding.Unproven, &targetError{doing: "looking for the remote Job", err: err}
}

func (r *run) readClusterUID(ctx context.Context) (string, error) {
	uid, err := r.lease.ReadClusterUID(ctx)
	if err != nil {
		return "", &targetError{doing: "making sure which cluster says that the Job is not there", err: err}
	}
	return uid, nil
}

// notAbsent goes on with a run whose Job could not be proven absent: it exists
// after all, or nothing can be said yet.
func (r *run) notAbsent(ctx context.Context, verdict absence) (time.Duration, error) {
	switch verdict.outcome {
	case binding.Present:
		r.found(verdict.job)
		return r.recover(ctx, verdict.job)
	case binding.Replaced, binding.Duplicate:
		r.failNameConflict()
	case binding.Unproven, binding.Absent:
		r.writer.Waiting(verdict.reason, verdict.why)
	}
	return verdict.after, nil
}

// confirmLoss finds out what became of a Job that was observed and is not in view.
func (r *run) confirmLoss(ctx context.Context) (time.Duration, error) {
	if gone := r.Memory.Gone.Job; gone != nil {
		r.writer.Found(gone) // for the next process
	}
	if left := r.PodsTimeLeft(); left > 0 && r.Memory.Gone.Awaited && !r.Memory.Gone.Forgotten {
		return left, nil
	}
	verdict, err := r.proveAbsence(ctx)
	if err != nil {
		return 0, err
	}
	switch verdict.outcome {
	case binding.Absent, binding.Replaced:
		return r.lost(ctx)
	case binding.Duplicate:
		r.writer.NotSynced(r.lossReason(v1alpha1.ReasonCreating), fmt.Sprintf(
			"Job %s/%s was deleted on the cluster, and another one of this run has its name; that one is deleted.", r.Intent.Namespace, r.Intent.JobName))
		if verdict.job.DeletionTimestamp.IsZero() {
			_, err = r.deleteRemote(ctx, verdict.job.UID)
		}
		return unseenPause, err
	case binding.Present:
		return r.recover(ctx, verdict.job)
	case binding.Unproven:
		r.writer.NotSynced(r.lossReason(verdict.reason), verdict.why)
	}
	return verdict.after, nil
}

// lossReason returns the reason to record while a loss is being proven: that of a run which is
// to be moved then must stay, for it says so.
func (r *run) lossReason(reason string) string {
	if r.MovesAfterLoss() {
		return v1alpha1.ReasonClusterNotReady
	}
	return reason
}

// confirmGone lets a deleted PooledJob go if its Job is proven gone and left no Pods.
// It deletes what is there after all.
func (r *run) confirmGone(ctx context.Context) (time.Duration, error) {
	verdict, err := r.proveAbsence(ctx)
	if err != nil {
		return 0, err
	}
	switch verdict.outcome {
	case binding.Absent, binding.Replaced:
		if len(r.Pods) > 0 {
			return r.deletePods(ctx)
		}
		return 0, r.release(ctx)
	case binding.Present, binding.Duplicate:
		if verdict.job.DeletionTimestamp.IsZero() {
			_, err = r.deleteRemote(ctx, verdict.job.UID)
		}
		// A Job that lost its labels is not in view: no event will report its end.
		return unseenPause, err
	case binding.Unproven:
		r.writer.Deleting(verdict.reason, verdict.why)
	}
	return verdict.after, nil
}

// deletePods deletes the Pods that the Job left behind: whoever deleted it asked for
// them to be orphaned.
func (r *run) deletePods(ctx context.Context) (time.Duration, error) {
	for _, pod := range r.Pods {
		if !pod.DeletionTimestamp.IsZero() {
			continue
		}
		err := r.lease.DeletePod(ctx, pod.Namespace, pod.Name, pod.UID)
		if err != nil && !decision.IsAPIServerNotFound(err) && !apierrors.IsConflict(err) {
			return 0, &targetError{"deleting a Pod that the remote Job left", err, true}
		}
	}
	return decision.InformerGrace, nil
}

// recover goes on with a Job that is there and not in view: it puts our labels back
// if they were taken off, and records what the target said of it.
func (r *run) recover(ctx context.Context, job *batchv1.Job) (time.Duration, error) {
	if !binding.Owns(r.HubID, r.Job, job.Labels) {
		if letGo, err := r.letGoLive(ctx); letGo || err != nil {
			return decision.InformerGrace, err
		}
		_, err := r.lease.PatchJob(ctx, job.Namespace, job.Name, jobspec.LabelPatch(r.HubID, r.Job, job))
		if err != nil {
			return 0, r.recoverUnlabelled(ctx, job, &targetError{doing: "putting the labels back on the remote Job", err: err})
		}
	}
	return decision.InformerGrace, r.observe(ctx, job)
}

// recoverUnlabelled goes on with a Job that cannot have its labels back, as far as can be without a
// view of it: it is looked at with each try, and a cancel reaches it.
func (r *run) recoverUnlabelled(ctx context.Context, job *batchv1.Job, why error) error {
	if err := r.observe(ctx, job); err != nil || jobstatus.Finished(&r.Job.Status) {
		return err
	}
	if r.Cancelled() && !jobspec.Cancelled(job) {
		if _, err := r.lease.PatchJob(ctx, job.Namespace, job.Name, jobspec.CancelPatch(job.UID)); err != nil {
			return &targetError{decision.DoingCancel, err, true}
		}
	}
	return why
}

// letGoLive asks the hub's API server whether the run's Job is to be let go: then it has
// lost its labels by the manager's own hand, perhaps that of another leader, and what the
// cache says is old. A label that is taken off after this is safe from us, for the patch is
// about the Job as it was read before.
func (r *run) letGoLive(ctx context.Context) (bool, error) {
	job, err := r.PooledJobs.Get(ctx, client.ObjectKeyFromObject(r.Job))
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading whether the remote Job is to be let go: %w", err)
	}
	return job.UID != r.Job.UID || (!job.DeletionTimestamp.IsZero() && job.Spec.DeletionPolicy == v1alpha1.DeletionPolicyOrphan), nil
}
