package jobstatus

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// match is what of a Pod a rule of a podFailurePolicy matches: a container, or a condition.
type match struct {
	action    batchv1.PodFailurePolicyAction
	end       ending
	condition *corev1.PodCondition
}

// matchPolicy finds the first rule of the Job's podFailurePolicy that matches a failed Pod, as the
// Job controller does: on main containers before init containers, each in the order in which
// the kubelet has them.
func matchPolicy(remote *batchv1.Job, pod *corev1.Pod) (match, bool) {
	if remote.Spec.PodFailurePolicy == nil {
		return match{}, false
	}
	for i := range remote.Spec.PodFailurePolicy.Rules {
		rule := &remote.Spec.PodFailurePolicy.Rules[i]
		if rule.OnExitCodes != nil {
			if end, ok := matchExitCodes(pod, rule.OnExitCodes); ok {
				return match{action: rule.Action, end: end}, true
			}
			continue
		}
		if c := matchConditions(pod, rule.OnPodConditions); c != nil {
			return match{action: rule.Action, condition: c}, true
		}
	}
	return match{}, false
}

func matchExitCodes(pod *corev1.Pod, on *batchv1.PodFailurePolicyOnExitCodesRequirement) (ending, bool) {
	for _, statuses := range [][]corev1.ContainerStatus{byName(pod.Status.ContainerStatuses), byName(pod.Status.InitContainerStatuses)} {
		for _, status := range statuses {
			t := status.State.Terminated
			if t == nil || t.ExitCode == 0 || (on.ContainerName != nil && *on.ContainerName != status.Name) {
				continue
			}
			if slices.Contains(on.Values, t.ExitCode) == (on.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn) {
				return ending{status.Name, status.RestartCount, t}, true
			}
		}
	}
	return ending{}, false
}

func byName(statuses []corev1.ContainerStatus) []corev1.ContainerStatus {
	sorted := slices.Clone(statuses)
	slices.SortStableFunc(sorted, func(a, b corev1.ContainerStatus) int { return strings.Compare(a.Name, b.Name) })
	return sorted
}

func matchConditions(pod *corev1.Pod, patterns []batchv1.PodFailurePolicyOnPodConditionsPattern) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		c := &pod.Status.Conditions[i]
		if c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue && disruption(pod) == nil {
			continue // it was counted before
		}
		if slices.ContainsFunc(patterns, func(on batchv1.PodFailurePolicyOnPodConditionsPattern) bool {
			return c.Type == on.Type && c.Status == on.Status
		}) {
			return c
		}
	}
	return nil
}

// isIgnored reports whether the Job's podFailurePolicy has the failure of a Pod not count.
func isIgnored(remote *batchv1.Job, pod *corev1.Pod) bool {
	m, ok := matchPolicy(remote, pod)
	return ok && m.action == batchv1.PodFailurePolicyActionIgnore
}

// The words in which the Job controller says what a FailJob rule has matched (matchPodFailurePolicy
// in pod_failure_policy.go, Kubernetes 1.37). They are no API: what they name is checked.
var (
	matchedContainer = regexp.MustCompile(`^Container (\S+) for pod (\S+)/(\S+) failed with exit code (\d{1,10}) matching FailJob rule at index \d+$`)
	matchedCondition = regexp.MustCompile(`^Pod (\S+)/(\S+) has condition (\S+) matching FailJob rule at index \d+$`)
)

// named is what the message of a condition names.
type named struct {
	pod, container string
	exitCode       int32
	condition      corev1.PodConditionType
}

// nameMatched reads the message of a Job that failed by its podFailurePolicy; ok is false if the
// words are others, or are about another namespace.
func nameMatched(remote *batchv1.Job, message string) (found named, ok bool) {
	if m := matchedContainer.FindStringSubmatch(message); len(m) > 4 && m[2] == remote.Namespace {
		code, err := strconv.ParseInt(m[4], 10, 32)
		return named{pod: m[3], container: m[1], exitCode: int32(code)}, err == nil && code != 0 //nolint:gosec // it was read as one of 32 bits
	}
	if m := matchedCondition.FindStringSubmatch(message); len(m) > 3 && m[1] == remote.Namespace {
		return named{pod: m[2], condition: corev1.PodConditionType(m[3])}, true
	}
	return named{}, false
}
