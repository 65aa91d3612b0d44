package connpool

import (
	"slices"
	"sync"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// slim cuts a Job or a Pod down to what a run needs, before it is stored.
func slim(obj any) (any, error) {
	switch o := obj.(type) {
	case *batchv1.Job:
		o.ObjectMeta = slimMeta(o.ObjectMeta)
		o.Spec = batchv1.JobSpec{
			BackoffLimit: o.Spec.BackoffLimit, ActiveDeadlineSeconds: o.Spec.ActiveDeadlineSeconds, Suspend: o.Spec.Suspend,
		}
		o.Status.UncountedTerminatedPods = nil
	case *corev1.Pod:
		o.ObjectMeta = slimMeta(o.ObjectMeta)
		o.Spec = corev1.PodSpec{}
		o.Status = corev1.PodStatus{
			Phase: o.Status.Phase, Reason: o.Status.Reason, Message: o.Status.Message,
			Conditions:            tellingConditions(o.Status.Conditions),
			InitContainerStatuses: slimStatuses(o.Status.InitContainerStatuses),
			ContainerStatuses:     slimStatuses(o.Status.ContainerStatuses),
		}
	}
	return obj, nil
}

func slimMeta(m metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: m.Namespace, Name: m.Name, UID: m.UID, ResourceVersion: m.ResourceVersion,
		Labels: m.Labels, DeletionTimestamp: m.DeletionTimestamp,
	}
}

// tellingConditions keeps whether a Pod is ready, and why it is not scheduled.
func tellingConditions(conditions []corev1.PodCondition) []corev1.PodCondition {
	var kept []corev1.PodCondition
	for _, c := range conditions {
		switch {
		case c.Type == corev1.PodReady:
			kept = append(kept, corev1.PodCondition{Type: c.Type, Status: c.Status})
		case c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse:
			kept = append(kept, corev1.PodCondition{Type: c.Type, Status: c.Status, Reason: c.Reason, Message: c.Message})
		}
	}
	return kept
}

// slimStatuses keeps how containers ended, or why they wait.
func slimStatuses(statuses []corev1.ContainerStatus) []corev1.ContainerStatus {
	kept := make([]corev1.ContainerStatus, 0, len(statuses))
	for _, s := range statuses {
		kept = append(kept, corev1.ContainerStatus{
			Name:  s.Name,
			State: corev1.ContainerState{Terminated: s.State.Terminated, Waiting: s.State.Waiting},
		})
	}
	return kept
}

// maxGonePods is how many ended Pods are remembered per run after they went: a
// Job that keeps failing deletes none of its Pods, so more than a few are rare.
const maxGonePods = 8

// gonePods remembers Pods that had ended when they were deleted while their Job
// lives on. A Job controller deletes the active Pods of a Job that exceeds its
// deadline before it declares the Job failed; without this their exit codes would
// be lost.
type gonePods struct {
	hasJobs func(key string) bool

	mu    sync.Mutex
	byKey map[string][]*corev1.Pod
}

func newGonePods(hasJobs func(string) bool) *gonePods {
	return &gonePods{hasJobs: hasJobs, byKey: map[string][]*corev1.Pod{}}
}

// remember keeps a deleted Pod. It looks for the Job under the lock: either the
// Job's own deletion is still to come and forgets the Pod, or the Job is seen to
// be gone.
func (g *gonePods) remember(key string, obj any) {
	pod, ok := obj.(*corev1.Pod)
	if !ok || (pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed) {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.byKey[key]) < maxGonePods && g.hasJobs(key) {
		g.byKey[key] = append(g.byKey[key], pod)
	}
}

func (g *gonePods) forget(key string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.byKey, key)
}

func (g *gonePods) of(key string) []*corev1.Pod {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.byKey[key])
}
