package jobstatus

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// waitingResult returns why a Pod of a run that has not ended does not run; nothing
// when all do, or soon will. It stays what it was while that is still true, and when
// the Pods go.
func waitingResult(remote *batchv1.Job, pods []*corev1.Pod, before v1alpha1.Result) v1alpha1.Result {
	var found []v1alpha1.Result
	live := false
	for _, pod := range pods {
		live = live || (pod.DeletionTimestamp == nil && !ended(pod))
		if reason, message := waitingFor(pod); reason != "" {
			found = append(found, v1alpha1.Result{
				Reason: oneWord(reason), Message: Truncate(message, maxResultMessage), PodName: Truncate(pod.Name, maxPodName),
			})
		}
	}
	switch {
	case len(found) == 0 && live:
		return partlyEnded(pods, remote.Spec.Template.Spec.RestartPolicy == corev1.RestartPolicyOnFailure)
	case len(found) == 0:
		return before // a Job that gives up deletes its Pods first
	}
	for _, result := range found {
		if result.PodName == before.PodName && sameTrouble(result.Reason, before.Reason) {
			return before
		}
	}
	return slices.MinFunc(found, func(a, b v1alpha1.Result) int { return cmp.Compare(a.PodName, b.PodName) })
}

// waitingFor returns why a Pod does not run and may never; empty when it runs, has ended,
// is being stopped or is being made.
func waitingFor(pod *corev1.Pod) (reason, message string) {
	if ended(pod) || pod.DeletionTimestamp != nil {
		return "", ""
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason != "" {
			return c.Reason, c.Message
		}
	}
	for _, status := range containerStatuses(pod) {
		if w := status.State.Waiting; w != nil && !passing[w.Reason] {
			return w.Reason, w.Message
		}
	}
	return "", ""
}

// partlyEnded returns which container of a Pod has ended while another goes on; nothing where
// none has. One that failed has not where it is started again.
func partlyEnded(pods []*corev1.Pod, restarts bool) v1alpha1.Result {
	for _, pod := range slices.SortedFunc(slices.Values(pods), func(a, b *corev1.Pod) int { return cmp.Compare(a.Name, b.Name) }) {
		var over, running []string
		for _, status := range ordered(pod) {
			switch t := status.State.Terminated; {
			case ended(pod) || pod.DeletionTimestamp != nil || !isMain(pod, status.Name):
			case status.State.Running != nil:
				running = append(running, status.Name)
			case isEnd(t) && !(restarts && t.ExitCode != 0):
				over = append(over, fmt.Sprintf("%s has ended with exit code %d (%s)", status.Name, t.ExitCode, terminationReason(t)))
			}
		}
		if len(over) > 0 && len(running) > 0 {
			return v1alpha1.Result{
				Reason: v1alpha1.ResultContainerEnded, PodName: Truncate(pod.Name, maxPodName),
				Message: Truncate(fmt.Sprintf("Of the containers of the Pod %s; the Pod goes on with %s.",
					strings.Join(over, ", "), strings.Join(running, ", ")), maxResultMessage),
			}
		}
	}
	return v1alpha1.Result{}
}

// Standstill reports whether a Job waits and neither it nor its Pods say what for: it has no Pod
// that lives, or some of which no container has started and none names a reason. These are
// standing, by name. That is so for a moment in the life of every run.
func Standstill(remote *batchv1.Job, pods []*corev1.Pod) (still bool, standing []*corev1.Pod) {
	wantsNone := remote.Spec.Parallelism != nil && *remote.Spec.Parallelism == 0
	suspended := remote.Spec.Suspend != nil && *remote.Spec.Suspend
	if Verdict(remote) != nil || remote.DeletionTimestamp != nil || wantsNone || suspended {
		return false, nil
	}
	lives := false
	for _, pod := range controlled(remote, pods) {
		if ended(pod) || pod.DeletionTimestamp != nil {
			continue
		}
		lives = true
		if reason, _ := waitingFor(pod); reason != "" {
			return false, nil
		}
		if !hasStarted(pod) {
			standing = append(standing, pod)
		}
	}
	slices.SortFunc(standing, func(a, b *corev1.Pod) int { return cmp.Compare(a.Name, b.Name) })
	return !lives || len(standing) > 0, standing
}

// LastEnd returns when the last Pod of a Job ended, by the target's clock; zero if none has.
func LastEnd(remote *batchv1.Job, pods []*corev1.Pod) (last time.Time) {
	for _, pod := range controlled(remote, pods) {
		if at := endTime(pod); ended(pod) && at.After(last) {
			last = at
		}
	}
	return last
}

// explains reports whether what is known of why a run stands still is about what stands still.
func explains(trouble v1alpha1.Result, still bool, standing []*corev1.Pod) bool {
	if !still || trouble.Reason == "" {
		return false
	}
	if len(standing) == 0 {
		return trouble.PodName == ""
	}
	return slices.ContainsFunc(standing, func(pod *corev1.Pod) bool { return pod.Name == trouble.PodName })
}

// passing are the reasons of the kubelet for a container that will run soon, if
// nothing goes wrong.
var passing = map[string]bool{"": true, "ContainerCreating": true, "PodInitializing": true}

// sameTrouble reports whether two reasons are steps of one: the kubelet goes to and fro
// between the failure to pull an image and the wait before it tries again.
func sameTrouble(a, b string) bool {
	pull := func(reason string) bool { return reason == "ErrImagePull" || reason == "ImagePullBackOff" }
	return a == b || (pull(a) && pull(b))
}
