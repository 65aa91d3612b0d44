package jobstatus

import (
	"slices"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// controlled returns the Pods that the Job controls, each once. The same Pod may be given
// several times, as different sources know it; of those one that has ended is taken.
func controlled(remote *batchv1.Job, pods []*corev1.Pod) []*corev1.Pod {
	var found []*corev1.Pod
	places := map[string]int{}
	for _, pod := range pods {
		owner := metav1.GetControllerOf(pod)
		if owner == nil || owner.UID != remote.UID {
			continue
		}
		name := string(pod.UID) + "/" + pod.Name
		if i, known := places[name]; known {
			found[i] = latestOf(found[i], pod)
			continue
		}
		places[name] = len(found)
		found = append(found, pod)
	}
	return found
}

// latestOf returns the one of two states of a Pod that is later, as far as that is known, with the
// finalizer if either has it, and with the earlier deletion.
func latestOf(a, b *corev1.Pod) *corev1.Pod {
	if ended(b) && !ended(a) {
		a, b = b, a
	}
	askedA, okA := deletionAsked(a)
	askedB, okB := deletionAsked(b)
	earlier := okA && okB && askedB.Before(askedA)
	if !earlier && (isTracked(a) || !isTracked(b)) {
		return a
	}
	a = a.DeepCopy()
	if isTracked(b) && !isTracked(a) {
		a.Finalizers = append(a.Finalizers, batchv1.JobTrackingFinalizer)
	}
	if earlier {
		grace := int64(a.DeletionTimestamp.Sub(askedB) / time.Second)
		a.DeletionGracePeriodSeconds = &grace
	}
	return a
}

func isTracked(pod *corev1.Pod) bool {
	return slices.Contains(pod.Finalizers, batchv1.JobTrackingFinalizer)
}

// isCounted reports whether the Job controller counts the end of a Pod. One that has ended and
// that nobody deletes was counted, and has lost the finalizer by that.
func isCounted(pod *corev1.Pod) bool {
	return isTracked(pod) || pod.DeletionTimestamp == nil
}

func ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// leftUnscheduled reports whether a Pod was deleted before it had a node. It never runs and never
// ends: the API server binds no Pod to a node that is being deleted.
func leftUnscheduled(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp != nil && !ended(pod) && !hasStarted(pod) && len(containerStatuses(pod)) == 0 &&
		!slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodScheduled && c.Status == corev1.ConditionTrue
		})
}

// hasStarted reports whether a container of a Pod has run.
func hasStarted(pod *corev1.Pod) bool {
	if pod.Status.Phase == corev1.PodRunning || pod.Status.Phase == corev1.PodSucceeded {
		return true
	}
	return slices.ContainsFunc(containerStatuses(pod), func(s corev1.ContainerStatus) bool {
		return s.State.Running != nil || isEnd(s.State.Terminated) || isEnd(s.LastTerminationState.Terminated)
	})
}

// endTime returns when a Pod ended, as far as that is known; see knownEnd.
func endTime(pod *corev1.Pod) time.Time {
	at, _ := knownEnd(pod)
	return at
}

// knownEnd returns when a Pod ended: with its last container, or when the kubelet refused it, or when it
// was disrupted. A container that never ran, or whose end was lost, has no time; then the Pod ended
// when its deletion was asked for, or later; without that the time is not known, and at is the
// earliest possible one.
func knownEnd(pod *corev1.Pod) (at time.Time, known bool) {
	at, known = containersEnd(pod)
	if known {
		return at, true
	}
	if c := disruption(pod); c != nil {
		at, known = latest(at, c.LastTransitionTime.Time), true
	}
	if asked, ok := deletionAsked(pod); ok {
		return latest(at, asked), true
	}
	if start := pod.Status.StartTime; start != nil {
		at, known = latest(at, start.Time), known || isRejected(pod)
	}
	return latest(at, pod.CreationTimestamp.Time), known
}

