package store

import (
	"unsafe"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// This file says how much memory the objects take that a store makes, beside their texts.

// entrySize is about what an entry of a small map takes, in bytes.
const entrySize = 64

func partsOfJob(job *batchv1.Job) int {
	size := int(unsafe.Sizeof(*job)) + len(job.Labels)*entrySize + len(job.Status.Conditions)*int(unsafe.Sizeof(batchv1.JobCondition{}))
	if policy := job.Spec.PodFailurePolicy; policy != nil {
		for i := range policy.Rules {
			rule := &policy.Rules[i]
			size += int(unsafe.Sizeof(*rule)) + len(rule.OnPodConditions)*int(unsafe.Sizeof(batchv1.PodFailurePolicyOnPodConditionsPattern{}))
			if rule.OnExitCodes != nil {
				size += int(unsafe.Sizeof(*rule.OnExitCodes)) + len(rule.OnExitCodes.Values)*int(unsafe.Sizeof(int32(0)))
			}
		}
	}
	if policy := job.Spec.SuccessPolicy; policy != nil {
		size += len(policy.Rules) * int(unsafe.Sizeof(batchv1.SuccessPolicyRule{}))
	}
	return size
}

func partsOfPod(pod *corev1.Pod) int {
	size := int(unsafe.Sizeof(*pod)) + (len(pod.Labels)+len(pod.Annotations))*entrySize +
		len(pod.OwnerReferences)*int(unsafe.Sizeof(metav1.OwnerReference{})) +
		len(pod.Status.Conditions)*int(unsafe.Sizeof(corev1.PodCondition{}))
	for _, statuses := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range statuses {
			size += int(unsafe.Sizeof(corev1.Container{})) + int(unsafe.Sizeof(statuses[i])) +
				partsOfState(&statuses[i].State) + partsOfState(&statuses[i].LastTerminationState)
		}
	}
	return size
}

func partsOfState(state *corev1.ContainerState) (size int) {
	if state.Terminated != nil {
		size += int(unsafe.Sizeof(*state.Terminated))
	}
	if state.Waiting != nil {
		size += int(unsafe.Sizeof(*state.Waiting))
	}
	if state.Running != nil {
		size += int(unsafe.Sizeof(*state.Running))
	}
	return size
}
