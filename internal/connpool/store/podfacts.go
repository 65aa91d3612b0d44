package store

import (
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// podFacts is what the states of a Pod say one after the other and the last one does not.
type podFacts struct {
	ended bool
	// unscheduled: it was deleted before it had a node, so it goes without an end, and the Job
	// controller counts it.
	unscheduled bool
	// counted: the Job controller was still to count the Pod when it had ended, or was about
	// to. The controller takes the finalizer off when it has.
	counted bool
	// letGo: the finalizer was off while the Pod ran and nobody had asked for its end, so
	// the Job controller does not count it. It lets Pods go so before it deletes them when
	// the Job is suspended, scaled down, or has two Pods of one index.
	letGo bool
	// asked is when the deletion was first asked for, Unix seconds; 0 if it was not. The
	// kubelet asks again, for now, when the containers have ended.
	asked int64
}

func factsOf(pod *corev1.Pod) podFacts {
	owner := metav1.GetControllerOf(pod)
	tracked := slices.Contains(pod.Finalizers, batchv1.JobTrackingFinalizer)
	ending := isEnded(pod) || pod.DeletionTimestamp != nil
	return podFacts{
		ended:       isEnded(pod),
		unscheduled: tracked && pod.DeletionTimestamp != nil && !isEnded(pod) && !isScheduled(pod) && len(pod.Status.ContainerStatuses) == 0,
		counted:     tracked && ending,
		letGo:       owner != nil && owner.Kind == "Job" && !tracked && !ending,
		asked:       askedAt(pod),
	}
}

// askedAt returns when the deletion was asked for that a state of a Pod shows.
func askedAt(pod *corev1.Pod) int64 {
	if pod.DeletionTimestamp == nil {
		return 0
	}
	grace := int64(0)
	if pod.DeletionGracePeriodSeconds != nil {
		grace = *pod.DeletionGracePeriodSeconds
	}
	return pod.DeletionTimestamp.Unix() - grace
}

// follow adds what was known of the Pod before.
func (f *podFacts) follow(before podFacts) {
	f.counted = f.counted || before.counted
	f.unscheduled = f.unscheduled || (before.unscheduled && !f.ended)
	f.letGo = f.letGo || before.letGo
	if before.asked != 0 && before.asked < f.asked {
		f.asked = before.asked
	}
}

// show makes a Pod say it.
func (f *podFacts) show(pod *corev1.Pod) {
	if f.asked != 0 && pod.DeletionTimestamp != nil && f.asked != askedAt(pod) {
		grace := pod.DeletionTimestamp.Unix() - f.asked
		pod.DeletionGracePeriodSeconds = &grace
	}
	switch {
	case f.letGo:
		pod.Finalizers = nil
		for i := range pod.OwnerReferences {
			pod.OwnerReferences[i].Controller = nil
		}
	case f.counted && pod.Finalizers == nil:
		pod.Finalizers = []string{batchv1.JobTrackingFinalizer}
	}
}
