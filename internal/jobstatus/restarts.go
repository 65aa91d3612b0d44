package jobstatus

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// failedByRestarts applies when the failed Pods are too few: the Job controller then has counted
// the restarts in the Pods that it killed, and decided when it saw the last one.
func failedByRestarts(j *judged) (v1alpha1.Result, bool) {
	ended := 0
	for _, pod := range j.failures {
		if pod.DeletionTimestamp == nil {
			ended++
		}
	}
	if j.Spec.Template.Spec.RestartPolicy != corev1.RestartPolicyOnFailure || ended > j.limit() {
		return v1alpha1.Result{}, false
	}
	tries := j.lastTries(false)
	if len(tries) == 0 {
		tries = j.lastTries(true) // the Job controller counts the restarts of sidecars, too
	}
	if len(tries) == 0 {
		return v1alpha1.Result{}, false
	}
	last := slices.MaxFunc(tries, func(a, b try) int { return a.again.Compare(b.again) })
	var candidates []v1alpha1.Result
	for _, try := range tries {
		if try.again.Equal(last.again) {
			candidates = append(candidates, endResult(try.pod, try.end))
		}
	}
	if !agree(candidates) {
		return ambiguous(candidates), true
	}
	return endResult(last.pod, last.end), true
}

// try is how a container ended before it was started again, and when that was.
type try struct {
	pod   *corev1.Pod
	end   ending
	again time.Time
}

// lastTries are the last of all containers that were started again in a Pod that was stopped.
func (j *judged) lastTries(sidecars bool) []try {
	var tries []try
	for _, pod := range j.pods {
		if pod.DeletionTimestamp == nil || !isCounted(pod) {
			continue
		}
		for _, status := range ordered(pod) {
			before, now := status.LastTerminationState.Terminated, status.State.Terminated
			if isEnd(before) && before.ExitCode != 0 && status.RestartCount > 0 && isSidecar(pod, status.Name) == sidecars {
				again := before.FinishedAt.Time
				if isEnd(now) {
					again = now.StartedAt.Time
				}
				tries = append(tries, try{pod, ending{status.Name, before}, again})
			}
		}
	}
	return tries
}
