package logserver

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// defaultContainer is the annotation by which a Pod says which of its containers is meant
// when none is named; kubectl knows it too.
const defaultContainer = "kubectl.kubernetes.io/default-container"

// podsOf returns the Pods of a run's Job, the oldest first. Others that carry its labels are
// left out.
func podsOf(run Run, pods []*corev1.Pod) []*corev1.Pod {
	ours := slices.DeleteFunc(slices.Clone(pods), func(pod *corev1.Pod) bool {
		owner := metav1.GetControllerOf(pod)
		return owner == nil || string(owner.UID) != run.JobUID
	})
	slices.SortFunc(ours, func(a, b *corev1.Pod) int {
		if c := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	return ours
}

// podNamed finds a Pod.
func podNamed(pods []*corev1.Pod, name string) *corev1.Pod {
	for _, pod := range pods {
		if pod.Name == name {
			return pod
		}
	}
	return nil
}

// containerOf returns the container of a Pod that is meant.
func containerOf(pod *corev1.Pod, name string) (string, error) {
	var names []string
	for _, containers := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range containers {
			names = append(names, containers[i].Name)
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		names = append(names, pod.Spec.EphemeralContainers[i].Name)
	}
	switch preferred := pod.Annotations[defaultContainer]; {
	case name == "" && slices.Contains(names, preferred):
		return preferred, nil
	case name == "" && len(names) > 0:
		return names[0], nil
	case slices.Contains(names, name):
		return name, nil
	}
	return "", badQuery("Pod %s has no container %q; it has %s", pod.Name, name, strings.Join(names, ", "))
}

// statusOf returns the status of a container; zero when there is none yet.
func statusOf(pod *corev1.Pod, container string) corev1.ContainerStatus {
	for _, statuses := range [][]corev1.ContainerStatus{
		pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses, pod.Status.EphemeralContainerStatuses,
	} {
		for i := range statuses {
			if statuses[i].Name == container {
				return statuses[i]
			}
		}
	}
	return corev1.ContainerStatus{}
}

// hasLog reports whether a container runs, or did.
func hasLog(status corev1.ContainerStatus) bool {
	return status.State.Running != nil || status.State.Terminated != nil || status.RestartCount > 0
}

// endedSince reports whether a Pod is over and one of its containers ended after a time.
func endedSince(pod *corev1.Pod, since time.Time) bool {
	return isOver(pod) && slices.ContainsFunc(pod.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool {
		return s.State.Terminated != nil && !s.State.Terminated.FinishedAt.Time.Before(since)
	})
}

func isOver(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// noLog says why there is no log of a run yet, or no more.
func noLog(name string, run Run) error {
	switch {
	case run.Ended && run.JobUID == "":
		return notFound(name, fmt.Sprintf("PooledJob %q has no log: it never had a Pod. %s", name, run.State))
	case run.Stopped:
		return notFound(name, fmt.Sprintf("PooledJob %q has no log any more: its Pods were deleted when the run was stopped, and their log with them. %s", name, run.State))
	case run.Ended:
		return notFound(name, fmt.Sprintf("the Pods of PooledJob %q are gone from the cluster, and their log with them; "+
			"status.result has the last lines of a container that failed. %s", name, run.State))
	default:
		return badQuery("PooledJob %q has not started yet; follow waits for it. %s", name, run.State)
	}
}

// waiting says why a container has no log yet.
func waiting(pod *corev1.Pod, container string) error {
	why := ""
	if state := statusOf(pod, container).State.Waiting; state != nil && state.Reason != "" {
		why = fmt.Sprintf(" (%s)", state.Reason)
	}
	return badQuery("container %s of Pod %s has not started yet%s; follow waits for it", container, pod.Name, why)
}

// notFound is the error for what is not there any more.
func notFound(name, message string) error {
	err := apierrors.NewNotFound(schema.GroupResource{Group: Group, Resource: "pooledjobs"}, name)
	err.ErrStatus.Message = message
	return err
}

// targetError makes of an error of a target one that a client understands: what the
// target says of a container is passed on, all else is not the client's to mend.
func targetError(run Run, err error) error {
	var status *apierrors.StatusError
	if !errors.As(err, &status) {
		return unavailable("the cluster of ClusterConnection %q cannot be reached: %v", run.Connection, err)
	}
	switch status.ErrStatus.Code {
	case http.StatusBadRequest, http.StatusNotFound, http.StatusRequestEntityTooLarge, http.StatusTooManyRequests:
		return status
	case http.StatusForbidden:
		return unavailable("the identity of ClusterConnection %q lacks a right on its cluster, see config/target/role.yaml: %v", run.Connection, err)
	default:
		return unavailable("the cluster of ClusterConnection %q refuses: %v", run.Connection, err)
	}
}

func unavailable(format string, args ...any) error {
	return apierrors.NewServiceUnavailable(fmt.Sprintf(format, args...))
}
