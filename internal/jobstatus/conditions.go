package jobstatus

import (
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// Writer changes the status of one PooledJob in memory. It stamps conditions with
// the object's generation and with the time that it was made with.
type Writer struct {
	job    *v1alpha1.PooledJob
	now    metav1.Time
	before []metav1.Condition
	// warned, trouble and unfulfilled are what Warned, Explain and Unfulfilled said.
	warned      string
	trouble     v1alpha1.Result
	unfulfilled obstacle
	// observed is true if the Job was looked at, unsent what Unsent said.
	observed, unsent bool
	suspending       bool // what Suspending said
}

// NewWriter returns a Writer for job's status at the given time.
func NewWriter(job *v1alpha1.PooledJob, now time.Time) *Writer {
	return &Writer{job: job, now: metav1.NewTime(now), before: slices.Clone(job.Status.Conditions)}
}

// Warned has the next Observe say what the target's API server warned of when it took the Job.
func (w *Writer) Warned(warnings []string) {
	if len(warnings) > 0 {
		w.warned = " The cluster warned: " + strings.Join(warnings, "; ")
	}
}

// Explain has the next Observe say why the run stands still, if it does; see Standstill.
func (w *Writer) Explain(trouble v1alpha1.Result) {
	trouble.Reason, trouble.Message = oneWord(trouble.Reason), Truncate(trouble.Message, maxResultMessage)
	trouble.PodName = Truncate(trouble.PodName, maxPodName)
	w.trouble = trouble
}

// Finished reports whether a status is terminal.
func Finished(status *v1alpha1.PooledJobStatus) bool {
	return meta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionComplete) ||
		meta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionFailed)
}

// Dispatched reports whether the remote Job was seen to exist.
func Dispatched(status *v1alpha1.PooledJobStatus) bool {
	return meta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionDispatched)
}

// Started reports whether a Pod of the present attempt was seen to have started.
func Started(status *v1alpha1.PooledJobStatus) bool {
	c := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionDispatched)
	return c != nil && c.Status == metav1.ConditionTrue && c.Reason == v1alpha1.ReasonStarted
}

// Found records that the remote Job exists or has existed.
func (w *Writer) Found(remote *batchv1.Job) {
	if ref := &w.job.Status.JobRef; !Finished(&w.job.Status) && ref.UID == "" {
		*ref = v1alpha1.JobReference{Namespace: remote.Namespace, Name: remote.Name, UID: string(remote.UID)}
	}
}

// Accepted records whether the run is permitted.
func (w *Writer) Accepted(status metav1.ConditionStatus, reason, message string) {
	w.set(v1alpha1.ConditionAccepted, status, reason, message)
}

// Waiting records why the remote Job could not be created yet.
func (w *Writer) Waiting(reason, message string) {
	if !Dispatched(&w.job.Status) {
		w.set(v1alpha1.ConditionDispatched, metav1.ConditionFalse, reason, message)
	}
}

// Synced records that the status is kept up to date.
func (w *Writer) Synced() {
	w.set(v1alpha1.ConditionSynced, metav1.ConditionTrue, v1alpha1.ReasonSynced, "The status follows the remote Job.")
}

// NotSynced records that the status may be out of date, and why. The phase
// stands.
func (w *Writer) NotSynced(reason, message string) {
	w.set(v1alpha1.ConditionSynced, metav1.ConditionUnknown, reason, message)
}

// Fail ends the run without the remote Job's own verdict. The caller must have
// proof that no remote Job exists or runs, and none will.
func (w *Writer) Fail(reason, message string) {
	if status := &w.job.Status; !Finished(status) && status.JobRef.UID != "" {
		status.Active, status.Ready, status.Result = count(0), count(0), v1alpha1.Result{}
	}
	w.set(v1alpha1.ConditionFailed, metav1.ConditionTrue, reason, message)
}

// Move ends an attempt without ending the run: what was known of its Job is
// forgotten, and the run may be bound to another cluster. The caller must have proof
// that the Job does not exist and never will, or a person's word for it.
func (w *Writer) Move(message string) {
	status := &w.job.Status
	if Finished(status) {
		return
	}
	*status = v1alpha1.PooledJobStatus{
		ObservedGeneration: status.ObservedGeneration, Conditions: status.Conditions, Attempt: status.Attempt + 1,
	}
	for kind, words := range map[string]string{
		v1alpha1.ConditionSynced:    "The run has no remote Job on another cluster yet.",
		v1alpha1.ConditionSuspended: "The remote Job was suspended on an earlier cluster.",
	} {
		if meta.FindStatusCondition(status.Conditions, kind) != nil {
			w.set(kind, metav1.ConditionFalse, v1alpha1.ReasonFailedOver, words)
		}
	}
	w.set(v1alpha1.ConditionDispatched, metav1.ConditionFalse, v1alpha1.ReasonFailedOver, message)
}

// FinishedAt returns when a status became terminal, by the manager's clock; ok is false
// when it is not.
func FinishedAt(status *v1alpha1.PooledJobStatus) (at time.Time, ok bool) {
	for _, kind := range []string{v1alpha1.ConditionComplete, v1alpha1.ConditionFailed} {
		if c := meta.FindStatusCondition(status.Conditions, kind); c != nil && c.Status == metav1.ConditionTrue {
			return c.LastTransitionTime.Time, true
		}
	}
	return time.Time{}, false
}

// Deleting records why a PooledJob that is being deleted is still there. It says
// nothing about the run, so it may change after the end.
func (w *Writer) Deleting(reason, message string) {
	w.write(v1alpha1.ConditionDeleting, metav1.ConditionTrue, reason, message)
}

// Unfulfilled records that the target did not make a change that was asked for. What is known of
// the run is not touched by that.
func (w *Writer) Unfulfilled(reason, message string) { w.unfulfilled = obstacle{reason, message} }

// Suspending records that the Job is to be suspended, and that this is under way.
func (w *Writer) Suspending() { w.suspending = true }

// Unsent records that a change was not asked for, because no request could be sent: what was said of
// it before stands.
func (w *Writer) Unsent() { w.unsent = true }

// set changes one condition of a status that is not terminal, and what sums the status up.
func (w *Writer) set(kind string, status metav1.ConditionStatus, reason, message string) {
	if Finished(&w.job.Status) {
		return
	}
	w.write(kind, status, reason, message)
	w.job.Status.Phase = Phase(&w.job.Status)
}

func (w *Writer) write(kind string, status metav1.ConditionStatus, reason, message string) {
	meta.SetStatusCondition(&w.job.Status.Conditions, metav1.Condition{
		Type:               kind,
		Status:             status,
		Reason:             reason,
		Message:            Truncate(message, maxConditionMessage),
		ObservedGeneration: w.job.Generation,
		LastTransitionTime: w.now,
	})
	w.keepTransition(kind)
}

// keepTransition gives a condition that has the status of before its time of before: it
// may have had another in between, here, which nobody has seen.
func (w *Writer) keepTransition(kind string) {
	before, now := meta.FindStatusCondition(w.before, kind), meta.FindStatusCondition(w.job.Status.Conditions, kind)
	if before != nil && before.Status == now.Status {
		now.LastTransitionTime = before.LastTransitionTime
	}
}
