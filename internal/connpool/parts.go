package connpool

import (
	"unsafe"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
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
	containers := len(pod.Spec.Containers) + len(pod.Spec.InitContainers)
	statuses := len(pod.Status.ContainerStatuses) + len(pod.Status.InitContainerStatuses)
	const ends = 2 * int(unsafe.Sizeof(corev1.ContainerStateTerminated{}))
	return int(unsafe.Sizeof(*pod)) + (len(pod.Labels)+len(pod.Annotations))*entrySize +
		len(pod.Status.Conditions)*int(unsafe.Sizeof(corev1.PodCondition{})) +
		(containers+statuses)*int(unsafe.Sizeof(corev1.Container{})) + statuses*(int(unsafe.Sizeof(corev1.ContainerStatus{}))+ends)
}
