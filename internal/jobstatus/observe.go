package jobstatus

import (
	"regexp"
	"slices"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

const (
	// maxConditionMessage bounds a condition's message, in bytes. The API takes 32768, but all of
	// a status together has to fit into the object beside the template.
	maxConditionMessage = 4096
	// maxIndexes is the API's bound on a list of indexes, in bytes.
	maxIndexes = 16384
)

// Observe records the remote Job and its Pods: of those that are given, the ones that the
// Job controls. Once the status is terminal it changes nothing.
func (w *Writer) Observe(remote *batchv1.Job, pods []*corev1.Pod) {
	status := &w.job.Status
	if Finished(status) {
		return
	}
	w.observed = true
	pods = controlled(remote, pods)
	status.JobRef = v1alpha1.JobReference{Namespace: remote.Namespace, Name: remote.Name, UID: string(remote.UID)}
	status.Active, status.Ready = count(remote.Status.Active), count(ready(pods))
	status.Succeeded, status.Failed = count(remote.Status.Succeeded), count(remote.Status.Failed)
	status.CompletedIndexes = indexes(remote.Status.CompletedIndexes)
	status.FailedIndexes = ""
	if remote.Status.FailedIndexes != nil {
		status.FailedIndexes = indexes(*remote.Status.FailedIndexes)
	}
	status.StartTime = remote.Status.StartTime

	w.observeSuspension(remote)
	if started(remote, pods) || Started(status) {
		w.set(v1alpha1.ConditionDispatched, metav1.ConditionTrue, v1alpha1.ReasonStarted, "A Pod of the remote Job has started.")
	} else {
		w.set(v1alpha1.ConditionDispatched, metav1.ConditionTrue, v1alpha1.ReasonCreated, w.created())
	}
	w.Synced()
	still, standing := Standstill(remote, pods)
	switch {
	case Phase(status) == v1alpha1.PooledJobSuspended:
		status.Result = v1alpha1.Result{}
	case explains(w.trouble, still, standing):
		if status.Result.Reason != w.trouble.Reason || status.Result.PodName != w.trouble.PodName {
			status.Result = w.trouble // else its words stand while the reason does
		}
	default:
		status.Result = waitingResult(remote, pods, status.Result)
	}
	w.observeEnd(remote, pods)
}

// created returns the condition that the Job exists, with the warnings of the target. What was said of that
// stands: the process that knew may be gone.
func (w *Writer) created() string {
	const words = "The remote Job exists; none of its Pods has started."
	said := meta.FindStatusCondition(w.job.Status.Conditions, v1alpha1.ConditionDispatched)
	if w.warned == "" && said != nil && said.Reason == v1alpha1.ReasonCreated && strings.HasPrefix(said.Message, words) {
		return said.Message
	}
	return words + Truncate(w.warned, maxWarned)
}

// maxWarned is how much is passed on of what the target warned of, in bytes.
const maxWarned = 2048

// observeSuspension records whether the Job is suspended, once it was.
func (w *Writer) observeSuspension(remote *batchv1.Job) {
	for _, c := range remote.Status.Conditions {
		switch {
		case c.Type != batchv1.JobSuspended:
		case c.Status == corev1.ConditionTrue:
			w.set(v1alpha1.ConditionSuspended, metav1.ConditionTrue, v1alpha1.ReasonSuspended, "The remote Job is suspended.")
		case meta.FindStatusCondition(w.job.Status.Conditions, v1alpha1.ConditionSuspended) != nil:
			w.set(v1alpha1.ConditionSuspended, metav1.ConditionFalse, v1alpha1.ReasonResumed, "The remote Job was resumed.")
		}
	}
}

// indexes returns a list of indexes within the API's bound.
func indexes(list string) string {
	list = strings.ToValidUTF8(list, "\uFFFD")
	if len(list) <= maxIndexes {
		return list
	}
	return list[:strings.LastIndexByte(list[:maxIndexes-len("...")], ',')+1] + "..."
}

// observeEnd records the remote Job's own verdict, if it has one.
func (w *Writer) observeEnd(remote *batchv1.Job, pods []*corev1.Pod) {
	verdict := Verdict(remote)
	if verdict == nil {
		return
	}
	if EndedByDeletion(remote) {
		w.failDeleted()
		return
	}
	status, cancelled := &w.job.Status, w.wasCancelled(remote, verdict)
	status.Result = resultOf(remote, pods, cancelled, status.Result)
	status.CompletionTime = remote.Status.CompletionTime
	kind := v1alpha1.ConditionComplete
	if verdict.Type == batchv1.JobFailed {
		kind = v1alpha1.ConditionFailed
		status.CompletionTime = nil
		if at := verdict.LastTransitionTime; !at.IsZero() {
			status.CompletionTime = &at
		}
	}
	reason, message := conditionReason(verdict), verdict.Message
	if cancelled {
		reason, message = v1alpha1.ReasonCancelled, "The run was stopped because of spec.cancel."
	}
	w.set(kind, metav1.ConditionTrue, reason, message)
}

// failDeleted ends a run whose Job was deleted before it had ended. All its Pods have stopped: it
// has a verdict.
func (w *Writer) failDeleted() {
	if w.job.Spec.Cancel != nil && *w.job.Spec.Cancel {
		w.Fail(v1alpha1.ReasonCancelled, "The run was cancelled, and its Job was deleted.")
		return
	}
	w.Fail(v1alpha1.ReasonRemoteJobDeleted, "The deletion of the Job on the cluster began before it had finished. It is not run again.")
}

// wasCancelled reports whether a Job failed because the run was cancelled: then its
// deadline was set to 0, and is what it failed by.
func (w *Writer) wasCancelled(remote *batchv1.Job, verdict *batchv1.JobCondition) bool {
	deadline := remote.Spec.ActiveDeadlineSeconds
	return w.job.Spec.Cancel != nil && *w.job.Spec.Cancel && deadline != nil && *deadline == 0 &&
		verdict.Type == batchv1.JobFailed && verdict.Reason == batchv1.JobReasonDeadlineExceeded
}

// Verdict returns the terminal condition of a Job, or nil while it has none.
func Verdict(remote *batchv1.Job) *batchv1.JobCondition {
	for i := range remote.Status.Conditions {
		c := &remote.Status.Conditions[i]
		if c.Status == corev1.ConditionTrue && (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) {
			return c
		}
	}
	return nil
}

// EndedByDeletion reports whether a Job has a verdict that is a consequence of its deletion: its
// Pods were killed, which the Job controller counts as failures. (Times of one second have no order; then the verdict stands.)
func EndedByDeletion(remote *batchv1.Job) bool {
	verdict := Verdict(remote)
	if verdict == nil || verdict.Type != batchv1.JobFailed || remote.DeletionTimestamp == nil {
		return false
	}
	decided := decidedAt(remote, verdict)
	return remote.DeletionTimestamp.Before(&decided)
}

// decidedAt returns when the Job controller decided that a Job fails: before it has stopped the Pods.
func decidedAt(remote *batchv1.Job, verdict *batchv1.JobCondition) metav1.Time {
	decided := verdict.LastTransitionTime
	for _, c := range remote.Status.Conditions {
		if c.Type == batchv1.JobFailureTarget && c.Status == corev1.ConditionTrue && c.LastTransitionTime.Before(&decided) {
			decided = c.LastTransitionTime
		}
	}
	return decided
}

// decisions are the conditions by which a Job controller says that it has decided.
var decisions = []batchv1.JobConditionType{batchv1.JobComplete, batchv1.JobFailed, batchv1.JobSuccessCriteriaMet, batchv1.JobFailureTarget}

// Decided reports whether the Job controller has decided how a Job ends: it has a verdict, or will
// have it when its Pods have stopped.
func Decided(remote *batchv1.Job) bool {
	return slices.ContainsFunc(remote.Status.Conditions, func(c batchv1.JobCondition) bool {
		return c.Status == corev1.ConditionTrue && slices.Contains(decisions, c.Type)
	})
}

// ResultKnown reports whether the result of a Job that has ended follows from these Pods:
// all that the Job has counted as failed are there, and have ended. When it cannot, the Pods
// may be late rather than gone: ask the target before Observe.
func ResultKnown(remote *batchv1.Job, pods []*corev1.Pod) bool {
	verdict := Verdict(remote)
	if verdict == nil {
		return true
	}
	j := judge(remote, pods)
	if verdict.Type == batchv1.JobFailed {
		late := slices.ContainsFunc(j.pods, func(pod *corev1.Pod) bool { return !ended(pod) && !leftUnscheduled(pod) })
		if late || j.missing > 0 {
			return false
		}
	}
	return j.result().Reason != v1alpha1.ResultPodGone
}

// started reports whether a container of the Job has run, by the Pods or by the Job's own
// counters. That Pods have failed is no proof: the kubelet fails some that never ran.
func started(remote *batchv1.Job, pods []*corev1.Pod) bool {
	return remote.Status.Succeeded > 0 || (remote.Status.Ready != nil && *remote.Status.Ready > 0) || slices.ContainsFunc(pods, hasStarted)
}

// ready counts the Pods that are ready. The Job's own counter follows a second
// later, which would be one more change to write.
func ready(pods []*corev1.Pod) int32 {
	var n int32
	for _, pod := range pods {
		for _, c := range pod.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue && !ended(pod) {
				n++
			}
		}
	}
	return n
}

// count returns a counter within the API's bounds, whatever the target says.
func count(n int32) *int32 {
	n = max(n, 0)
	return &n
}

// validReason and maxReason are metav1.Condition's bounds on a reason.
var validReason = regexp.MustCompile(`^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$`)

const maxReason = 1024

// conditionReason returns the verdict's own reason, if our API takes it.
func conditionReason(verdict *batchv1.JobCondition) string {
	if len(verdict.Reason) <= maxReason && validReason.MatchString(verdict.Reason) {
		return verdict.Reason
	}
	return string(verdict.Type)
}

func reasonOr(reason, fallback string) string {
	if reason != "" {
		return reason
	}
	return fallback
}
