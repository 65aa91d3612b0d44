package jobstatus

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// ending is how a container ended.
type ending struct {
	container string
	restarts  int32
	*corev1.ContainerStateTerminated
}

// isEnd reports whether a terminated state is that of a container that ran: for one that never
// did, or that it lost sight of, the kubelet makes one up.
func isEnd(t *corev1.ContainerStateTerminated) bool { return t != nil && !t.StartedAt.IsZero() }

// speaker returns the ending that speaks for a Pod; ok is false if no container of it ended.
func speaker(pod *corev1.Pod) (first ending, ok bool) {
	ends := endings(pod)
	if at, ok := stopTime(pod); ok {
		// A container that had been started again, and ended before, was to be started once more.
		ends = slices.DeleteFunc(ends, func(e ending) bool { return e.restarts > 0 && e.FinishedAt.Unix() < at.Unix() })
	}
	if pod.Status.Phase != corev1.PodSucceeded {
		if first, ok = firstFailed(ends); ok {
			return first, true
		}
	}
	main := slices.DeleteFunc(ends, func(e ending) bool { return !isMain(pod, e.container) })
	if len(main) == 0 || (pod.Status.Phase != corev1.PodSucceeded && len(main) < len(pod.Status.ContainerStatuses)) {
		return ending{}, false // another container never ran, or its end was lost
	}
	return main[0], true
}

// stopTime returns when a Pod as a whole was stopped, while it had not ended by itself.
func stopTime(pod *corev1.Pod) (at time.Time, ok bool) {
	if c := disruption(pod); c != nil {
		return c.LastTransitionTime.Time, true
	}
	at, ok = deletionAsked(pod)
	return at, ok && !at.After(endTime(pod))
}

// firstFailed returns the first of some endings that is a failure.
func firstFailed(ends []ending) (first ending, ok bool) {
	for _, e := range ends {
		if e.ExitCode != 0 && (!ok || isEarlier(e, first)) {
			first, ok = e, true
		}
	}
	return first, ok
}

// isEarlier reports whether an ending is before another. One whose time was lost is before none.
func isEarlier(a, b ending) bool {
	return !a.FinishedAt.IsZero() && (b.FinishedAt.IsZero() || a.FinishedAt.Before(&b.FinishedAt))
}

// stoppedEnding returns how a container of a Pod ended that ran when the deletion of the Pod was
// asked for.
func stoppedEnding(pod *corev1.Pod) (first ending, ok bool) {
	asked, deleted := deletionAsked(pod)
	if !deleted {
		return ending{}, false
	}
	ends := slices.DeleteFunc(endings(pod), func(e ending) bool { return e.FinishedAt.Unix() < asked.Unix() })
	if first, ok = firstFailed(ends); ok {
		return first, true
	}
	if len(ends) == 0 {
		return ending{}, false
	}
	return ends[0], true
}

// endings returns the ends of the init and main containers of a Pod in the order of its spec.
func endings(pod *corev1.Pod) []ending {
	var found []ending
	for _, status := range ordered(pod) {
		if isEnd(status.State.Terminated) && !isSidecar(pod, status.Name) {
			found = append(found, ending{status.Name, status.RestartCount, status.State.Terminated})
		}
	}
	return found
}

// endingOf returns how the container of that name ended, whatever it is.
func endingOf(pod *corev1.Pod, name string) (ending, bool) {
	for _, status := range containerStatuses(pod) {
		if status.Name == name && status.State.Terminated != nil {
			return ending{name, status.RestartCount, status.State.Terminated}, true
		}
	}
	return ending{}, false
}

func containerStatuses(pod *corev1.Pod) []corev1.ContainerStatus {
	return slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses)
}

// ordered returns the statuses of a Pod's containers in the order of its spec: init containers
// first. The kubelet sorts them by name.
func ordered(pod *corev1.Pod) []corev1.ContainerStatus {
	place := map[string]int{}
	for i := range pod.Spec.InitContainers {
		place[pod.Spec.InitContainers[i].Name] = i
	}
	for i := range pod.Spec.Containers {
		place[pod.Spec.Containers[i].Name] = len(pod.Spec.InitContainers) + i
	}
	statuses := containerStatuses(pod)
	slices.SortStableFunc(statuses, func(a, b corev1.ContainerStatus) int { return place[a.Name] - place[b.Name] })
	return statuses
}

// isSidecar reports whether a container is an init container that runs beside the main ones.
func isSidecar(pod *corev1.Pod, name string) bool {
	return slices.ContainsFunc(pod.Spec.InitContainers, func(c corev1.Container) bool {
		return c.Name == name && c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
	})
}

func isMain(pod *corev1.Pod, name string) bool {
	return slices.ContainsFunc(pod.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool { return s.Name == name })
}
