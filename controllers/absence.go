package controllers

import (
	"context"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/jobspec"
	"github.com/pooledjob/pooledjob/internal/jobstatus"
)

// requestLifetime is how long a request whose outcome we never heard may still take
// effect: the API server ends a request after 60 s, and the way there takes time.
const requestLifetime = 75 * time.Second

// outcome is what a look for the remote Job found.
type outcome int

const (
	// unproven: nothing can be claimed yet.
	unproven outcome = iota
	// absent: the Job does not exist, and no request of ours can create it any
	// more.
	absent
	// present: our Job exists.
	present
	// replaced: a Job that is not ours has the name.
	replaced
)

// absence is the result of proveAbsence.
type absence struct {
	outcome outcome
	job     *batchv1.Job  // when present
	why     string        // when unproven
	after   time.Duration // when unproven: when to look again; 0 on a change
}

// proveAbsence looks for the remote Job at the target itself.
func (r *run) proveAbsence(ctx context.Context) (absence, error) {
	if r.lease == nil {
		return absence{why: r.notReady}, nil
	}
	job, err := r.lease.GetJob(ctx, r.intent.Namespace, r.intent.JobName)
	switch {
	case err == nil && r.isOurs(job):
		return absence{outcome: present, job: job}, nil
	case err == nil:
		return absence{outcome: replaced}, nil
	case !isAPIServerNotFound(err):
		return absence{}, fmt.Errorf("looking for the remote Job: %w", err)
	}
	uid, err := r.lease.ReadClusterUID(ctx)
	if err != nil {
		return absence{}, fmt.Errorf("making sure which cluster says that the Job is not there: %w", err)
	}
	if uid != r.intent.ClusterUID {
		return absence{why: fmt.Sprintf("The run is bound to the cluster with UID %s, but the one with UID %s answers.", r.intent.ClusterUID, uid)}, nil
	}
	if left := r.requestsInFlight(); left > 0 {
		return absence{why: "A request to create the Job may still be under way.", after: left}, nil
	}
	return absence{outcome: absent}, nil
}

// isOurs tells whether a Job that has our name is ours, by its labels or, should
// somebody have taken those off, by the UID that was observed.
func (r *run) isOurs(job *batchv1.Job) bool {
	if known := r.observedUID(); known != "" {
		return job.UID == known
	}
	return jobspec.Owns(r.HubID, r.job, job.Labels)
}

// requestsInFlight is how much longer a request to create the Job, of ours or of a
// process before us, may take effect.
func (r *run) requestsInFlight() time.Duration {
	if jobstatus.Finished(&r.job.Status) {
		return 0 // no run ends while one is
	}
	since := r.memory.unknownSince
	if !r.memory.current && !r.wasObserved() {
		since = r.started
	}
	if since.IsZero() {
		return 0
	}
	return since.Add(requestLifetime).Sub(r.now)
}

// notAbsent goes on with a run whose Job could not be proven absent: it exists
// after all, or nothing can be said yet.
func (r *run) notAbsent(verdict absence, err error) (time.Duration, error) {
	if err != nil {
		return 0, err
	}
	switch verdict.outcome {
	case present:
		r.accept()
		r.found(verdict.job)
	case replaced:
		r.writer.Fail(v1alpha1.ReasonNameConflict, fmt.Sprintf(
			"Job %s/%s exists on the cluster and does not belong to this PooledJob; it was left alone.", r.intent.Namespace, r.intent.JobName))
	case unproven, absent:
		r.writer.Waiting(v1alpha1.ReasonCreating, verdict.why)
	}
	return verdict.after, nil
}

// confirmLoss finds out what became of a Job that was observed and is not in view.
func (r *run) confirmLoss(ctx context.Context) (time.Duration, error) {
	verdict, err := r.proveAbsence(ctx)
	if err != nil {
		return 0, err
	}
	switch verdict.outcome {
	case absent, replaced:
		r.writer.Fail(v1alpha1.ReasonRemoteJobDeleted, fmt.Sprintf(
			"Job %s/%s was deleted on the cluster before it had finished. It is not run again.", r.intent.Namespace, r.intent.JobName))
		return 0, nil
	case present:
		return 0, r.relabel(ctx, verdict.job)
	case unproven:
		r.writer.NotSynced(v1alpha1.ReasonClusterNotReady, verdict.why)
	}
	return verdict.after, nil
}

// confirmGone lets a deleted PooledJob go if its Job is proven gone, and deletes
// the Job if it is there after all.
func (r *run) confirmGone(ctx context.Context) (time.Duration, error) {
	verdict, err := r.proveAbsence(ctx)
	if err != nil {
		return 0, err
	}
	switch verdict.outcome {
	case absent, replaced:
		return 0, r.release(ctx)
	case present:
		if verdict.job.DeletionTimestamp.IsZero() {
			err = r.deleteRemote(ctx, verdict.job.UID)
		}
		// A Job that lost its labels is not in view: nobody will tell of its end.
		return time.Second, err
	case unproven:
		r.writer.Deleting(v1alpha1.ReasonClusterNotReady, verdict.why)
	}
	return verdict.after, nil
}

// relabel puts our labels back on a Job that lost them, so that the informer shows
// it again.
func (r *run) relabel(ctx context.Context, job *batchv1.Job) error {
	if jobspec.Owns(r.HubID, r.job, job.Labels) {
		return nil // the informer is late
	}
	err := r.lease.LabelJob(ctx, job.Namespace, job.Name, job.UID, jobspec.Labels(r.HubID, r.job))
	if err != nil {
		return fmt.Errorf("putting the labels back on the remote Job: %w", err)
	}
	return nil
}
