package jobstatus

import (
	"strings"
	"unicode"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

const (
	// maxResultMessage, maxResultReason and maxPodName are the API's bounds, in
	// bytes. The kubelet cuts a termination message at 4096 bytes, too.
	maxResultMessage = 4096
	maxResultReason  = 256
	maxPodName       = 253
)

// podResult returns what a Pod that has ended says, by the container that speaks for it. What
// happened to the Pod as a whole, such as an eviction, explains more than how its container
// took it.
func podResult(pod *corev1.Pod) v1alpha1.Result {
	end, ok := speaker(pod)
	if ok {
		return endResult(pod, end)
	}
	result := wholePod(pod)
	if leftUnscheduled(pod) && result.Reason == "" {
		result.Reason, result.Message = v1alpha1.ResultPodGone, "The Pod was deleted before it was scheduled."
	}
	for _, status := range ordered(pod) {
		if result.Reason != "" || isSidecar(pod, status.Name) {
			continue
		}
		if t := status.State.Terminated; t != nil && !isEnd(t) {
			result.Reason, result.Message = oneWord(t.Reason), Truncate(t.Message, maxResultMessage)
		} else if w := status.State.Waiting; w != nil && !passing[w.Reason] {
			result.Reason, result.Message = oneWord(w.Reason), Truncate(w.Message, maxResultMessage)
		}
	}
	result.Reason = reasonOr(result.Reason, v1alpha1.ResultError)
	return result
}

// endResult returns what a Pod says by the container that ended so.
func endResult(pod *corev1.Pod, end ending) v1alpha1.Result {
	result := wholePod(pod)
	if end.ContainerStateTerminated == nil {
		return result
	}
	if exitCode := end.ExitCode; isEnd(end.ContainerStateTerminated) { // else the kubelet made it up
		result.ExitCode = &exitCode
	}
	if result.Reason == "" {
		result.Reason = oneWord(terminationReason(end.ContainerStateTerminated))
	}
	if result.Message == "" {
		result.Message = Truncate(end.Message, maxResultMessage)
	}
	return result
}

// wholePod returns what a Pod says of itself: why the kubelet ended or refused it, or what
// disrupted it.
func wholePod(pod *corev1.Pod) v1alpha1.Result {
	reason, message := pod.Status.Reason, pod.Status.Message
	if c := disruption(pod); c != nil && reason == "" && pod.Status.Phase != corev1.PodSucceeded {
		reason, message = reasonOr(c.Reason, string(c.Type)), c.Message
	}
	return v1alpha1.Result{
		PodName: Truncate(pod.Name, maxPodName),
		Reason:  oneWord(reason),
		Message: Truncate(message, maxResultMessage),
	}
}

func terminationReason(t *corev1.ContainerStateTerminated) string {
	if t.ExitCode == 0 {
		return reasonOr(t.Reason, v1alpha1.ResultCompleted)
	}
	return reasonOr(t.Reason, v1alpha1.ResultError)
}

// oneWord returns a reason as the API has it: a target may say anything, and this is a column of tables.
func oneWord(reason string) string {
	return Truncate(strings.Map(func(r rune) rune {
		if unicode.IsGraphic(r) && !unicode.IsSpace(r) {
			return r
		}
		return '_'
	}, reason), maxResultReason)
}

// MaxEventNote is how long the note of an Event may be, in bytes. (events.k8s.io/v1 validates it.)
const MaxEventNote = 1024

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
