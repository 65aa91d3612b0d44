package jobstatus

import (
	"regexp"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// maxConditionMessage is the API's bound on a condition's message, in bytes.
const maxConditionMessage = 32768

// Observe records the remote Job and its Pods. Once the status is terminal it
// changes nothing.
func (w *Writer) Observe(remote *batchv1.Job, pods []*corev1.Pod) {
	status := &w.job.Status
	if Finished(status) {
		return
	}
	status.JobRef = v1alpha1.JobReference{Namespace: remote.Namespace, Name: remote.Name, UID: string(remote.UID)}
	status.Active, status.Ready = count(remote.Status.Active), count(ready(pods))
	status.Succeeded, status.Failed = count(remote.Status.Succeeded), count(remote.Status.Failed)
	status.StartTime = remote.Status.StartTime

	if started(remote, pods) || Phase(status) == v1alpha1.PooledJobRunning {
		w.set(v1alpha1.ConditionDispatched, metav1.ConditionTrue, v1alpha1.ReasonStarted, "A Pod of the remote Job has started.")
	} else {
		w.set(v1alpha1.ConditionDispatched, metav1.ConditionTrue, v1alpha1.ReasonCreated, "The remote Job exists; none of its Pods has started.")
	}
	w.Synced()
	w.observeEnd(remote, pods)
}

// observeEnd records the remote Job's own verdict, if it has one.
func (w *Writer) observeEnd(remote *batchv1.Job, pods []*corev1.Pod) {
	verdict := Verdict(remote)
	if verdict == nil {
		return
	}
	status := &w.job.Status
	status.Result = resultOf(remote, pods)
	status.CompletionTime = remote.Status.CompletionTime
	kind := v1alpha1.ConditionComplete
	if verdict.Type == batchv1.JobFailed {
		kind = v1alpha1.ConditionFailed
		status.CompletionTime = &verdict.LastTransitionTime
	}
	w.set(kind, metav1.ConditionTrue, conditionReason(verdict), verdict.Message)
}

// Verdict is the terminal condition of a Job, or nil while it has none.
func Verdict(remote *batchv1.Job) *batchv1.JobCondition {
	for i := range remote.Status.Conditions {
		c := &remote.Status.Conditions[i]
		if c.Status == corev1.ConditionTrue && (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) {
			return c
		}
	}
	return nil
}

// ResultKnown tells whether the result of a Job that has ended can be told from
// these Pods: all that decide who speaks for it are there, or no Pod ever ended.
// When it cannot, the Pods may be late rather than gone: ask the target before
// Observe.
func ResultKnown(remote *batchv1.Job, pods []*corev1.Pod) bool {
	verdict := Verdict(remote)
	if verdict == nil || !podsEnded(remote) {
		return true
	}
	needed := 1
	if verdict.Type == batchv1.JobFailed {
		needed = max(1, min(int(remote.Status.Failed), backoffLimit(remote)+1))
	}
	return len(candidates(remote, pods)) >= needed
}

// started tells whether a Pod has run, by the Pods or by the Job's own counters.
func started(remote *batchv1.Job, pods []*corev1.Pod) bool {
	if podsEnded(remote) {
		return true
	}
	for _, pod := range pods {
		if pod.Status.Phase == corev1.PodRunning || ended(pod) {
			return true
		}
	}
	return false
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

func podsEnded(remote *batchv1.Job) bool {
	return remote.Status.Succeeded > 0 || remote.Status.Failed > 0
}

func ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// count is a counter within the API's bounds, whatever the target says.
func count(n int32) *int32 {
	n = max(n, 0)
	return &n
}

// validReason and maxReason are metav1.Condition's bounds on a reason.
var validReason = regexp.MustCompile(`^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$`)

const maxReason = 1024

// conditionReason is the verdict's own reason, if our API takes it.
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
