package jobstatus

import (
	"cmp"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// maxSummary bounds the message of a condition that repeats another, in bytes.
const maxSummary = 1024

// obstacle is what keeps a run from what was asked for.
type obstacle struct{ reason, message string }

// Phase derives the phase from the conditions.
func Phase(status *v1alpha1.PooledJobStatus) v1alpha1.PooledJobPhase {
	isTrue := func(kind string) bool { return meta.IsStatusConditionTrue(status.Conditions, kind) }
	switch {
	case isTrue(v1alpha1.ConditionComplete):
		return v1alpha1.PooledJobSucceeded
	case isTrue(v1alpha1.ConditionFailed):
		return v1alpha1.PooledJobFailed
	case isTrue(v1alpha1.ConditionSuspended):
		return v1alpha1.PooledJobSuspended
	case Started(status):
		return v1alpha1.PooledJobRunning
	default:
		return v1alpha1.PooledJobPending
	}
}

// Seal brings what sums the status up in line with the rest of it, and with the object's
// generation: phase, reason, and the conditions Reconciling and Stalled. It is the last that is
// done to a status before it is written, and changes nothing when nothing has changed. It is done
// to a terminal status, too, for its observedGeneration follows later edits.
func (w *Writer) Seal() {
	status := &w.job.Status
	if len(status.Conditions) == 0 {
		return
	}
	waits := w.waitsFor()
	w.sealHealth(waits)
	status.Phase, status.Reason = Phase(status), reasonOf(status, waits)
	if !w.job.DeletionTimestamp.IsZero() {
		return // which is a new generation by itself, and nothing to obey
	}
	status.ObservedGeneration = w.job.Generation
	for i := range status.Conditions {
		status.Conditions[i].ObservedGeneration = w.job.Generation
	}
}

// waitsFor returns what a run that has not ended waits for; none if it is what was asked for.
func (w *Writer) waitsFor() obstacle {
	status := &w.job.Status
	if Finished(status) {
		return obstacle{}
	}
	said := func(kind string, is metav1.ConditionStatus) obstacle {
		if c := meta.FindStatusCondition(status.Conditions, kind); c != nil && c.Status == is {
			return obstacle{c.Reason, c.Message}
		}
		return obstacle{}
	}
	var undispatched, cancelling, suspending obstacle
	if !Dispatched(status) {
		undispatched = obstacle{v1alpha1.ReasonCreating, "The remote Job is being created."}
	}
	if w.job.Spec.Cancel != nil && *w.job.Spec.Cancel {
		cancelling = obstacle{v1alpha1.ReasonCancelling, "The run is being stopped because of spec.cancel."}
	}
	if w.suspending && Phase(status) != v1alpha1.PooledJobSuspended {
		suspending = obstacle{v1alpha1.ReasonSuspending, "The run is being suspended because of spec.suspend."}
	}
	return cmp.Or(
		said(v1alpha1.ConditionSynced, metav1.ConditionUnknown),
		said(v1alpha1.ConditionAccepted, metav1.ConditionFalse),
		said(v1alpha1.ConditionDispatched, metav1.ConditionFalse),
		undispatched,
		w.refused(),
		cancelling,
		suspending,
	)
}

// refused returns the change that the target did not make. What was said of one stands until the Job
// was looked at again, or the request was sent again.
func (w *Writer) refused() obstacle {
	before := meta.FindStatusCondition(w.before, v1alpha1.ConditionReconciling)
	if w.unfulfilled != (obstacle{}) || (w.observed && !w.unsent) || before == nil || before.Status != metav1.ConditionTrue {
		return w.unfulfilled
	}
	untold := []string{v1alpha1.ReasonChangeRefused, v1alpha1.ReasonTargetError, v1alpha1.ReasonSuspending}
	if slices.Contains(untold, before.Reason) && (!w.observed || before.Reason != v1alpha1.ReasonSuspending) {
		return obstacle{before.Reason, before.Message}
	}
	return obstacle{}
}

// sealHealth sets the conditions Reconciling and Stalled, once they have something to say.
func (w *Writer) sealHealth(waits obstacle) {
	conditions := w.job.Status.Conditions
	switch {
	case waits.reason != "":
		w.health(v1alpha1.ConditionReconciling, metav1.ConditionTrue, waits)
	case meta.IsStatusConditionTrue(conditions, v1alpha1.ConditionReconciling):
		w.health(v1alpha1.ConditionReconciling, metav1.ConditionFalse, obstacle{v1alpha1.ReasonReconciled, "Nothing is waited for."})
	}
	if failed := meta.FindStatusCondition(conditions, v1alpha1.ConditionFailed); failed != nil && failed.Status == metav1.ConditionTrue {
		w.health(v1alpha1.ConditionStalled, metav1.ConditionTrue, obstacle{failed.Reason, failed.Message})
	}
}

// health sets a condition if it is to say something else: its generation alone is no reason to.
func (w *Writer) health(kind string, status metav1.ConditionStatus, why obstacle) {
	why.message = Truncate(why.message, maxSummary)
	is := meta.FindStatusCondition(w.job.Status.Conditions, kind)
	if is == nil || is.Status != status || is.Reason != why.reason || is.Message != why.message {
		w.write(kind, status, why.reason, why.message)
	}
}

// countedFailures are the reasons of a Job that failed because its containers did: how they did
// says more.
var countedFailures = []string{
	batchv1.JobReasonBackoffLimitExceeded, batchv1.JobReasonPodFailurePolicy,
	batchv1.JobReasonFailedIndexes, batchv1.JobReasonMaxFailedIndexesExceeded,
}

// reasonOf returns the reason that a person looks for first.
func reasonOf(status *v1alpha1.PooledJobStatus, waits obstacle) string {
	find := func(kind string) *metav1.Condition {
		if c := meta.FindStatusCondition(status.Conditions, kind); c != nil && c.Status == metav1.ConditionTrue {
			return c
		}
		return nil
	}
	result := status.Result.Reason
	if deleting := find(v1alpha1.ConditionDeleting); deleting != nil {
		return deleting.Reason
	}
	if failed := find(v1alpha1.ConditionFailed); failed != nil {
		untold := result == "" || result == v1alpha1.ResultPodGone || result == v1alpha1.ResultAmbiguous ||
			(status.Result.ExitCode != nil && *status.Result.ExitCode == 0) // it was stopped, and ended well
		if untold || !slices.Contains(countedFailures, failed.Reason) {
			return failed.Reason
		}
		return result
	}
	if complete := find(v1alpha1.ConditionComplete); complete != nil {
		return cmp.Or(result, complete.Reason)
	}
	if find(v1alpha1.ConditionSuspended) != nil {
		result = v1alpha1.ReasonSuspended
	}
	reason := cmp.Or(waits.reason, result)
	if dispatched := find(v1alpha1.ConditionDispatched); dispatched != nil && reason == "" {
		return dispatched.Reason
	}
	return reason
}
