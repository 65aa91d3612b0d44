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
	"github.com/pooledjob/pooledjob/internal/jobspec"
	"github.com/pooledjob/pooledjob/internal/jobstatus"
)

// unseenPause is the time between two looks at a Job that the informer cannot show.
const unseenPause = 2 * time.Second

// outcome is what a look for the remote Job found.
type outcome int

const (
	// unproven: nothing can be claimed yet.
	unproven outcome = iota
	// absent: the Job does not exist on its cluster, and no request of ours can
	// create it any more.
	absent
	// present: our Job exists.
	present
	// duplicate: another Job of ours has the name than the one that was observed: a
	// request that was late created it, or somebody who copied the first.
	duplicate
	// replaced: the same, but a Job that is not ours has the name.
	replaced
)

// absence is the result of proveAbsence.
type absence struct {
	outcome outcome
	job     *batchv1.Job  // when present or duplicate
	reason  string        // when unproven
	why     string        // when unproven
	after   time.Duration // when unproven: when to look again; 0 on a change
}

// proveAbsence looks for the remote Job at the target itself.
func (r *run) proveAbsence(ctx context.Context) (absence, error) {
	if r.lease == nil {
		return absence{reason: r.ContactReason, why: decision.DecideFailover(r.Snapshot, decision.Action{Message: r.ContactMessage}).Message}, nil
	}
	verdict := absence{outcome: absent}
	job, err := r.lease.GetJob(ctx, r.Intent.Namespace, r.Intent.JobName)
	switch {
	case err == nil:
		verdict = absence{outcome: r.whose(job), job: job}
	case !decision.IsAPIServerNotFound(err):
		return absence{}, &targetError{doing: "looking for the remote Job", err: err}
	}
	if verdict.outcome == present {
		return verdict, nil
	}
	if why, err := r.whyAnotherCluster(ctx); why != "" || err != nil {
		return absence{reason: v1alpha1.ReasonClusterNotReady, why: why, after: decision.InformerGrace}, err
	}
	if verdict.outcome == duplicate {
		return verdict, nil
	}
	if left := r.RequestsInFlight(); left > 0 {
		return absence{reason: v1alpha1.ReasonCreating, why: "A request to create the Job may still be under way.", after: left}, nil
	}
	return verdict, nil
}

// whyAnotherCluster makes sure which cluster says that the Job is not there; the words
// are empty when it is the right one. Nobody is asked if that one has accepted the
// Job's deletion, in the foreground: there it goes with its Pods, whoever answers now.
func (r *run) whyAnotherCluster(ctx context.Context) (string, error) {
	if r.Memory.DeletedUID != "" && r.Memory.DeletedUID == r.ObservedUID() {
		return "", nil
	}
	uid, err := r.lease.ReadClusterUID(ctx)
	if err != nil {
		return "", &targetError{doing: "making sure which cluster says that the Job is not there", err: err}
	}
	if uid != r.Intent.ClusterUID {
		return fmt.Sprintf("The run is bound to the cluster with UID %s, but the one with UID %s answers.", r.Intent.ClusterUID, uid), nil
	}
	return "", nil
}

// whose tells whose the Job is that has our name: by the UID that was observed, else by
// its labels or, should somebody have taken those off, by those of its Pods.
func (r *run) whose(job *batchv1.Job) outcome {
	known, hub := r.ObservedUID(), job.Labels[v1alpha1.LabelHub]
	ours := jobspec.Owns(r.HubID, r.Job, job.Labels) || ((hub == "" || hub == r.HubID) && jobspec.Owns(r.HubID, r.Job, job.Spec.Template.Labels))
	switch {
	case job.UID == known || (known == "" && ours):
		return present
	case ours:
		return duplicate
	default:
		return replaced
	}
}

// notAbsent goes on with a run whose Job could not be proven absent: it exists
// after all, or nothing can be said yet.
func (r *run) notAbsent(ctx context.Context, verdict absence) (time.Duration, error) {
	switch verdict.outcome {
	case present:
		r.found(verdict.job)
		return r.recover(ctx, verdict.job)
	case replaced, duplicate:
		r.failNameConflict()
	case unproven, absent:
		r.writer.Waiting(verdict.reason, verdict.why)
	}
	return verdict.after, nil
}

// confirmLoss finds out what became of a Job that was observed and is not in view.
func (r *run) confirmLoss(ctx context.Context) (time.Duration, error) {
	if gone := r.Memory.Gone; gone != nil {
		r.writer.Found(gone) // for the next process
	}
	verdict, err := r.proveAbsence(ctx)
	if err != nil {
		return 0, err
	}
	switch verdict.outcome {
	case absent, replaced:
		return r.lost(ctx)
	case duplicate:
		r.writer.NotSynced(r.lossReason(v1alpha1.ReasonCreating), fmt.Sprintf(
			"Job %s/%s was deleted on the cluster, and another one of this run has its name; that one is deleted.", r.Intent.Namespace, r.Intent.JobName))
		if verdict.job.DeletionTimestamp.IsZero() {
			_, err = r.deleteRemote(ctx, verdict.job.UID)
		}
		return unseenPause, err
	case present:
		return r.recover(ctx, verdict.job)
	case unproven:
		r.writer.NotSynced(r.lossReason(verdict.reason), verdict.why)
	}
	return verdict.after, nil
}

// lossReason is the reason to tell while a loss is being proven: that of a run which is
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
	case absent, replaced:
		if len(r.Pods) > 0 {
			return r.deletePods(ctx)
		}
		return 0, r.release(ctx)
	case present, duplicate:
		if verdict.job.DeletionTimestamp.IsZero() {
			_, err = r.deleteRemote(ctx, verdict.job.UID)
		}
		// A Job that lost its labels is not in view: nobody will tell of its end.
		return unseenPause, err
	case unproven:
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
	if !jobspec.Owns(r.HubID, r.Job, job.Labels) {
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