// containersEnd returns the last end of the containers that are no sidecars, or, of a Pod that failed
// before its main containers could run, of its init containers; all is false if not each of them has
// one.
func containersEnd(pod *corev1.Pod) (at time.Time, all bool) {
	all = true
	for _, status := range containerStatuses(pod) {
		t := status.State.Terminated
		switch {
		case isSidecar(pod, status.Name):
		case !isEnd(t) || t.FinishedAt.IsZero():
			all = false
		default:
			at = latest(at, t.FinishedAt.Time)
			if t.ExitCode != 0 && !isMain(pod, status.Name) {
				return at, true
			}
		}
	}
	return at, all && !at.IsZero()
}

// isRejected reports whether the kubelet refused a Pod.
func isRejected(pod *corev1.Pod) bool {
	return len(containerStatuses(pod)) == 0 && pod.Status.Reason != ""
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// deletionAsked returns when the deletion of a Pod was asked for; ok is false if it was not.
func deletionAsked(pod *corev1.Pod) (at time.Time, ok bool) {
	if pod.DeletionTimestamp == nil {
		return time.Time{}, false
	}
	var grace time.Duration
	if seconds := pod.DeletionGracePeriodSeconds; seconds != nil {
		grace = time.Duration(*seconds) * time.Second
	}
	return pod.DeletionTimestamp.Add(-grace), true
}

// wasStopped reports whether a Pod ended because it was deleted, as far as whole seconds show.
func wasStopped(pod *corev1.Pod) bool {
	asked, ok := deletionAsked(pod)
	return ok && !asked.After(endTime(pod))
}

// MayHaveEnded reports whether a Job that is gone may have come to its end before it was deleted,
// although nothing of that was seen of the Job itself: more of its Pods have ended by themselves than
// it had counted when it was seen last, or it needs none.
func MayHaveEnded(gone *batchv1.Job, pods []*corev1.Pod) bool {
	var byThemselves int32
	for _, pod := range controlled(gone, pods) {
		asked, ok := deletionAsked(pod)
		wellInThatSecond := ok && pod.Status.Phase == corev1.PodSucceeded && asked.Equal(endTime(pod))
		if ended(pod) && (!wasStopped(pod) || wellInThatSecond) {
			byThemselves++
		}
	}
	needsNone := gone.Spec.Completions != nil && *gone.Spec.Completions == 0
	return needsNone || byThemselves > gone.Status.Succeeded+gone.Status.Failed
}

// disruption returns the condition of a Pod that is evicted, preempted or drained; nil if that came after
// the end of the Pod, or after somebody had asked for its deletion.
func disruption(pod *corev1.Pod) *corev1.PodCondition {
	end, all := containersEnd(pod)
	asked, deleted := deletionAsked(pod)
	for i := range pod.Status.Conditions {
		c := &pod.Status.Conditions[i]
		if c.Type != corev1.DisruptionTarget || c.Status != corev1.ConditionTrue {
			continue
		}
		if at := c.LastTransitionTime; (all && at.After(end)) || (deleted && at.After(asked)) {
			return nil
		}
		return c
	}
	return nil
}

// waitsForEnds reports whether a Pod that is being deleted counts as failed only when it has
// ended. With a podFailurePolicy it always does.
func waitsForEnds(remote *batchv1.Job) bool {
	policy := remote.Spec.PodReplacementPolicy
	return (policy != nil && *policy == batchv1.Failed) || remote.Spec.PodFailurePolicy != nil
}

// indexOf returns the completion index of a Pod; ok is false if it has none.
func indexOf(pod *corev1.Pod) (index int, ok bool) {
	return annotated(pod, batchv1.JobCompletionIndexAnnotation)
}

// earlierFailures returns how often a Pod's index had failed before.
func earlierFailures(pod *corev1.Pod) int {
	n, _ := annotated(pod, batchv1.JobIndexFailureCountAnnotation)
	return n
}

func annotated(pod *corev1.Pod, name string) (n int, ok bool) {
	n, err := strconv.Atoi(pod.Annotations[name])
	return n, err == nil
}
