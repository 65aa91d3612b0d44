package pooledjob

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/controllers/pooledjob/decision"
	"github.com/pooledjob/pooledjob/internal/binding"
	"github.com/pooledjob/pooledjob/internal/connpool"
	"github.com/pooledjob/pooledjob/internal/jobspec"
	"github.com/pooledjob/pooledjob/internal/jobstatus"
)

// This file is about targets that delete finished Jobs: by a policy that sets their
// ttlSecondsAfterFinished. There a Job that is absent may have completed.

// tryFirst finds out whether the Job of an earlier request may have been created, have completed
// and have been deleted since: then there must not be another. The target says by a dry run
// what a Job would become there. ask is true if the Job may be created.
func (r *run) tryFirst(ctx context.Context, wanted *connpool.NewJob) (ask bool, after time.Duration, err error) {
	tried, err := r.lease.TryJob(ctx, *wanted)
	switch {
	case err == nil && r.Outlives(tried.Spec.TTLSecondsAfterFinished):
		return true, 0, nil
	case err == nil:
		after, err = r.endUnseen(ctx, deletesAfter(*tried.Spec.TTLSecondsAfterFinished))
	case wasNotSent(err):
	case apierrors.IsAlreadyExists(err):
		after, err = r.adopt(ctx)
	case isDryRunUnsupported(err):
		after, err = r.endUnseen(ctx, dryRunUnsupported(err))
	default:
		answer := decision.Classify(err)
		answer.Unknown = false // nothing is created by a dry run
		after, err = r.refused(ctx, answer)
	}
	return false, after, err
}

// mayHaveCompleted reports whether a run that is to end for a reason of its own may have had a Job
// that completed and was deleted since, and why. Where the target is not to be asked, or
// answers something else, the reason stands.
func (r *run) mayHaveCompleted(ctx context.Context, reason string) (unseen bool, why string, err error) {
	if r.Memory.Existed {
		return true, wasThere, nil
	}
	if r.lease == nil || r.WasObserved() || (reason != v1alpha1.ReasonCancelled && reason != v1alpha1.ReasonDispatchDeadlineExceeded) {
		return false, "", nil
	}
	wanted, release, _, err := r.buildJob(ctx)
	if wanted == nil {
		return false, "", cmp.Or(err, errLater)
	}
	defer release()
	tried, err := r.lease.TryJob(ctx, *wanted)
	switch {
	case err == nil && !r.Outlives(tried.Spec.TTLSecondsAfterFinished):
		return true, deletesAfter(*tried.Spec.TTLSecondsAfterFinished), nil
	case err != nil && isDryRunUnsupported(err):
		return true, dryRunUnsupported(err), nil
	case wasNotSent(err):
		return false, "", err // nothing was sent
	}
	return false, "", nil
}

// errLater is why a run is to be looked at again.
var errLater = errors.New("the template cannot be had now; the run is looked at again")

// wasThere is why a Job that is absent was the run's: its name is a hash that nobody else uses.
const wasThere = "the cluster had a Job of that name a moment before"

func dryRunUnsupported(err error) string {
	return "whether the cluster deletes finished Jobs cannot be asked: " + decision.Classify(err).Message
}

func deletesAfter(seconds int32) string {
	return fmt.Sprintf("the cluster deletes finished Jobs after %d seconds", seconds)
}

// isDryRunUnsupported reports whether a webhook has refused a request because it was a dry run.
func isDryRunUnsupported(err error) bool {
	return apierrors.IsBadRequest(err) && strings.Contains(err.Error(), "does not support dry run")
}

// endUnseen ends a run whose Job may have come and gone, once there certainly is none.
func (r *run) endUnseen(ctx context.Context, why string) (time.Duration, error) {
	verdict, err := r.proveAbsence(ctx)
	if err != nil {
		return 0, err
	}
	if verdict.outcome != binding.Absent {
		return r.notAbsent(ctx, verdict)
	}
	r.failUnseen(why)
	return 0, nil
}

func (r *run) failUnseen(why string) {
	r.writer.Fail(v1alpha1.ReasonRemoteJobEndUnknown, jobstatus.Truncate(fmt.Sprintf(
		"A request to create Job %s/%s was sent, and nobody saw its answer. The Job is not there, but may have completed and been deleted: %s. It is not run again.",
		r.Intent.Namespace, r.Intent.JobName, why), jobstatus.MaxEventNote))
}

// keepFinished has the target keep a Job when it has finished, until its run is deleted. A
// target that does not let it be is named on its ClusterConnection.
func (r *run) keepFinished(ctx context.Context, job *batchv1.Job) (after time.Duration, err error) {
	if left := r.Memory.TTLAskedAt.Add(decision.InformerGrace).Sub(r.Time); left > 0 {
		return left, nil // the watch may be late
	}
	if r.Memory.TTLKept {
		r.insists("it was changed back later")
		return 0, nil
	}
	kept, err := r.lease.PatchJob(ctx, job.Namespace, job.Name, jobspec.KeepPatch(job.UID))
	if wasNotSent(err) {
		return 0, err // nothing was sent
	}
	r.remember(func(m *decision.Memory) { m.TTLAskedAt, m.TTLKept = r.Time, err == nil && !jobspec.ExpiresSoon(kept) })
	var status apierrors.APIStatus
	switch {
	case r.Memory.TTLKept:
	case err == nil:
		r.insists(fmt.Sprintf("it is %d again", *kept.Spec.TTLSecondsAfterFinished))
	case errors.As(err, &status) && (apierrors.IsForbidden(err) || apierrors.IsInvalid(err) || apierrors.IsBadRequest(err)):
		r.insists(status.Status().Message)
	default:
		return decision.InformerGrace, nil // it may have ended, or the way is away
	}
	return 0, nil
}

// insists notes that the target does not let a Job be kept, and says so once for its
// ClusterConnection.
func (r *run) insists(words string) {
	r.remember(func(m *decision.Memory) { m.TTLRefused = true })
	if r.Connection == nil {
		return
	}
	if _, told := r.collecting.LoadOrStore(r.Cluster+"/"+r.Intent.ClusterUID, true); told {
		return
	}
	r.Recorder.Eventf(r.Connection, nil, corev1.EventTypeWarning, v1alpha1.ReasonFinishedJobsDeleted, "Dispatch", "%s", jobstatus.Truncate(fmt.Sprintf(
		"The cluster sets ttlSecondsAfterFinished of Jobs, and does not let the manager set it to %d: %s. A Job that finishes while the manager or the "+
			"way is away may be deleted before its end is seen; its run then ends with reason %s.",
		jobspec.KeptSeconds, words, v1alpha1.ReasonRemoteJobEndUnknown), jobstatus.MaxEventNote))
}
