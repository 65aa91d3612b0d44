package jobstatus

import (
	"cmp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

const (
	// maxResultMessage, maxResultReason and maxPodName are the API's bounds, in
	// bytes. The kubelet cuts a termination message at 4096 bytes, too.
	maxResultMessage = 4096
	maxResultReason  = 256
	maxPodName       = 253
	// defaultBackoffLimit is what the API server sets when a Job has none.
	defaultBackoffLimit = 6
)

// resultOf tells how a Job that has ended did so; nothing when no Pod ever ended.
func resultOf(remote *batchv1.Job, pods []*corev1.Pod) v1alpha1.Result {
	if pod := speaker(remote, pods); pod != nil {
		return podResult(pod)
	}
	if podsEnded(remote) {
		return v1alpha1.Result{Reason: v1alpha1.ResultPodGone}
	}
	return v1alpha1.Result{}
}

// speaker is the Pod that speaks for a Job that has ended; see the package's
// documentation.
func speaker(remote *batchv1.Job, pods []*corev1.Pod) *corev1.Pod {
	found := candidates(remote, pods)
	if len(found) == 0 {
		return nil
	}
	last := len(found) - 1
	if Verdict(remote).Type == batchv1.JobFailed {
		return found[min(last, backoffLimit(remote))]
	}
	return found[last]
}

// candidates are the Pods that ended as the Job did, each once, in the order of
// their ends.
func candidates(remote *batchv1.Job, pods []*corev1.Pod) []*corev1.Pod {
	verdict := Verdict(remote)
	if verdict == nil {
		return nil
	}
	phase := corev1.PodSucceeded
	if verdict.Type == batchv1.JobFailed {
		phase = corev1.PodFailed
	}
	var found []*corev1.Pod
	for _, pod := range pods {
		if pod.Status.Phase == phase {
			found = append(found, pod)
		}
	}
	slices.SortFunc(found, func(a, b *corev1.Pod) int {
		return cmp.Or(endTime(a).Compare(endTime(b)), cmp.Compare(a.Name, b.Name))
	})
	return slices.CompactFunc(found, func(a, b *corev1.Pod) bool { return a.Name == b.Name })
}

func backoffLimit(remote *batchv1.Job) int {
	if remote.Spec.BackoffLimit == nil {
		return defaultBackoffLimit
	}
	return int(*remote.Spec.BackoffLimit)
}

// endTime is when the last container of a Pod ended.
func endTime(pod *corev1.Pod) time.Time {
	var last time.Time
	for _, status := range containerStatuses(pod) {
		if t := status.State.Terminated; t != nil && t.FinishedAt.After(last) {
			last = t.FinishedAt.Time
		}
	}
	return last
}

func podResult(pod *corev1.Pod) v1alpha1.Result {
	result := v1alpha1.Result{
		PodName: Truncate(pod.Name, maxPodName),
		Reason:  Truncate(pod.Status.Reason, maxResultReason),
		Message: Truncate(pod.Status.Message, maxResultMessage),
	}
	t := speakingContainer(pod)
	if t == nil {
		return result // such as an evicted Pod, whose own reason stands
	}
	exitCode := t.ExitCode
	result.ExitCode = &exitCode
	if result.Reason == "" {
		result.Reason = Truncate(terminationReason(t), maxResultReason)
	}
	if t.Message != "" {
		result.Message = Truncate(t.Message, maxResultMessage)
	}
	return result
}

func terminationReason(t *corev1.ContainerStateTerminated) string {
	if t.ExitCode == 0 {
		return reasonOr(t.Reason, v1alpha1.ResultCompleted)
	}
	return reasonOr(t.Reason, v1alpha1.ResultError)
}

// speakingContainer is, of a failed Pod, the container that failed first, else the
// first one that is not an init container; nil when none has ended. (In a Pod
// that succeeded, a sidecar that was stopped at the end may have failed.)
func speakingContainer(pod *corev1.Pod) *corev1.ContainerStateTerminated {
	var failed *corev1.ContainerStateTerminated
	for _, status := range containerStatuses(pod) {
		if pod.Status.Phase != corev1.PodFailed {
			break
		}
		t := status.State.Terminated
		if t != nil && t.ExitCode != 0 && (failed == nil || t.FinishedAt.Before(&failed.FinishedAt)) {
			failed = t
		}
	}
	if failed != nil {
		return failed
	}
	for _, status := range pod.Status.ContainerStatuses {
		if status.State.Terminated != nil {
			return status.State.Terminated
		}
	}
	return nil
}

func containerStatuses(pod *corev1.Pod) []corev1.ContainerStatus {
	return slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses)
}

// Truncate cuts text to at most limit bytes, between characters, and makes it
// valid UTF-8: log text may hold any bytes.
func Truncate(text string, limit int) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit]
}
